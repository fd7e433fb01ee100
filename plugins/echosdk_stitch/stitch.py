"""Videos longer than the animator's window (paper, section 2, "Video Stitching")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from attrs import define, field
from attrs.validators import ge
from einops import rearrange

import echosdk


@define
class OverlapDiscard:
    """At every timestep: cut the noisy video into windows that overlap by half, predict each, and join.

    Of every window but the first, what the window before has already predicted is dropped; then the scheduler steps
    the whole video once. Where the length is no multiple of half a window, the last window ends with the video, and so
    overlaps its predecessor by more. Windows go through the network `micro_batch` at a time: memory does not grow
    with the length.
    """

    micro_batch: int = field(default=4, validator=ge(1))

    @torch.no_grad()
    def animate(
        self,
        animator: echosdk.VideoAnimator,
        stills: torch.Tensor,
        conditions: Sequence[echosdk.Conditions],
        num_frames: int,
        generators: Sequence[torch.Generator],
    ) -> torch.Tensor:
        denoising = animator.begin(num_frames, generators)
        starts = window_starts(num_frames, animator.window)
        for timestep in denoising.timesteps:
            prediction = self._predict(animator, denoising.latents, timestep, stills, conditions, starts)
            denoising.step(prediction, timestep)
        return denoising.latents

    def _predict(
        self,
        animator: echosdk.VideoAnimator,
        latents: torch.Tensor,
        timestep: int,
        stills: torch.Tensor,
        conditions: Sequence[echosdk.Conditions],
        starts: Sequence[int],
    ) -> torch.Tensor:
        length = min(animator.window, latents.shape[1])
        windows = torch.stack([latents[:, start : start + length] for start in starts], 1)
        flat = rearrange(windows, "b k t c h w -> (b k) t c h w")
        # Which video, hence which still and label, each window is of.
        video = [i for i in range(len(latents)) for _ in starts]
        parts = []
        for first, last in _batches(len(flat), self.micro_batch):
            own = video[first:last]
            parts.append(animator.predict(flat[first:last], timestep, stills[own], [conditions[i] for i in own]))
        predicted = rearrange(torch.cat(parts), "(b k) t c h w -> k b t c h w", k=len(starts))

        done, pieces = 0, []
        for start, window in zip(starts, predicted, strict=True):
            pieces.append(window[:, done - start :])
            done = start + length
        return torch.cat(pieces, 1)


def window_starts(num_frames: int, window: int) -> list[int]:
    """Return each window's first frame: every half window, and a last one that ends with the video."""
    if num_frames <= window:
        return [0]
    stride = max(1, window - window // 2)
    return [*range(0, num_frames - window, stride), num_frames - window]


def _batches(length: int, size: int) -> Iterator[tuple[int, int]]:
    for first in range(0, length, size):
        yield first, min(first + size, length)
