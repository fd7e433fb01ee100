"""How readings agree with the truth, clip by clip: what a scatter plot, a Bland-Altman plot and a ROC curve show.

A plot needs a point for each clip, and a patient's exact label is in the hospital's files: so points are rounded to a
hundredth of the label's range, counted, and sorted by value. No order and no name leads back to a patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from echosdk.evaluation.intervals import RESAMPLES, Z, middle
from echosdk.evaluation.measurement import Measured
from echosdk.evaluation.noninferiority import patient_weights
from echosdk.evaluation.rows import PATIENTS
from echosdk.interfaces import Label

Array = NDArray[Any]

STEPS = 100
"""Across the label's range: to so much a point is rounded."""
CURVE_POINTS = 51


@frozen(kw_only=True)
class Roc:
    """How well readings tell clips whose label is under `cutoff` from the others.

    `below` clips of all are under it; `curve` pairs the share of the others that are taken for them with the share of
    them that is found, meaned over trainings.
    """

    cutoff: float
    below: int
    area: Measured
    curve: tuple[tuple[float, float], ...]


@frozen(kw_only=True)
class Agreement:
    """The readings of one row of table 4. `lower` and `upper` are the limits of agreement (Bland and Altman 1986).

    `cells` are true label, reading, and how many readings of all trainings are there, each rounded.
    """

    trained_on: str
    tested_on: str
    bias: Measured
    lower: Measured
    upper: Measured
    roc: tuple[Roc, ...]
    cells: tuple[tuple[float, float, int], ...]


def make_agreement(
    trained_on: str,
    tested_on: str,
    read: Array,
    true: Array,
    patients: Array,
    label: Label,
    cutoffs: Sequence[float] = (),
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Return how readings `s n` of n clips agree with their labels, meaned over seeds, with patients resampled.

    A cut-off that no clip is under, or none over, has no ROC curve and is left out.
    """
    groups, place = np.unique(patients, return_inverse=True)
    useful = [cutoff for cutoff in cutoffs if 0 < (true < cutoff).sum() < len(true)]
    orders = [[_Ranked.of(-each, true < cutoff) for each in read] for cutoff in useful]

    def figures(weights: Array) -> Array:
        """Return bias, both limits and each cut-off's area for each row of clips' weights `b n`."""
        limits = np.mean([_limits(each - true, weights) for each in read], 0)
        areas = [np.mean([ranked.area(weights) for ranked in order], 0) for order in orders]
        return np.stack([*limits, *areas])

    point = figures(np.ones((1, len(true))))[:, 0]
    drawn = [figures(w[:, place].astype(float)) for w in patient_weights(len(groups), resamples, seed)]
    low = high = np.full_like(point, np.nan)  # of one patient nobody knows
    if len(groups) > 1:
        low, high = middle(np.concatenate(drawn, 1))

    def measured(name: str, direction: Any, i: int) -> Measured:
        return Measured(
            name=name,
            direction=direction,
            n=len(groups),
            value=float(point[i]),
            low=float(low[i]),
            high=float(high[i]),
            interval=PATIENTS,
            against=tested_on,
        )

    return Agreement(
        trained_on=trained_on,
        tested_on=tested_on,
        bias=measured("bias", "zero", 0),
        lower=measured("lower limit of agreement", "zero", 1),
        upper=measured("upper limit of agreement", "zero", 2),
        roc=tuple(
            Roc(
                cutoff=float(cutoff),
                below=int((true < cutoff).sum()),
                area=measured(f"area under the ROC curve, {label.name} under {cutoff:g}", "higher", 3 + i),
                curve=_curve(order),
            )
            for i, (cutoff, order) in enumerate(zip(useful, orders, strict=True))
        ),
        cells=_cells(read, true, label),
    )


@frozen
class _Ranked:
    """Scores in order, the equal ones in one group: `first` of each group, and who is positive."""

    order: Array
    first: Array
    positive: Array

    @classmethod
    def of(cls, scores: Array, positive: Array) -> _Ranked:
        order = np.argsort(scores, kind="stable")
        first = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
        return cls(order, first, positive[order].astype(float))

    def area(self, weights: Array) -> Array:
        """Return the area under the ROC curve for each row of clips' weights `b n`; ties count half."""
        found, others = self._groups(weights)
        under = np.cumsum(others, 1) - others / 2
        with np.errstate(invalid="ignore"):  # a resample may have clips of one side alone
            area: Array = (found * under).sum(1) / (found.sum(1) * others.sum(1))
        return area

    def at(self, rates: Array) -> Array:
        """Return the share that is found where so many of the others are taken for them."""
        found, others = (part[0, ::-1] for part in self._groups(np.ones((1, len(self.order)))))
        across, up = (np.concatenate([[0.0], np.cumsum(part) / part.sum()]) for part in (others, found))
        at: Array = np.interp(rates, across, up)
        # Where the curve goes straight up, interp takes what comes last; at no false positive that is its start
        at[0] = up[across == 0].max()
        return at

    def _groups(self, weights: Array) -> tuple[Array, Array]:
        ordered = weights[:, self.order]
        return tuple(  # type: ignore[return-value]
            np.add.reduceat(ordered * side, self.first, axis=1) for side in (self.positive, 1 - self.positive)
        )


def _limits(error: Array, weights: Array) -> Array:
    """Return bias and limits of agreement, `3 b`, for each row of clips' weights."""
    count = weights.sum(1)
    bias = weights @ error / count
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(np.maximum(0, (weights @ error**2 / count - bias**2) * count / (count - 1)))
    return np.stack([bias, bias - Z * spread, bias + Z * spread])


def _curve(order: Sequence[_Ranked]) -> tuple[tuple[float, float], ...]:
    rates = np.linspace(0, 1, CURVE_POINTS)
    found = np.mean([ranked.at(rates) for ranked in order], 0)
    return tuple((round(float(rate), 4), round(float(share), 4)) for rate, share in zip(rates, found, strict=True))


def _cells(read: Array, true: Array, label: Label) -> tuple[tuple[float, float, int], ...]:
    step = (label.high - label.low) / STEPS
    points = np.round(np.stack([np.broadcast_to(true, read.shape), read], -1).reshape(-1, 2) / step).astype(int)
    counted = Counter(map(tuple, points.tolist()))
    return tuple((round(a * step, 6), round(b * step, 6), count) for (a, b), count in sorted(counted.items()))
