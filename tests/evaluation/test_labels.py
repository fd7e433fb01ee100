"""Labels that are read again: errors, bias and correlation as scipy has them, over all and by what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from echosdk import Label
from echosdk.evaluation.continuity import window_errors
from echosdk.evaluation.labels import measure_labels, measure_windows

EF = Label(name="EF", unit="%", low=10, high=80)


@pytest.fixture(scope="module")
def measured():
    rng = np.random.default_rng(0)
    asked = rng.uniform(10, 80, 200)
    read = asked + rng.normal(3, 9, 200)
    real = rng.uniform(10, 80, 50)
    found = measure_labels(EF, asked, read, real, real + rng.normal(0, 2, 50))
    return asked, read, {each.name: each for each in found}


def test_a_reader_that_draws_to_the_mean_does_so_on_real_videos_too_and_every_bin_says_so():
    """The same reader of the same labels: the error in a bin is its own, not the generator's."""
    rng = np.random.default_rng(2)
    asked, real = rng.uniform(10, 80, 400), rng.uniform(10, 80, 300)
    read, real_read = (0.4 * values + 27 + rng.normal(0, 2, len(values)) for values in (asked, real))
    found = {each.name: each for each in measure_labels(EF, asked, read, real, real_read)}
    for low in (10, 24, 38, 52, 66):
        inside = (real >= low) & (real < low + 14)
        bias, error = (found[f"EF {low} to {low + 14}: {what} in %"] for what in ("bias", "absolute error"))
        assert bias.floor.value == pytest.approx((real_read - real)[inside].mean())
        assert error.floor.value == pytest.approx(np.abs(real_read - real)[inside].mean())
        assert bias.floor.n == error.floor.n == inside.sum()
        assert bias.floor.value == pytest.approx(bias.value, abs=2)
    assert found["EF 10 to 24: bias in %"].low > 10
    assert found["EF 66 to 80: bias in %"].high < -10
    assert found["EF: bias in %"].floor.n == 300


def test_a_bin_without_real_videos_has_no_floor():
    asked, real = np.linspace(10, 80, 30), np.full(20, 60.0)
    found = {each.name: each for each in measure_labels(EF, asked, asked + 1, real, real + 2)}
    assert found["EF 10 to 24: bias in %"].floor is None
    assert found["EF 52 to 66: bias in %"].floor.value == 2


def test_error_and_bias_are_means_with_their_standard_errors(measured):
    asked, read, found = measured
    for name, values in (("absolute error", np.abs(read - asked)), ("bias", read - asked)):
        figure, reach = found[f"EF: {name} in %"], stats.norm.ppf(0.975) * stats.sem(values)
        assert figure.value == pytest.approx(values.mean())
        assert figure.low == pytest.approx(values.mean() - reach, abs=0.15)
        assert figure.high == pytest.approx(values.mean() + reach, abs=0.15)
        assert figure.n == 200
    floor = found["EF: absolute error in %"].floor
    assert floor is not None
    assert floor.n == 50
    assert floor.value == pytest.approx(2 * np.sqrt(2 / np.pi), rel=0.2)


def test_the_correlation_is_pearsons_with_nearly_fishers_interval(measured):
    asked, read, found = measured
    theirs = stats.pearsonr(asked, read)
    figure = found["EF: correlation of read and asked"]
    assert figure.value == pytest.approx(theirs.statistic)
    assert (figure.low, figure.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)), abs=0.02)


def test_every_bin_holds_the_videos_that_were_asked_for_in_it(measured):
    asked, read, found = measured
    for low in (10, 24, 38, 52, 66):
        inside = (asked >= low) & (asked < low + 14)
        figure = found[f"EF {low} to {low + 14}: absolute error in %"]
        assert figure.n == inside.sum()
        assert figure.value == pytest.approx(np.abs(read - asked)[inside].mean())
    assert sum(found[f"EF {low} to {low + 14}: bias in %"].n for low in (10, 24, 38, 52, 66)) == 200


def test_a_windows_error_has_its_standard_error():
    errors = np.random.default_rng(1).normal(1, 4, (30, 2))
    real = np.random.default_rng(2).normal(0, 2, (40, 2))
    real[5:, 1] = np.nan  # five are long enough for the later window
    found = measure_windows(EF, window_errors(errors, 16, [0, 8]), real)
    assert [each.name for each in found] == [f"EF, frames {first} to {first + 16}: absolute error in %" for first in (0, 8)]
    for figure, column, theirs in zip(found, np.abs(errors).T, (real[:, 0], real[:5, 1]), strict=True):
        assert figure.value == pytest.approx(column.mean())
        assert figure.high - figure.value == pytest.approx(stats.norm.ppf(0.975) * stats.sem(column))
        assert figure.floor.n == len(theirs)
        assert figure.floor.value == pytest.approx(np.abs(theirs).mean())
