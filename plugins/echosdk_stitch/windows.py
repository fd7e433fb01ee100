"""Cut a noisy video into windows, and have each predicted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from einops import rearrange

import echosdk


def window_starts(num_frames: int, window: int) -> list[int]:
    """Return each window's first frame: every half window, and a last one that ends with the video."""
    if num_frames <= window:
        return [0]
    stride = max(1, window - window // 2)
    return [*range(0, num_frames - window, stride), num_frames - window]


def ends_of_windows(num_frames: int, window: int) -> list[int]:
    """Return where each window but the last ends: the first frame that another predicts alone."""
    return [start + window for start in window_starts(num_frames, window)[:-1]]


def predict_windows(
    animator: echosdk.VideoAnimator,
    latents: torch.Tensor,
    timestep: int,
    stills: torch.Tensor,
    conditions: Sequence[echosdk.Conditions],
    starts: Sequence[int],
    micro_batch: int,
) -> torch.Tensor:
    """Return the predictions `k b t c h w` of the windows that begin at `starts`, `micro_batch` of them at a time."""
    length = min(animator.window, latents.shape[1])
    windows = torch.stack([latents[:, start : start + length] for start in starts], 1)
    flat = rearrange(windows, "b k t c h w -> (b k) t c h w")
    # Which video, hence which still and label, each window is of.
    video = [i for i in range(len(latents)) for _ in starts]
    parts = []
    for first, last in batches(len(flat), micro_batch):
        own = video[first:last]
        parts.append(animator.predict(flat[first:last], timestep, stills[own], [conditions[i] for i in own]))
    return rearrange(torch.cat(parts), "(b k) t c h w -> k b t c h w", k=len(starts))


def batches(length: int, size: int) -> Iterator[tuple[int, int]]:
    for first in range(0, length, size):
        yield first, min(first + size, length)
