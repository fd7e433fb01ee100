"""What benchmarks/memorisation.py draws."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import memorisation


def test_the_drawing_shows_every_filter_with_its_interval() -> None:
    def share(value: float) -> dict[str, Any]:
        return {"value": value, "interval_95": [value - 0.1, value + 0.1], "n": 10}

    rows = [
        {"filter": name, "references": "few", "copies rejected": share(0.8), "strangers rejected": share(0.1)}
        for name in memorisation.FILTERS
    ]
    drawn = memorisation.drawing(rows)
    assert all(what in drawn for what in memorisation.FILTERS.values())
    assert drawn.count("<circle") == 2 * len(rows) + len(memorisation.INKS)
    left, wide = 360, 320
    assert f'd="M{left + wide * 0.7:.1f} ' in drawn
    assert f'cx="{left + wide * 0.8:.1f}"' in drawn
