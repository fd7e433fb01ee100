"""What a measure says: never a bare number, but with its direction, sample size, interval and floor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen
from attrs.validators import ge, in_

Direction = Literal["lower", "higher", "one", "zero"]
BETTER: dict[Direction, str] = {
    "lower": "lower is better",
    "higher": "higher is better",
    "one": "1 is best",
    "zero": "0 is best",
}


@frozen(kw_only=True)
class Floor:
    """What real data scores against other real data of the same size: no dataset can be asked for more."""

    value: float
    low: float
    high: float
    n: int = field(validator=ge(1))


@frozen(kw_only=True)
class Measured:
    """One figure. `n` counts independent units (videos, one of a patient); `low` and `high` are the 95 % interval.

    `against` is the real split that it was compared with, empty where it needs none; `interval` says how it was found.
    """

    name: str
    direction: Direction = field(validator=in_(tuple(BETTER)))
    n: int = field(validator=ge(1))
    value: float
    low: float
    high: float
    interval: str
    against: str = ""
    floor: Floor | None = None

    def interval_in_words(self, digits: str = ".4g") -> str:
        """Return the interval for people; of a single item there is none."""
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return "no interval"
        return f"{self.low:{digits}} to {self.high:{digits}}"


@frozen(kw_only=True)
class NotComputed:
    """A figure that could not be had: why, and what would get it."""

    name: str
    why: str
    remedy: str = ""


def finite(value: Any) -> Any:
    """Return plain values for JSON, in which a number that is none, or infinite, is null."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
