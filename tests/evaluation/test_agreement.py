"""Plots show what was read: limits of agreement, ROC curves with their area, and points that name nobody."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from echosdk import Label
from echosdk.evaluation.agreement import Agreement, make_agreement
from echosdk.evaluation.rows import make_row

EF = Label(name="EF", unit="%", low=10, high=90)


def agreement(spread: float = 8.0) -> tuple[Agreement, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    true = rng.uniform(15, 80, 60)
    read = np.round(true + rng.normal(2, spread, (2, 60)), 1)
    return make_agreement("a", "b", read, true, np.arange(60), EF, (35, 50), resamples=500), read, true


def test_limits_of_agreement_are_bias_and_nearly_two_standard_deviations():
    found, read, true = agreement()
    error = read - true
    spread = stats.norm.ppf(0.975) * error.std(1, ddof=1)
    assert found.bias.value == pytest.approx(error.mean())
    assert found.lower.value == pytest.approx((error.mean(1) - spread).mean())
    assert found.upper.value == pytest.approx((error.mean(1) + spread).mean())
    for figure in (found.bias, found.lower, found.upper, *(roc.area for roc in found.roc)):
        assert figure.low < figure.value < figure.high
        assert figure.n == 60


def test_the_area_is_the_share_of_pairs_in_the_right_order():
    found, read, true = agreement(spread=25)
    for roc in found.roc:
        under = true < roc.cutoff
        pairs = [
            (np.sign(each[~under][:, None] - each[under][None]) + 1).mean() / 2  # ties count half
            for each in read
        ]
        assert roc.area.value == pytest.approx(np.mean(pairs))
        assert roc.below == under.sum()
        across, up = np.array(roc.curve).T
        assert (across[0], across[-1], up[-1]) == (0, 1, 1)
        assert (np.diff(up) >= 0).all()
        assert np.trapezoid(up, across) == pytest.approx(roc.area.value, abs=0.02)


def test_readings_without_order_have_half_the_area_and_perfect_ones_all():
    true = np.linspace(15, 80, 40)
    perfect = make_agreement("a", "b", np.stack([true, true]), true, np.arange(40), EF, (40,), resamples=100)
    blind = make_agreement("a", "b", np.full((2, 40), 50.0), true, np.arange(40), EF, (40,), resamples=100)
    assert perfect.roc[0].area.value == 1
    assert perfect.roc[0].curve[0] == (0, 1)
    assert blind.roc[0].area.value == 0.5
    assert blind.roc[0].curve[25] == (0.5, 0.5)


@pytest.mark.parametrize("patients", [2, 3])
def test_of_so_few_patients_that_a_resample_often_is_one_of_them_no_interval_is_known(patients: int):
    true = np.array([70.0, 12.4, 61.1])[:patients]  # resampled alone, rounding leaves each some spread
    read = true + np.array([[3.0], [4.0]])
    row = make_row("a", "b", read, true, np.arange(patients), resamples=2000)
    assert row.r2.value <= 1
    assert row.r2.interval_in_words() == "no interval"
    assert row.mae.low <= row.mae.value <= row.mae.high
    area = make_agreement("a", "b", read, true, np.arange(patients), EF, (65,)).roc[0].area
    assert (area.value, area.interval_in_words()) == (1, "no interval")


def test_patients_are_resampled_whole():
    true = np.linspace(15, 80, 30)
    read = true + np.random.default_rng(0).normal(0, 6, (2, 30))
    once = make_agreement("a", "b", read, true, np.arange(30), EF, (40,), resamples=500)
    thrice = make_agreement("a", "b", read.repeat(3, 1), true.repeat(3), np.arange(30).repeat(3), EF, (40,), resamples=500)
    assert (thrice.roc[0].area.low, thrice.bias.high) == pytest.approx((once.roc[0].area.low, once.bias.high))


def test_the_areas_interval_covers_the_truth_as_often_as_it_says():
    """Two normal readings a standard deviation apart have the area Phi(1 / sqrt 2)."""
    truth, rng, covered = stats.norm.cdf(1 / np.sqrt(2)), np.random.default_rng(3), 0
    for trial in range(150):
        true = np.repeat([30.0, 60.0], 40)
        read = np.where(true < 40, 0.0, 1.0) + rng.normal(size=80)
        area = make_agreement("a", "b", read[None], true, np.arange(80), EF, (40,), resamples=300, seed=trial).roc[0].area
        covered += area.low <= truth <= area.high
    assert 0.88 <= covered / 150 <= 0.99


def test_points_are_rounded_counted_and_in_no_patients_order():
    found, read, _ = agreement()
    cells = np.array(found.cells)
    assert cells[:, 2].sum() == read.size
    assert np.allclose(cells[:, :2] / 0.8, np.round(cells[:, :2] / 0.8), atol=1e-4)
    assert found.cells == tuple(sorted(found.cells))


def test_a_cut_off_with_all_clips_on_one_side_has_no_curve():
    true = np.linspace(60, 80, 20)
    assert make_agreement("a", "b", true[None], true, np.arange(20), EF, (35, 70), resamples=10).roc[0].cutoff == 70
