"""Measures of motion see what a still video, a flickering one and a faster one are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from echosdk.evaluation.temporal import measure_motion, motion_of

FPS = 16.0


def swinging(hertz: float, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """A bright bar that moves to and fro."""
    rng = np.random.default_rng(seed)
    x = np.arange(32)
    middle = 16 + 6 * np.sin(2 * np.pi * hertz * np.arange(64) / FPS + rng.uniform(0, 6))
    rows = 200 * np.exp(-((x - middle[:, None]) ** 2) / 18)
    return (np.repeat(rows[:, None], 8, 1) + rng.normal(20, noise, (64, 8, 32))).clip(0, 255).astype(np.uint8)


def of_motion(video: np.ndarray) -> tuple[float, float, float]:
    found = motion_of(video, FPS)
    return found.amount, found.flicker, found.rhythm


def test_a_ramp_has_motion_and_no_flicker_and_an_alternation_has_as_much_of_both():
    ramp = np.repeat(np.arange(0, 80, 2, dtype=np.uint8)[:, None, None], 4, 1).repeat(4, 2)
    assert motion_of(ramp, FPS).amount == 2
    assert motion_of(ramp, FPS).flicker == 0
    alternating = np.where(np.arange(20)[:, None, None] % 2, 10, 0).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    assert of_motion(alternating) == (10, 10, FPS / 2)


def test_the_rhythm_is_the_frequency_of_the_motion():
    assert motion_of(swinging(1.5), FPS).rhythm == pytest.approx(1.5)
    assert of_motion(np.full((20, 4, 4), 7, np.uint8)) == (0, 0, 0)


def test_consistency_is_the_mean_correlation_of_neighbours():
    video = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    theirs = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairwise(video)]
    assert motion_of(video, FPS).consistency == pytest.approx(np.mean(theirs), abs=1e-5)
    assert motion_of(np.repeat(video[:1], 6, 0), FPS).consistency == pytest.approx(1)
    assert np.isnan(motion_of(np.full((6, 4, 4), 7, np.uint8), FPS).consistency)


def test_a_video_too_short_to_move_has_no_figures_and_is_left_out():
    one = motion_of(np.zeros((1, 4, 4), np.uint8), FPS)
    assert np.isnan([one.amount, one.flicker, one.rhythm, one.consistency]).all()
    assert measure_motion([one] * 4, [one] * 4, against="held-out") == []


def test_ratios_tell_still_flickering_and_fast_videos_from_real_ones():
    real = [motion_of(swinging(1.5, 2, seed), FPS) for seed in range(12)]

    def ratios(made: list[np.ndarray]) -> dict[str, float]:
        measured = measure_motion(real, [motion_of(video, FPS) for video in made], against="held-out")
        assert all(each.low <= each.value <= each.high and each.n == 12 for each in measured)
        assert all(each.floor is not None and each.floor.low <= 1 <= each.floor.high for each in measured)
        return {each.name.split(": ")[1].split(",")[0]: each.value for each in measured}

    assert ratios([swinging(1.5, 2, 100 + i) for i in range(12)]) == pytest.approx(
        {"amount": 1, "flicker": 1, "rhythm": 1, "consistency": 1}, abs=0.15
    )
    assert ratios([swinging(1.5, 2, i)[:1].repeat(64, 0) for i in range(12)])["amount"] == 0
    assert ratios([swinging(1.5, 20, i) for i in range(12)])["flicker"] > 1.4
    assert ratios([swinging(3.0, 2, i) for i in range(12)])["rhythm"] == pytest.approx(2)
