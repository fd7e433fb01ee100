"""A video animator that does not animate: what every measure of motion and of labels has to tell from a video."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import define, field
from attrs.validators import ge

import echosdk


@define
class Static:
    """Repeat the still in one step. No noise is drawn, no label is read; `window` bounds the work done at once."""

    window: int = field(default=64, validator=ge(1))
    _latent: tuple[int, int, int] = field(init=False, default=(0, 0, 0))  # c h w

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Stay: there is no network."""

    def predict(
        self,
        latents: torch.Tensor,
        timestep: int,
        stills: torch.Tensor,
        conditions: Sequence[echosdk.Conditions],
    ) -> torch.Tensor:
        return stills[:, None].expand_as(latents).to(latents)

    def begin(self, num_frames: int, generators: Sequence[torch.Generator]) -> OneStep:
        return OneStep(torch.zeros(len(generators), num_frames, *self._latent))

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        self._latent = data.shape
        return {}

    def save(self, public: Path, private: Path) -> None:
        (public / "latent.json").write_text(json.dumps({"channels_height_width": self._latent}))

    def load(self, public: Path, private: Path | None) -> None:
        self._latent = tuple(json.loads((public / "latent.json").read_text())["channels_height_width"])


@define
class OneStep:
    """Denoising that takes the prediction for the video."""

    latents: torch.Tensor
    timesteps = (0,)

    def step(self, prediction: torch.Tensor, timestep: int) -> torch.Tensor:
        self.latents = prediction
        return self.latents
