"""How far two sets of features lie apart. Features are `n d`, float; the first set is the real one.

None is an "FID" by itself: that name belongs to the Fréchet distance on one Inception network's features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from scipy import linalg
from scipy.spatial.distance import cdist, pdist
from scipy.stats import binomtest

from echosdk.evaluation.intervals import HALVES, Z, half_sample_error
from echosdk.evaluation.measurement import Direction, Floor, Measured

Features = NDArray[Any]
PRECISION_NEIGHBOURS = 3  # Kynkäänniemi et al. 2019
DENSITY_NEIGHBOURS = 5  # Naeem et al. 2020
FLOORS = 20


def frechet_distance(real: Features, made: Features) -> float:
    """Return the Fréchet distance of the two sets' normal approximations (Dowson and Landau 1982; Heusel et al. 2017).

    |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2). With C = R^T R the last trace is the sum of the singular values
    of R1 R2^T, which needs no root of a matrix that is singular, as a covariance of fewer items than features is.
    """
    roots = [_root(items) for items in (real, made)]
    shared = linalg.svdvals(roots[0] @ roots[1].T).sum()
    spread = sum(float((root**2).sum()) for root in roots)
    moved = float(((real.mean(0) - made.mean(0)) ** 2).sum())
    return max(0.0, moved + spread - 2 * float(shared))


def kernel_distance(real: Features, made: Features) -> float:
    """Return the unbiased squared maximum mean discrepancy of the cubic kernel (Bińkowski et al. 2018, equation 4).

    It may be negative: its expectation is 0 where the two sets have one distribution.
    """
    d = real.shape[1]

    def kernel(a: Features, b: Features) -> Features:
        products: Features = (a @ b.T / d + 1) ** 3
        return products

    own = 0.0
    for items in (real, made):
        square, n = kernel(items, items), len(items)
        own += (square.sum() - np.trace(square)) / (n * (n - 1))
    return float(own - 2 * kernel(real, made).mean())


def precision(real: Features, made: Features) -> float:
    """Return the share of made items that lie within the real set (Kynkäänniemi et al. 2019)."""
    return float((cdist(made, real) <= _radii(real, PRECISION_NEIGHBOURS)).any(1).mean())


def recall(real: Features, made: Features) -> float:
    """Return the share of real items that lie within the made set."""
    return precision(made, real)


def density(real: Features, made: Features) -> float:
    """Return in how many real neighbourhoods a made item lies, over how many are expected (Naeem et al. 2020)."""
    inside = cdist(made, real) <= _radii(real, DENSITY_NEIGHBOURS)
    return float(inside.sum(1).mean() / DENSITY_NEIGHBOURS)


def coverage(real: Features, made: Features) -> float:
    """Return the share of real items with a made one in their neighbourhood."""
    return float((cdist(real, made).min(1) <= _radii(real, DENSITY_NEIGHBOURS)).mean())


def diversity(real: Features, made: Features) -> float:
    """Return the mean distance between two made items over that between two real ones: 0 where all are alike."""
    return float(pdist(made).mean() / pdist(real).mean())


@frozen
class SetMeasure:
    """A measure of two sets, its direction, and the least that it can be; a share of the items is at most 1."""

    name: str
    direction: Direction
    of: Callable[[Features, Features], float]
    least: float = 0.0
    share: bool = False


SET_MEASURES = (
    SetMeasure("Fréchet distance", "lower", frechet_distance),
    SetMeasure("kernel distance", "lower", kernel_distance, float("-inf")),
    SetMeasure("precision", "higher", precision, share=True),
    SetMeasure("recall", "higher", recall, share=True),
    SetMeasure("density", "higher", density),
    SetMeasure("coverage", "higher", coverage, share=True),
    SetMeasure("diversity", "one", diversity),
)
FEWEST = 2 * (DENSITY_NEIGHBOURS + 2)
"""Items of a set: half of them still have the neighbours that are asked for."""


def measure_sets(
    real: Features,
    made: Features,
    *,
    features: str,
    against: str,
    seed: int = 0,
    names: Mapping[str, str] = MappingProxyType({}),
    sources: int = 0,
) -> list[Measured]:
    """Measure `made` (`n d`) against as many drawn from `real` (at least `2 n d`); rows are independent of each other.

    `names` says what a measure is called on these features, where it has a name of its own there. The first `sources`
    of the real items are those that something was made of: none is compared with what became of it.

    The floor is that of disjoint halves of the real set, each of n: the mean and the 95 % range over random halvings.
    """
    n = len(made)
    if len(real) < max(2 * n, sources + n) or n < FEWEST:
        raise ValueError(f"{len(made)} items want at least {2 * n} real ones, not {len(real)}, and {FEWEST} at least")
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(real)) for _ in range(FLOORS)]
    halvings = [order[: 2 * n] for order in orders]
    chosen = real[orders[0][orders[0] >= sources][:n]]
    found = []
    for measure in SET_MEASURES:
        value, first, last = with_interval(measure, chosen, made, seed)
        floors = [measure.of(real[rows[:n]], real[rows[n:]]) for rows in halvings]
        low, high = np.quantile(floors, (0.025, 0.975))
        found.append(
            Measured(
                name=f"{names.get(measure.name, measure.name)} ({features})",
                direction=measure.direction,
                n=n,
                value=value,
                low=first,
                high=last,
                interval=HALVES,
                against=against,
                floor=Floor(value=float(np.mean(floors)), low=float(low), high=float(high), n=n),
            )
        )
    return found


def with_interval(
    measure: SetMeasure, real: Features, made: Features, seed: int = 0, resamples: int = 100
) -> tuple[float, float, float]:
    """Return the measure of two sets of n, and the ends of its 95 % interval.

    It is about what is expected of sets of that size.
    """
    value = measure.of(real, made)
    reach = Z * half_sample_error(measure.of, real, made, seed, resamples)
    low, high = max(measure.least, value - reach), value + reach
    if measure.share:  # none of 30 does not mean none: half-samples of it have no spread
        exact = binomtest(round(value * len(made)), len(made)).proportion_ci(0.95, "exact")
        low, high = min(low, exact.low), min(1.0, max(high, exact.high))
    return value, float(low), float(high)


def _root(items: Features) -> Features:
    """Return R with R^T R the covariance of the items."""
    centred = items - items.mean(0)
    root: Features = linalg.qr(centred, mode="r")[0][: min(centred.shape)] / np.sqrt(len(items) - 1)
    return root


def _radii(items: Features, neighbours: int) -> Features:
    """Return each item's distance to its k-th nearest other."""
    return np.partition(cdist(items, items), neighbours, axis=1)[:, neighbours]
