"""Does a video show what it was asked to show? A label read again by the downstream validator, against what was asked.

The reading errs by itself: the floor is its error on real held-out videos, those of the same bin, or the same window.
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
    found = _errors(label, label.name, read - asked, real_read - real, seed)
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
    place, true = (np.clip(np.digitize(values, edges) - 1, 0, BINS - 1) for values in (asked, real))
    for i in range(BINS):
        if (place == i).sum() > 1:
            name = f"{label.name} {edges[i]:g} to {edges[i + 1]:g}"
            found += _errors(label, name, (read - asked)[place == i], (real_read - real)[true == i], seed)
    return found


def measure_windows(label: Label, windows: Sequence[WindowError], real: Values, seed: int = 0) -> list[Measured]:
    """Say the label's absolute error in each of w windows that the animator made.

    `real` are the errors `m w` in the same frames of real videos, for the floor; NaN where one is too short.
    """
    unit = _unit(label)
    return [
        Measured(
            name=f"{label.name}, frames {window.first} to {window.last}: absolute error{unit}",
            direction="lower",
            n=window.videos,
            value=window.mae,
            low=max(0.0, window.mae - Z * window.standard_error),
            high=window.mae + Z * window.standard_error,
            interval="standard error",
            floor=_floor(np.abs(errors[np.isfinite(errors)]), seed),
        )
        for window, errors in zip(windows, real.T, strict=True)
    ]


def _errors(label: Label, name: str, errors: Values, real: Values, seed: int) -> list[Measured]:
    """Measure the size of errors, and their bias, with those of real videos as the floor."""
    unit = _unit(label)
    return [
        _mean(np.abs(errors), f"{name}: absolute error{unit}", "lower", seed, _floor(np.abs(real), seed)),
        _mean(errors, f"{name}: bias{unit}", "zero", seed, _floor(real, seed)),
    ]


def _floor(values: Values, seed: int) -> Floor | None:
    """Return the mean of what was found on real videos; there is none of fewer than two."""
    if len(values) < 2:
        return None
    low, high = mean_interval(values, seed)
    return Floor(value=float(values.mean()), low=low, high=high, n=len(values))


def _unit(label: Label) -> str:
    return f" in {label.unit}" if label.unit else ""


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
