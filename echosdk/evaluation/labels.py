"""Does a video show what it was asked to show? A label read again by the downstream validator, against what was asked.

The reading errs by itself: the floor is its error on real held-out videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echosdk.evaluation.continuity import WindowError
from echosdk.evaluation.intervals import BOOTSTRAP, Z, mean_interval, statistic_interval
from echosdk.evaluation.measurement import Floor, Measured
from echosdk.interfaces import Label

Values = NDArray[Any]
BINS = 5


def measure_labels(
    label: Label, asked: Values, read: Values, real: Values, real_read: Values, seed: int = 0
) -> list[Measured]:
    """Measure a numeric label of n videos: over all, by what was asked for; and of real ones for the floor."""
    unit = f" in {label.unit}" if label.unit else ""
    own = np.abs(real_read - real)
    low, high = mean_interval(own, seed)
    floor = Floor(value=float(own.mean()), low=low, high=high, n=len(own))
    found = [
        _mean(np.abs(read - asked), f"{label.name}: absolute error{unit}", "lower", seed, floor),
        _mean(read - asked, f"{label.name}: bias{unit}", "zero", seed),
    ]
    if np.std(asked) and np.std(read):
        low, high = statistic_interval(lambda rows: _correlations(asked[rows], read[rows]), len(asked), seed)
        found.append(
            Measured(
                name=f"{label.name}: correlation of read and asked",
                direction="higher",
                n=len(asked),
                value=float(np.corrcoef(asked, read)[0, 1]),
                low=low,
                high=high,
                interval=BOOTSTRAP,
            )
        )
    edges = np.linspace(label.low, label.high, BINS + 1)
    place = np.clip(np.digitize(asked, edges) - 1, 0, BINS - 1)
    for i in range(BINS):
        inside = place == i
        if inside.sum() > 1:
            name = f"{label.name} {edges[i]:g} to {edges[i + 1]:g}"
            error = (read - asked)[inside]
            found.append(_mean(np.abs(error), f"{name}: absolute error{unit}", "lower", seed))
            found.append(_mean(error, f"{name}: bias{unit}", "zero", seed))
    return found


def measure_windows(label: Label, windows: Sequence[WindowError]) -> list[Measured]:
    """Say the label's absolute error in each window that the animator made."""
    unit = f" in {label.unit}" if label.unit else ""
    return [
        Measured(
            name=f"{label.name}, frames {window.first} to {window.last}: absolute error{unit}",
            direction="lower",
            n=window.videos,
            value=window.mae,
            low=max(0.0, window.mae - Z * window.standard_error),
            high=window.mae + Z * window.standard_error,
            interval="standard error",
        )
        for window in windows
    ]


def _mean(values: Values, name: str, direction: Any, seed: int, floor: Floor | None = None) -> Measured:
    low, high = mean_interval(values, seed)
    return Measured(
        name=name,
        direction=direction,
        n=len(values),
        value=float(values.mean()),
        low=low,
        high=high,
        interval=BOOTSTRAP,
        floor=floor,
    )


def _correlations(a: Values, b: Values) -> Values:
    """Return the correlation of each row; NaN where a resample has one value alone."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Values = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return found
