"""An audit's figures: exact intervals, and attacks that find what is there and nothing that is not."""

from __future__ import annotations

import numpy as np
import pytest

from echosdk.privacy.statistics import area, area_figure, curve, found_at, median, plain, share


@pytest.mark.parametrize(("misses", "n", "low"), [(0, 3000, 0.025 ** (1 / 3000)), (0, 72, 0.025 ** (1 / 72))])
def test_a_share_has_the_exact_lower_bound(misses: int, n: int, low: float) -> None:
    """At no miss of n the Clopper-Pearson bound is 0.025^(1/n)."""
    figure = share("a", n - misses, n, better="higher", what="patients")
    assert figure.interval_95 is not None
    assert figure.interval_95 == (pytest.approx(low, abs=1e-9), 1.0)
    assert (figure.value, figure.n) == (1.0, n)


def test_a_share_of_nothing_is_not_measured_and_says_why() -> None:
    figure = plain(share("a", 0, 0, better="higher", what="patients", note="no patient has two videos"))
    assert (figure["value"], figure["interval_95"], figure["n"]) == (None, None, 0)
    assert figure["note"] == "no patient has two videos"


def test_the_medians_interval_holds_the_median_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        interval = median("a", random.normal(size=41), better="higher", what="videos").interval_95
        assert interval is not None
        held += interval[0] <= 0 <= interval[1]
    assert held / 400 > 0.93


def test_the_area_is_the_share_of_pairs_in_which_the_member_scores_higher() -> None:
    random = np.random.default_rng(1)
    members, outsiders = random.integers(0, 9, 40).astype(float), random.integers(0, 7, 30).astype(float)
    higher = members[:, None] - outsiders[None]
    assert area(members, outsiders) == pytest.approx(((higher > 0) + 0.5 * (higher == 0)).mean())
    figure = area_figure("a", members, outsiders, random)
    assert figure.interval_95 is not None
    assert figure.interval_95[0] < (figure.value or 0) < figure.interval_95[1]


def test_an_attack_is_allowed_its_false_positives_and_not_one_more() -> None:
    outsiders = np.arange(200.0)  # 1 % is two: 199 and 198
    for score, found in ((197.0, 0.0), (197.5, 1.0), (198.0, 1.0)):
        assert found_at("a", np.full(10, score), outsiders, 0.01).value == found
    assert found_at("a", np.zeros(10), np.arange(99.0), 0.01).n == 0  # one of 99 is more than 1 %


def test_the_curve_goes_from_nobody_to_everybody() -> None:
    points = curve(np.array([1.0, 3.0]), np.array([0.0, 2.0]), points=3)
    assert points == [
        {"false_positives": 0.0, "found": 0.5},
        {"false_positives": 0.5, "found": 1.0},
        {"false_positives": 1.0, "found": 1.0},
    ]
