"""The continuity check passes what is continuous, and fails what is not."""

from __future__ import annotations

from itertools import pairwise

import echosdk_stitch.windows
import numpy as np
import pytest
from echosdk_stitch.stitch import Independent, OverlapBlend, OverlapDiscard

from echosdk.clips.array import ArrayClip
from echosdk.evaluation.continuity import label_by_window, later_as_good_as_first, seam_ratio, window_starts

SEAMS = [32, 48, 64, 80]
FRAMES = 96


def beating(rng: np.random.Generator, frames: int = FRAMES) -> np.ndarray:
    """A disc whose radius beats, with a label that is its amplitude."""
    amplitude, phase = rng.uniform(0.1, 0.5), rng.uniform(0, 2 * np.pi)
    radius = 10 * (1 + amplitude * np.sin(2 * np.pi * np.arange(frames) / 15 + phase))
    y, x = np.mgrid[:32, :32] - 16
    soft = np.clip(radius[:, None, None] - np.hypot(y, x) + 0.5, 0, 1)
    return (200 * soft + rng.normal(20, 3, soft.shape)).clip(0, 255).astype(np.uint8)


def amplitude_of(frames: np.ndarray) -> float:
    area = (frames > 110).sum((1, 2))
    return float((area.max() - area.min()) / area.max() * 100)


class AreaReader:
    min_frames, fps = 1, 16.0

    def predict(self, clip: ArrayClip) -> dict[str, float]:
        return {"swing": amplitude_of(clip.read())}

    def score(self, test: object) -> dict[str, float]:
        return {}


@pytest.fixture
def videos() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [beating(rng) for _ in range(32)]


def test_passes_videos_without_seams(videos):
    ratio = seam_ratio(videos, SEAMS)
    assert ratio.within(0.15)
    assert ratio.low < ratio.ratio < ratio.high
    assert ratio.videos == 32


def test_the_ratio_is_of_the_mean_changes_at_the_seams_and_elsewhere(videos):
    changes = [[np.abs(b.astype(float) - a).mean() for a, b in pairwise(video)] for video in videos]
    at = [row[seam - 1] for row in changes for seam in SEAMS]
    elsewhere = [value for row in changes for i, value in enumerate(row) if i + 1 not in SEAMS]
    assert seam_ratio(videos, SEAMS).ratio == pytest.approx(np.mean(at) / np.mean(elsewhere), rel=1e-5)


def test_fails_videos_that_do_not_move(videos):
    static = [np.repeat(video[:1], FRAMES, axis=0) for video in videos]
    assert not seam_ratio(static, SEAMS).within(0.15)


def test_fails_videos_of_independent_windows():
    rng = np.random.default_rng(1)
    joined = [np.concatenate([beating(rng, 32), *(beating(rng, 16) for _ in SEAMS)]) for _ in range(32)]
    assert not seam_ratio(joined, SEAMS).within(0.15)


def test_reads_the_label_of_each_window_by_itself(videos):
    conditions = [{"swing": amplitude_of(video)} for video in videos]
    windows = label_by_window(videos, conditions, "swing", AreaReader(), 32, window_starts(FRAMES, 32, SEAMS))
    assert [(w.first, w.last) for w in windows] == [(0, 32), (16, 48), (32, 64), (48, 80), (64, 96)]
    assert all(w.mae < 5 for w in windows)
    assert later_as_good_as_first(windows)


def test_sees_that_motion_dies_in_later_windows(videos):
    conditions = [{"swing": amplitude_of(video)} for video in videos]
    dying = [np.concatenate([video[:32], np.repeat(video[32:33], FRAMES - 32, axis=0)]) for video in videos]
    starts = window_starts(FRAMES, 32, SEAMS)
    assert not later_as_good_as_first(label_by_window(dying, conditions, "swing", AreaReader(), 32, starts))


def test_sees_that_motion_dies_in_the_last_window_of_two_that_overlap(videos):
    """Of 96 frames in windows of 64 the animator made two: those from 0, and those from 32."""
    conditions = [{"swing": amplitude_of(video)} for video in videos]
    dying = [np.concatenate([video[:32], np.repeat(video[32:33], 64, axis=0)]) for video in videos]
    starts = window_starts(96, 64, OverlapDiscard().seams(96, 64))
    windows = label_by_window(dying, conditions, "swing", AreaReader(), 64, starts)
    assert [(w.first, w.last) for w in windows] == [(0, 64), (32, 96)]
    assert windows[1].mae > 10 > windows[0].mae
    assert not later_as_good_as_first(windows)


@pytest.mark.parametrize(("frames", "window"), [(192, 64), (96, 64), (48, 32), (100, 64), (22, 8), (21, 7), (8, 8)])
@pytest.mark.parametrize("stitcher", [OverlapDiscard(), OverlapBlend()])
def test_windows_that_are_read_are_those_that_were_stitched(stitcher, frames, window):
    starts = window_starts(frames, window, stitcher.seams(frames, window))
    assert starts == echosdk_stitch.windows.window_starts(frames, window)


def test_of_windows_side_by_side_the_last_is_read_whole():
    assert window_starts(22, 8, Independent().seams(22, 8)) == [0, 8, 14]
