"""Intervals of 95 %: resampled units for means, half-samples for what is no mean.

A distance between two sets (Fréchet's, say) must not be bootstrapped: copies of an item lie at distance zero, and a set
with copies has too little spread, so the resampled distances are too large. Half-samples are drawn without replacement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[Any]

BOOTSTRAP = "bootstrap of videos"
HALVES = "half-samples without replacement"
RESAMPLES = 10_000
CHUNK = 1000
Z = float(stats.norm.ppf(0.975))


def mean_interval(values: Array, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Return the percentile interval of a mean of independent values `n`."""
    return statistic_interval(lambda rows: values[rows].mean(1), len(values), seed, resamples)


def statistic_interval(
    statistic: Callable[[Array], Array], n: int, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the percentile interval of a statistic of n independent units; it is given rows of their numbers `b n`.

    Of a single unit there is none: NaN, as where the statistic often has no value (see `middle`).
    """
    if n < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    found = [statistic(rng.integers(n, size=(min(CHUNK, resamples - i), n))) for i in range(0, resamples, CHUNK)]
    low, high = middle(np.concatenate(found))
    return float(low), float(high)


def middle(resampled: Array) -> tuple[Array, Array]:
    """Return the ends of the middle 95 % of resamples, along the last axis.

    NaN where more than 5 % of them have no value, as where a resample often is one patient many times: nobody knows.
    """
    known = np.isnan(resampled).mean(-1, keepdims=True) <= 0.05
    low, high = np.nanquantile(np.where(known, resampled, 0.0), (0.025, 0.975), axis=-1)
    return np.where(known[..., 0], low, np.nan), np.where(known[..., 0], high, np.nan)


def half_sample_error(
    statistic: Callable[[Array, Array], float], first: Array, second: Array, seed: int = 0, resamples: int = 100
) -> float:
    """Return the standard error of a statistic of two sets, from random halves of both.

    Of what is nearly a mean, a half drawn without replacement varies about the whole as the whole does about its
    expectation: Var(half) = s2 / (n/2) * (1 - 1/2) = s2 / n (delete-d jackknife; Shao and Wu 1989).
    """
    rng = np.random.default_rng(seed)
    halves = [
        statistic(*(items[rng.permutation(len(items))[: len(items) // 2]] for items in (first, second)))
        for _ in range(resamples)
    ]
    return float(np.std(halves, ddof=1))
