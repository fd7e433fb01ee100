"""Made-up data for contract tests: smooth random patterns, one a patient, that change much from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from echosdk.clips.array import ArrayClip
from echosdk.interfaces import Label, References, TrainingData

FRAMES = 5
SIZE = Label(name="size", unit="mm", low=10, high=60)


def patients(number: int, shape: tuple[int, int, int], seed: int) -> torch.Tensor:
    """Draw a video of `FRAMES` frames for each of some patients: `n t c h w`. Another seed draws other patients."""
    draws = torch.Generator().manual_seed(seed)
    channels, height, width = shape

    def smooth(items: int) -> torch.Tensor:
        coarse = torch.randn(items, channels, 4, 4, generator=draws)
        return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")

    anatomy, changes = smooth(number), smooth(number * FRAMES)
    return anatomy[:, None] + 1.5 * changes.view(number, FRAMES, channels, height, width)


def references(number: int, shape: tuple[int, int, int], seed: int, frames: int = FRAMES) -> References:
    """Return the first frames of some patients' videos, as a bundle keeps them."""
    items = patients(number, shape, seed)[:, :frames].flatten(0, 1).contiguous()
    return References(items=items, groups=[f"{seed}-{patient}" for patient in range(number) for _ in range(frames)])


def training_data(shape: tuple[int, int, int]) -> TrainingData:
    """Return latents of 12 patients to train with and of 6 to validate with."""
    train, val = (_clips(patients(number, shape, seed), seed) for number, seed in ((12, 0), (6, 1)))
    return TrainingData(train=train, val=val, labels=(SIZE,), fps=16.0, shape=shape)


def _clips(videos: torch.Tensor, seed: int) -> Sequence[ArrayClip]:
    return [
        ArrayClip(id=f"{seed}-{i}", group=f"{seed}-{i}", labels={"size": 10.0 + i}, frames=video.numpy())
        for i, video in enumerate(videos)
    ]
