"""A prior that memorises by design. It is here to be rejected: a filter that lets it pass protects nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import define, field
from attrs.validators import ge
from safetensors.torch import load_file, save_file

import echosdk
from echosdk.training import choose


@define
class BootstrapNoise:
    """Draw a real training still and add normal noise of deviation `noise`, in units of the latents' scale.

    `stills` frames are kept, drawn from the training split. They are single real records, so they are saved in the
    bundle's private part, and a bundle that was stripped of it is refused.
    """

    stills: int = field(default=256, validator=ge(1))
    noise: float = field(default=0.1, validator=ge(0))
    _kept: torch.Tensor | None = field(init=False, default=None, repr=False)

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Stay: there is no network."""

    def sample(
        self, generators: Sequence[torch.Generator], conditions: Sequence[echosdk.Conditions]
    ) -> torch.Tensor:
        assert self._kept is not None
        drawn = []
        for generator in generators:
            still = choose(self._kept, generator)
            drawn.append(still + self.noise * torch.randn(still.shape, generator=generator))
        return torch.stack(drawn)

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        draws = torch.Generator().manual_seed(run.seed)
        frames = [(clip, index) for clip in data.train for index in range(clip.num_frames)]
        chosen = torch.randperm(len(frames), generator=draws)[: self.stills].tolist()
        self._kept = torch.stack([_read(*frames[index]) for index in chosen])
        run.report(f"bootstrap-noise: keeps {len(chosen)} real stills; it is a baseline, not a generator")
        return {"stills": len(chosen)}

    def save(self, public: Path, private: Path) -> None:
        assert self._kept is not None
        save_file({"stills": self._kept.half()}, private / "stills.safetensors")

    def load(self, public: Path, private: Path | None) -> None:
        if private is None:
            raise echosdk.PrivacyError("bootstrap-noise: its stills are real records, and this bundle was stripped")
        self._kept = load_file(private / "stills.safetensors")["stills"].float()


def _read(clip: echosdk.StoredClip, index: int) -> torch.Tensor:
    return torch.from_numpy(clip.read(index, index + 1))[0]
