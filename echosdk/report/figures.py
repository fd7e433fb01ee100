"""How a report writes figures: with direction and interval, and what could not be had as that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from echosdk.report.page import NO_BREAK, Html, element

BETTER = {
    "lower": "lower is better",
    "higher": "higher is better",
    "one": "1 is best",
    "zero": "0 is best",
    "neither": "",
}


def number(value: float | None) -> str:
    """Return three digits, or that there is none."""
    return f"not{NO_BREAK}measured" if value is None else f"{value:.3g}"


def figure(found: Mapping[str, Any]) -> str:
    """Return a value and its interval; of a single item there is none."""
    if found["value"] is None:
        return number(None)
    if found["low"] is None or found["high"] is None:
        return f"{number(found['value'])} (no{NO_BREAK}interval)"
    return f"{number(found['value'])} ({number(found['low'])} to {number(found['high'])})"


def missing(not_computed: Sequence[Mapping[str, Any]]) -> list[Html]:
    """Return what was not computed, why, and what would get it."""
    if not not_computed:
        return []
    said = [
        element("li", f"{each['name']}: {each['why']}.", f" Get it: {each['remedy']}" if each["remedy"] else "")
        for each in not_computed
    ]
    return [element("p", "Not computed:"), element("ul", *said, class_="claims")]
