"""The stitchers against plain loops: the paper's (section 2, "Video Stitching"), a weighted average, and none at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from attrs import define, field
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from echosdk_lvdm import LVDM
from echosdk_lvdm.conditions import Scaling
from echosdk_stitch import Independent, OverlapBlend, OverlapDiscard
from echosdk_stitch.windows import window_starts

from echosdk.clips.images import to_frames
from echosdk.evaluation.continuity import seam_ratio

LATENT = (4, 8, 8)
STEPS = 3


def animator_of(window: int = 8, sampler: Any = "ddpm", latent: tuple[int, int, int] = LATENT) -> LVDM:
    """Return the real animator at tiny shapes, with random weights."""
    animator = LVDM(
        window=window,
        blocks=(32, 32),
        attention=(True, False),
        heads=(2, 2),
        layers_per_block=1,
        sampler=sampler,
        num_inference_steps=STEPS,
    )
    animator._latent = latent
    animator._scalings = (Scaling(name="EF", scale=100.0),)
    torch.manual_seed(0)
    animator._network = animator._make_network().eval()
    return animator


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def stills_and_labels(
    number: int, latent: tuple[int, int, int] = LATENT
) -> tuple[torch.Tensor, list[dict[str, float]]]:
    stills = torch.randn(number, *latent, generator=torch.Generator().manual_seed(7))
    return stills, [{"EF": 20.0 + 25 * i} for i in range(number)]


@torch.no_grad()
def as_the_paper_says(
    animator: LVDM, still: torch.Tensor, label: dict[str, float], length: int, generator: torch.Generator
) -> torch.Tensor:
    """Denoise one video: k windows, drop the overlap of each but the first's, concatenate, one step on all of it."""
    scheduler: Any = DDPMScheduler(
        1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        variance_type="fixed_small",
        clip_sample=True,
        clip_sample_range=4.0,
        timestep_spacing="leading",
    )
    if animator.sampler == "dpmsolver++":
        scheduler = DPMSolverMultistepScheduler.from_config(scheduler.config, timestep_spacing="trailing")
    scheduler.set_timesteps(STEPS)
    window = min(animator.window, length)
    overlap = window // 2
    video = torch.randn((1, length, *animator._latent), generator=generator)
    for timestep in scheduler.timesteps:
        pieces = [animator.predict(video[:, :window], timestep, still[None], [label])]
        start = 0
        while start + window < length:
            behind = start + window
            start = min(start + window - overlap, length - window)  # the last window ends with the video
            predicted = animator.predict(video[:, start : start + window], timestep, still[None], [label])
            pieces.append(predicted[:, behind - start :])
        joined = torch.cat(pieces, 1)
        assert joined.shape == video.shape
        video = scheduler.step(joined, timestep, video, generator=[generator]).prev_sample
    return video


@pytest.mark.parametrize("sampler", ["ddpm", "dpmsolver++"])
@pytest.mark.parametrize(
    "length",
    [
        pytest.param(8, id="one window"),
        pytest.param(20, id="four windows"),
        pytest.param(13, id="not a multiple of the overlap"),
        pytest.param(5, id="shorter than the window"),
        pytest.param(1, id="one frame"),
    ],
)
def test_equals_the_papers_loop(sampler: str, length: int) -> None:
    animator = animator_of(sampler=sampler)
    stills, labels = stills_and_labels(2)
    made = OverlapDiscard(micro_batch=3).animate(animator, stills, labels, length, generators(1, 2))
    for i, generator in enumerate(generators(1, 2)):
        expected = as_the_paper_says(animator, stills[i], labels[i], length, generator)
        torch.testing.assert_close(made[i : i + 1], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("window", "length"), [(7, 18), (1, 3)], ids=["odd window", "window of one frame"])
def test_equals_the_papers_loop_with_an_odd_window(window: int, length: int) -> None:
    animator = animator_of(window)
    stills, labels = stills_and_labels(1)
    made = OverlapDiscard().animate(animator, stills, labels, length, generators(1))
    expected = as_the_paper_says(animator, stills[0], labels[0], length, *generators(1))
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


def test_the_number_of_windows_is_the_papers() -> None:
    for length in range(64, 64 + 32 * 10, 32):
        starts = window_starts(length, 64)
        assert starts == [32 * i for i in range((length - 64) // 32 + 1)]


def test_every_frame_of_any_length_is_covered_once_its_predecessors_window_ends() -> None:
    for window in range(1, 10):
        for length in range(1, 40):
            starts = window_starts(length, window)
            size = min(window, length)
            assert starts[0] == 0
            assert starts[-1] == length - size
            for one, other in pairwise(starts):
                assert one < other <= one + size
                assert other <= one + size - size // 2


def test_micro_batches_of_one_and_of_eight_agree() -> None:
    animator = animator_of()
    stills, labels = stills_and_labels(3)
    one, eight = (
        OverlapDiscard(micro_batch=size).animate(animator, stills, labels, 16, generators(1, 2, 3)) for size in (1, 8)
    )
    torch.testing.assert_close(one, eight, atol=1e-5, rtol=1e-5)


def test_a_video_does_not_depend_on_the_others_of_its_batch() -> None:
    animator = animator_of(sampler="dpmsolver++")
    stills, labels = stills_and_labels(3)
    together = OverlapDiscard().animate(animator, stills, labels, 16, generators(1, 2, 3))
    alone = OverlapDiscard().animate(animator, stills[1:2], labels[1:2], 16, generators(2))
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)


@define
class Numbered:
    """Denoising whose latents say which video and which frame they are; it does not change them."""

    latents: torch.Tensor
    timesteps = (1, 0)

    def step(self, prediction: torch.Tensor, timestep: int) -> torch.Tensor:
        assert torch.equal(prediction, self.latents), "pieces were joined in another order than they were cut"
        return self.latents


@define
class Witness:
    """An animator that writes down which windows it was shown with which still and label."""

    window: int
    seen: list[tuple[int, int, float, float]] = field(factory=list)  # video, first frame, still, label
    most: int = 0

    def to(self, device: str, dtype: torch.dtype) -> None: ...

    def begin(self, num_frames: int, generators: Sequence[torch.Generator]) -> Numbered:
        videos, frames = torch.meshgrid(torch.arange(len(generators)), torch.arange(num_frames), indexing="ij")
        return Numbered(torch.stack([videos, frames], 2)[..., None, None].float())

    def predict(
        self, latents: torch.Tensor, timestep: int, stills: torch.Tensor, conditions: Sequence[Any]
    ) -> torch.Tensor:
        assert len(latents) == len(stills) == len(conditions)
        self.most = max(self.most, len(latents))
        for window, still, condition in zip(latents, stills, conditions, strict=True):
            assert window[:, 0].unique().numel() == 1, "a window holds frames of two videos"
            first = window[0, 1]
            assert torch.equal(window[:, 1, 0, 0], torch.arange(self.window) + first.flatten()), (
                "frames are not in order"
            )
            self.seen.append((int(window[0, 0]), int(first), float(still.mean()), condition["EF"]))
        return latents


def test_every_window_of_a_batch_gets_the_label_and_the_still_of_its_own_video() -> None:
    """At the published README's setting (8 videos of 192 frames) 8 of 40 windows got their own label."""
    witness = Witness(window=64)
    stills = torch.arange(8.0)[:, None, None, None].expand(8, 2, 1, 1)
    OverlapDiscard(micro_batch=6).animate(
        witness, stills, [{"EF": float(i)} for i in range(8)], 192, generators(*range(8))
    )
    assert len(witness.seen) == 2 * 40
    assert set(witness.seen) == {(i, start, float(i), float(i)) for i in range(8) for start in (0, 32, 64, 96, 128)}


def test_no_more_windows_than_the_micro_batch_go_through_the_network_at_once() -> None:
    witness = Witness(window=4)
    OverlapDiscard(micro_batch=3).animate(witness, torch.zeros(2, 2, 1, 1), [{"EF": 1.0}] * 2, 100, generators(1, 2))
    assert witness.most == 3


@torch.no_grad()
def as_the_paper_says_with_a_crossfade(
    animator: LVDM, still: torch.Tensor, label: dict[str, float], length: int, generator: torch.Generator, crossfade: int
) -> torch.Tensor:
    """Denoise one video frame by frame: of the `crossfade` frames before a seam, each has its share of both windows."""
    denoising = animator.begin(length, [generator])
    window = min(animator.window, length)
    firsts = sorted({min(first, length - window) for first in range(0, length, window - window // 2)})
    for timestep in denoising.timesteps:
        frames: dict[int, torch.Tensor] = {}
        seam = 0
        for first in firsts:
            predicted = animator.predict(denoising.latents[:, first : first + window], timestep, still[None], [label])
            fading = min(crossfade, seam - first)
            for i in range(window):
                share = 1.0 if first + i >= seam else max(0.0, (first + i + 1 - (seam - fading)) / (fading + 1))
                frames[first + i] = share * predicted[:, i] + (1 - share) * frames.get(first + i, predicted[:, i])
            seam = first + window
        denoising.step(torch.stack([frames[i] for i in range(length)], 1), timestep)
    return denoising.latents


@pytest.mark.parametrize("crossfade", [1, 3, 4, 100])
@pytest.mark.parametrize(("window", "length"), [(8, 8), (8, 20), (8, 13), (8, 5), (8, 1), (7, 18), (1, 3)])
def test_a_crossfade_gives_each_frame_its_share_of_both_windows(window: int, length: int, crossfade: int) -> None:
    animator = animator_of(window, sampler="dpmsolver++")
    stills, labels = stills_and_labels(2)
    stitcher = OverlapDiscard(micro_batch=3, crossfade=crossfade)
    made = stitcher.animate(animator, stills, labels, length, generators(1, 2))
    for i, generator in enumerate(generators(1, 2)):
        expected = as_the_paper_says_with_a_crossfade(animator, stills[i], labels[i], length, generator, crossfade)
        torch.testing.assert_close(made[i : i + 1], expected, atol=1e-5, rtol=1e-5)


def test_a_crossfade_of_half_a_window_is_blending() -> None:
    animator = animator_of()
    stills, labels = stills_and_labels(1)
    fading, blending = (
        stitcher.animate(animator, stills, labels, 20, generators(1))
        for stitcher in (OverlapDiscard(crossfade=4), OverlapBlend())
    )
    torch.testing.assert_close(fading, blending, atol=1e-5, rtol=1e-5)


def test_a_negative_crossfade_is_refused() -> None:
    with pytest.raises(ValueError, match=r"crossfade.*must be >= 0"):
        OverlapDiscard(crossfade=-1)


@torch.no_grad()
def as_a_weighted_average(
    animator: LVDM, still: torch.Tensor, label: dict[str, float], length: int, generator: torch.Generator
) -> torch.Tensor:
    """Denoise one video: of each frame, average the predictions of the windows that see it, by their distance to an end."""
    denoising = animator.begin(length, [generator])
    window = min(animator.window, length)
    firsts = sorted({min(first, length - window) for first in range(0, length, window - window // 2)})
    for timestep in denoising.timesteps:
        seen: list[list[tuple[int, torch.Tensor]]] = [[] for _ in range(length)]
        for first in firsts:
            predicted = animator.predict(denoising.latents[:, first : first + window], timestep, still[None], [label])
            for i in range(window):
                seen[first + i].append((min(i + 1, window - i), predicted[:, i]))
        frames = [sum(weight * frame for weight, frame in own) / sum(weight for weight, _ in own) for own in seen]
        denoising.step(torch.stack(frames, 1), timestep)
    return denoising.latents


@pytest.mark.parametrize("sampler", ["ddpm", "dpmsolver++"])
@pytest.mark.parametrize(("window", "length"), [(8, 8), (8, 20), (8, 13), (8, 5), (8, 1), (7, 18), (1, 3)])
def test_blending_equals_a_weighted_average_frame_by_frame(sampler: str, window: int, length: int) -> None:
    animator = animator_of(window, sampler=sampler)
    stills, labels = stills_and_labels(2)
    made = OverlapBlend(micro_batch=3).animate(animator, stills, labels, length, generators(1, 2))
    for i, generator in enumerate(generators(1, 2)):
        expected = as_a_weighted_average(animator, stills[i], labels[i], length, generator)
        torch.testing.assert_close(made[i : i + 1], expected, atol=1e-5, rtol=1e-5)


def test_independent_windows_are_what_each_would_be_alone() -> None:
    animator = animator_of()
    stills, labels = stills_and_labels(1)
    made = Independent().animate(animator, stills, labels, 19, generators(1))
    denoising = animator.begin(19, generators(1))
    for timestep in denoising.timesteps:
        pieces = [
            animator.predict(denoising.latents[:, first : first + 8], timestep, stills, labels) for first in (0, 8, 16)
        ]
        denoising.step(torch.cat(pieces, 1), timestep)
    torch.testing.assert_close(made, denoising.latents, atol=1e-5, rtol=1e-5)


OTHERS = [OverlapBlend, Independent]


@pytest.mark.parametrize("stitcher", OTHERS)
def test_another_stitcher_makes_each_video_by_itself_in_any_micro_batch(stitcher: Any) -> None:
    animator = animator_of(sampler="dpmsolver++")
    stills, labels = stills_and_labels(3)
    together = stitcher(micro_batch=8).animate(animator, stills, labels, 19, generators(1, 2, 3))
    alone = stitcher(micro_batch=1).animate(animator, stills[1:2], labels[1:2], 19, generators(2))
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stitcher", OTHERS)
def test_another_stitcher_gives_every_window_the_label_and_the_still_of_its_own_video(stitcher: Any) -> None:
    witness = Witness(window=16)
    stills = torch.arange(4.0)[:, None, None, None].expand(4, 2, 1, 1)
    stitcher(micro_batch=3).animate(witness, stills, [{"EF": float(i)} for i in range(4)], 48, generators(*range(4)))
    assert {(still, label) for _, _, still, label in witness.seen} == {(float(i), float(i)) for i in range(4)}
    assert all(video == still for video, _, still, _ in witness.seen)
    assert witness.most == 3


@define
class Relaxing:
    """Denoising that goes the straight way from noise to the prediction."""

    latents: torch.Tensor
    timesteps = tuple(range(24, 0, -1))

    def step(self, prediction: torch.Tensor, timestep: int) -> torch.Tensor:
        self.latents = self.latents + (prediction - self.latents) / timestep
        return self.latents


class Swinging:
    """An animator whose motion has a period of 10 frames, in the phase that the noisy window comes nearest to."""

    window = 16

    def to(self, device: str, dtype: torch.dtype) -> None: ...

    def begin(self, num_frames: int, generators: Sequence[torch.Generator]) -> Relaxing:
        return Relaxing(torch.stack([torch.randn(num_frames, 1, 8, 8, generator=g) for g in generators]))

    def predict(
        self, latents: torch.Tensor, timestep: int, stills: torch.Tensor, conditions: Sequence[Any]
    ) -> torch.Tensor:
        time = torch.arange(latents.shape[1]) * 2 * math.pi / 10
        signal = latents.mean((2, 3, 4))
        phase = torch.atan2((signal * time.cos()).sum(1), (signal * time.sin()).sum(1))
        return 0.6 * torch.sin(time + phase[:, None])[..., None, None, None].expand_as(latents)


@pytest.mark.parametrize(
    ("stitcher", "seams", "continuous"),
    [
        (OverlapDiscard, range(16, 64, 8), True),
        (OverlapBlend, range(16, 64, 8), True),
        (Independent, range(16, 64, 16), False),
    ],
)
def test_independent_windows_have_seams_and_overlapping_ones_have_none(
    stitcher: Any, seams: range, continuous: bool
) -> None:
    stills, labels = torch.zeros(32, 1, 8, 8), [{}] * 32
    videos = stitcher(micro_batch=64).animate(Swinging(), stills, labels, 64, generators(*range(32)))
    ratio = seam_ratio([to_frames(video) for video in videos], [*seams])
    assert ratio.within(0.15) is continuous
    assert (ratio.low > 1.3) is not continuous
