"""What a rate comes to in a dataset of the published size: a small rate of many is many."""

from __future__ import annotations

from typing import Any

from echosdk.privacy.statistics import Figure


def expected(figure: Figure, samples: int, patients: int) -> dict[str, Any] | None:
    """Return how many leaks, or whatever the figure counts, there are in `samples` videos of a model of `patients`.

    `better` is "lower" for all of them. None where the figure is no rate of samples or of patients.
    """
    if figure.value is None or figure.interval_95 is None:
        return None
    low, high = figure.interval_95
    kind = figure.name.partition(".")[0]
    if kind in ("probe", "enrolled"):
        what = f"leaks, were each of {samples} samples such a copy"
        return _of(samples, 1 - figure.value, 1 - high, 1 - low, what)
    if kind == "membership" and ".found-at-" in figure.name:
        return _of(patients, figure.value, low, high, f"of {patients} training patients found by this attack")
    if kind == "records" and ".authentic" in figure.name:
        return _of(samples, 1 - figure.value, 1 - high, 1 - low, f"of {samples} samples not authentic; innocents too")
    if kind == "records" and figure.name.endswith(".nearer-to-training"):
        return _of(samples, figure.value, low, high, f"of {samples} samples; half of them where nothing is copied")
    if kind == "duplicates":
        return _of(samples, figure.value, low, high, f"of {samples} samples")
    if kind == "innocents":
        return _of(samples, figure.value, low, high, f"unrelated samples rejected and drawn again, of {samples}")
    return None


def _of(number: int, rate: float, low: float, high: float, what: str) -> dict[str, Any]:
    return {"value": number * rate, "interval_95": [number * low, number * high], "of": what}
