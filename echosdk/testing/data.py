"""Made-up data for contract tests: smooth random patterns, one a patient, that change much from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from echosdk.clips.array import ArrayClip
from echosdk.clips.images import to_frames
from echosdk.interfaces import Category, Conditions, Label, References, TrainingData

FRAMES = 5
FPS = 16.0
SIZE = Label(name="size", unit="mm", low=10, high=60)
SIDE = Category(name="side", values=("left", "right"))
LABELS = (SIZE, SIDE)
TRAIN_PATIENTS, VAL_PATIENTS = 12, 6


def patients(number: int, shape: tuple[int, int, int], seed: int, frames: int = FRAMES) -> torch.Tensor:
    """Draw a video of some frames for each of some patients: `n t c h w`. Another seed draws other patients."""
    draws = torch.Generator().manual_seed(seed)
    channels, height, width = shape

    def smooth(items: int) -> torch.Tensor:
        coarse = torch.randn(items, channels, 4, 4, generator=draws)
        return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")

    anatomy, changes = smooth(number), smooth(number * frames)
    return anatomy[:, None] + 1.5 * changes.view(number, frames, channels, height, width)


def references(number: int, shape: tuple[int, int, int], seed: int, frames: int = FRAMES) -> References:
    """Return the first frames of some patients' videos, as a bundle keeps them."""
    items = patients(number, shape, seed)[:, :frames].flatten(0, 1).contiguous()
    return References(items=items, groups=[f"{seed}-{patient}" for patient in range(number) for _ in range(frames)])


def training_data(shape: tuple[int, int, int]) -> TrainingData:
    """Return latents `c h w` of 12 patients to train with and of 6 to validate with."""
    train, val = (latent_clips(number, shape, seed) for number, seed in ((TRAIN_PATIENTS, 0), (VAL_PATIENTS, 1)))
    return TrainingData(train=train, val=val, labels=LABELS, fps=FPS, shape=shape)


def pixel_data(shape: tuple[int, ...], frames: int = FRAMES) -> TrainingData:
    """Return pixels `H W` or `H W 3` of 12 patients to train with and of 6 to validate with."""
    train, val = (pixel_clips(number, shape, seed, frames) for number, seed in ((TRAIN_PATIENTS, 0), (VAL_PATIENTS, 1)))
    return TrainingData(train=train, val=val, labels=LABELS, fps=FPS, shape=shape)


def latent_clips(number: int, shape: tuple[int, int, int], seed: int) -> Sequence[ArrayClip]:
    """Return a clip of latents for each of some patients."""
    return [_clip(seed, i, video.numpy()) for i, video in enumerate(patients(number, shape, seed))]


def pixel_clips(number: int, shape: tuple[int, ...], seed: int, frames: int = FRAMES) -> Sequence[ArrayClip]:
    """Return a clip of pixels for each of some patients."""
    height, width, channels = (*shape, 1)[:3]
    videos = patients(number, (channels, height, width), seed, frames)
    return [_clip(seed, i, to_frames(video / 3)) for i, video in enumerate(videos)]


def conditions(number: int) -> list[Conditions]:
    """Return some conditions, each another."""
    return [labels_of(i) for i in range(number)]


def labels_of(number: int) -> Conditions:
    """Return labels in their own units: a size from 10 to 60 mm, and a side."""
    return {"size": 10.0 + 7 * number % 50, "side": SIDE.values[number % 2]}


def generators(*seeds: int) -> list[torch.Generator]:
    """Return one generator a seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _clip(seed: int, number: int, frames: NDArray[np.generic] | Any) -> ArrayClip:
    return ArrayClip(id=f"{seed}-{number}", group=f"{seed}-{number}", labels=labels_of(number), frames=frames)
