"""No encoder at all: what the rest of the protocol does on pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import define, field

import echosdk
from echosdk.clips.images import to_images


@define
class Identity:
    """Give images `n k H W` unit scale as latents of the same shape; `decode` takes it back, exactly but for rounding.

    Mean and deviation are those of each channel over all frames of the training split. Grey clips stay grey.
    """

    _image: tuple[int, int, int] = field(init=False, default=(0, 0, 0))  # k H W
    _mean: torch.Tensor = field(init=False, factory=lambda: torch.zeros(1), repr=False)
    _std: torch.Tensor = field(init=False, factory=lambda: torch.ones(1), repr=False)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return self._image

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Stay: one multiplication is done wherever the images are."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self._mean[:, None, None].to(images)) / self._std[:, None, None].to(images)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents * self._std[:, None, None].to(latents) + self._mean[:, None, None].to(latents)

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        height, width, channels = (*data.shape, 1)[:3]
        self._image = (channels, height, width)
        pixels, total, squares = 0, torch.zeros(channels).double(), torch.zeros(channels).double()
        for clip in data.train:
            images = to_images(clip.read()).double()
            pixels += images[:, 0].numel()
            total += images.sum((0, 2, 3))
            squares += images.square().sum((0, 2, 3))
        mean = total / pixels
        std = (squares / pixels - mean.square()).clamp(min=0).sqrt()
        if not (std > 0).all():
            raise echosdk.TrainingError("identity: every frame of the training split has one and the same value")
        self._mean, self._std = mean.float(), std.float()
        return {"clips": len(data.train)}

    def save(self, public: Path, private: Path) -> None:
        about = {"channels_height_width": self._image, "mean": self._mean.tolist(), "std": self._std.tolist()}
        (public / "identity.json").write_text(json.dumps(about))

    def load(self, public: Path, private: Path | None) -> None:
        about = json.loads((public / "identity.json").read_text())
        self._image = tuple(about["channels_height_width"])
        self._mean, self._std = torch.tensor(about["mean"]), torch.tensor(about["std"])
