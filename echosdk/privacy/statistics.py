"""Figures of an audit, each with its direction, sample size and interval."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from scipy import stats

Better = Literal["higher", "lower", "neither"]
Array = NDArray[np.float64]
RESAMPLES = 1000


@frozen(kw_only=True)
class Figure:
    """One figure: which way is better, of how many (`n` of `what`), and its 95 % interval.

    Where nothing could be measured `n` is 0, there is no value, and `note` says why.
    """

    name: str
    better: Better
    n: int
    what: str
    value: float | None = None
    interval_95: tuple[float, float] | None = None
    note: str = ""


def share(name: str, hits: int, n: int, *, better: Better, what: str, note: str = "") -> Figure:
    """Return a share with its exact (Clopper-Pearson) interval."""
    if not n:
        return Figure(name=name, better=better, n=0, what=what, note=note or "nothing to measure it on")
    interval = stats.binomtest(hits, n).proportion_ci(0.95, "exact")
    both = (float(interval.low), float(interval.high))
    return Figure(name=name, better=better, n=n, what=what, value=hits / n, interval_95=both, note=note)


def median(name: str, values: Array, *, better: Better, what: str, note: str = "") -> Figure:
    """Return a median with its distribution-free interval: two of the ordered values, by the binomial law."""
    n = len(values)
    if not n:
        return Figure(name=name, better=better, n=0, what=what, note=note or "nothing to measure it on")
    ordered = np.sort(values)
    below = int(stats.binom.ppf(0.025, n, 0.5))
    low, high = ordered[max(0, below - 1)], ordered[min(n - 1, n - below)]
    middle = float(np.median(values))
    return Figure(
        name=name, better=better, n=n, what=what, value=middle, interval_95=(float(low), float(high)), note=note
    )


def area(members: Array, outsiders: Array) -> float:
    """Return the area under the ROC curve of scores that are to be higher for members; ties count half."""
    ranks = stats.rankdata(np.concatenate([members, outsiders]))
    rank_sum = ranks[: len(members)].sum() - len(members) * (len(members) + 1) / 2
    return float(rank_sum / (len(members) * len(outsiders)))


def area_figure(name: str, members: Array, outsiders: Array, random: np.random.Generator) -> Figure:
    """Return the area under the ROC curve with the interval of `RESAMPLES` bootstrap samples of both groups."""
    what = f"members, and {len(outsiders)} outsiders"
    if not len(members) or not len(outsiders):
        return Figure(name=name, better="lower", n=0, what=what, note="nothing to measure it on")
    drawn = [
        area(random.choice(members, len(members)), random.choice(outsiders, len(outsiders))) for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Figure(
        name=name, better="lower", n=len(members), what=what, value=area(members, outsiders),
        interval_95=(float(low), float(high)), note="0.5 is guessing; bootstrap of patients",
    )  # fmt: skip


def found_at(name: str, members: Array, outsiders: Array, false_positives: float) -> Figure:
    """Return the share of members that score above all but `false_positives` of the outsiders.

    Not measured where not even one outsider may score higher: the attack would be held to a rate that is not its own.
    """
    allowed = math.floor(false_positives * len(outsiders) + 1e-9)
    what = f"members, at {allowed} of {len(outsiders)} outsiders"
    if not len(members) or not allowed:
        note = f"wants members, and outsiders of whom {false_positives:.1%} are at least one"
        return Figure(name=name, better="lower", n=0, what=what, note=note)
    limit = np.sort(outsiders)[len(outsiders) - 1 - allowed]
    note = f"{false_positives:.1%} is guessing; the interval holds the threshold fixed"
    return share(name, int((members > limit).sum()), len(members), better="lower", what=what, note=note)


def curve(members: Array, outsiders: Array, points: int = 101) -> list[dict[str, float]]:
    """Return the ROC curve: at evenly spaced shares of false positives, the share of members found."""
    if not len(members) or not len(outsiders):
        return []
    ordered = np.sort(outsiders)[::-1]
    rates = np.linspace(0, 1, points)
    allowed = np.minimum(np.floor(rates * len(ordered) + 1e-9).astype(int), len(ordered))
    limits = np.append(ordered, -np.inf)[allowed]
    return [
        {"false_positives": float(rate), "found": float((members > limit).mean())}
        for rate, limit in zip(rates, limits, strict=True)
    ]


def plain(figure: Figure) -> dict[str, Any]:
    """Return a figure for JSON."""
    return {
        "name": figure.name,
        "value": figure.value,
        "interval_95": None if figure.interval_95 is None else list(figure.interval_95),
        "n": figure.n,
        "of": figure.what,
        "better": figure.better,
        "note": figure.note,
    }
