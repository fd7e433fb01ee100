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
    for figure, column in zip(measure_windows(EF, window_errors(errors, 16)), np.abs(errors).T, strict=True):
        assert figure.value == pytest.approx(column.mean())
        assert figure.high - figure.value == pytest.approx(stats.norm.ppf(0.975) * stats.sem(column))
