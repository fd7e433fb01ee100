"""Videos longer than the animator's window (paper, section 2, "Video Stitching"), and two other ways to make them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import define, field
from attrs.validators import ge
from einops import rearrange

import echosdk
from echosdk_stitch.windows import batches, predict_windows, window_starts


@define
class OverlapDiscard:
    """At every timestep: cut the noisy video into windows that overlap by half, predict each, and join.

    Of every window but the first, what the window before has already predicted is dropped; then the scheduler steps
    the whole video once. Where the length is no multiple of half a window, the last window ends with the video, and so
    overlaps its predecessor by more. Windows go through the network `micro_batch` at a time: memory does not grow
    with the length.

    Where two windows disagree, a video jumps from one to the other: the less, the better the animator. With `crossfade`
    frames (0 in the paper), that many before each seam pass linearly from the earlier window's prediction to the
    later's.
    """

    micro_batch: int = field(default=4, validator=ge(1))
    crossfade: int = field(default=0, validator=ge(0))

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
            predicted = predict_windows(
                animator, denoising.latents, timestep, stills, conditions, starts, self.micro_batch
            )
            joined = predicted[0]
            for start, window in zip(starts[1:], predicted[1:], strict=True):
                seam = joined.shape[1]
                mixed = min(self.crossfade, seam - start)
                later = torch.arange(1, mixed + 1, device=window.device) / (mixed + 1)
                fade = joined[:, seam - mixed :].lerp(
                    window[:, seam - mixed - start : seam - start],
                    rearrange(later, "t -> 1 t 1 1 1").to(window),
                )
                joined = torch.cat([joined[:, : seam - mixed], fade, window[:, seam - start :]], 1)
            denoising.step(joined, timestep)
        return denoising.latents


@define
class OverlapBlend:
    """At every timestep: predict the same windows, and average where they overlap, before the scheduler's one step.

    A window's weight falls linearly from its middle to its ends, so that no frame changes its predictor at once. The
    average of predictions is that of MultiDiffusion (Bar-Tal et al. 2023, arXiv:2302.08113), over time in place of
    space. It costs the network what `overlap-discard` does, and uses all that it computes; where two windows disagree,
    their average is neither's.
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
        length = min(animator.window, num_frames)
        frame = torch.arange(length, device=denoising.latents.device)
        weight = rearrange(torch.minimum(frame + 1, length - frame).float(), "t -> 1 t 1 1 1")
        for timestep in denoising.timesteps:
            predicted = predict_windows(
                animator, denoising.latents, timestep, stills, conditions, starts, self.micro_batch
            )
            total = torch.zeros_like(denoising.latents, dtype=torch.float32)
            weights = torch.zeros_like(total[:1, :, :1, :1, :1])
            for start, window in zip(starts, predicted, strict=True):
                total[:, start : start + length] += weight * window.to(total)
                weights[:, start : start + length] += weight
            denoising.step((total / weights).to(predicted), timestep)
        return denoising.latents


@define
class Independent:
    """Windows side by side, without overlap, the last one as short as it must be.

    Nothing but the still and the label ties a window to the one before it: motion jumps at every seam. A baseline for
    measures of continuity; it costs about half of what the other two do.
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
        for timestep in denoising.timesteps:
            pieces = []
            for window in denoising.latents.split(animator.window, 1):
                parts = [
                    animator.predict(window[first:last], timestep, stills[first:last], conditions[first:last])
                    for first, last in batches(len(window), self.micro_batch)
                ]
                pieces.append(torch.cat(parts))
            denoising.step(torch.cat(pieces, 1), timestep)
        return denoising.latents
