"""How much the gate's own rejections show: around a training patient nothing is published.

Of N videos drawn with a share r of rejected stills and finished videos, each of n training patients misses N r / n on
average. Whoever knows the filter and holds a frame of somebody sees whether the place around it is empty; of somebody
else it is empty with a chance of exp(-N r / n). So N r / n = 0.1 leaves an area under the ROC curve of at most 0.55,
and 1 leaves 0.82.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from echosdk.privacy.policy import most
from echosdk.privacy.statistics import Figure

NAME = "holes.rejections-a-patient"
MOST = most(NAME)


def rejections_a_patient(manifest: Mapping[str, Any]) -> Figure:
    """Return N r / n of a dataset's manifest; no value where it is not told or no gate was asked."""
    what = "stills that the gate was asked about, and the videos of those kept"
    rejected = manifest["rejected"]
    rates = [rejected[what] for what in ("stills", "videos") if (rejected.get(what) or {}).get("n")]
    patients = manifest["trained_on"].get("train_patients")
    if not rates or not patients:
        note = "not told, or no gate was asked, or of how many patients is not known"
        return Figure(name=NAME, better="lower", n=0, what=what, note=note)
    each = manifest["counts"]["samples"] / patients
    low, high = (each * sum(rate["interval_95"][end] for rate in rates) for end in (0, 1))
    return Figure(
        name=NAME,
        better="lower",
        n=rates[0]["n"],
        what=what,
        value=each * sum(rate["rate"] for rate in rates),
        interval_95=(low, high),
        note="samples x (share of stills + share of videos rejected) / training patients; so are the intervals' ends",
    )


def most_videos(figure: Figure, videos: int) -> int | None:
    """Return how many videos echosdk's policy allows at this rate (its upper end); None where none was rejected."""
    if not figure.value or figure.interval_95 is None:
        return None
    return math.floor(MOST * videos / figure.interval_95[1] + 1e-9)


def seen(figure: Figure) -> float:
    """Return the largest area under the ROC curve of one who knows the filter, at the upper end of the interval."""
    return 1 - math.exp(-(figure.interval_95 or (0, 0))[1]) / 2
