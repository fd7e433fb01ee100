"""JSON and TOML that somebody else wrote: read within bounds, so that what is absurd is an error and never a crash."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from typing import Any

DEEPEST = 64
"""How many tables and lists may lie in each other."""


def read_json(text: str | bytes) -> Any:
    """Return what a JSON text says. Raises `ValueError`, in a line, for one that cannot be read."""
    return _shallow(json.loads, text)


def read_toml(text: str) -> dict[str, Any]:
    """Return what a TOML text says. Raises `ValueError` (`tomllib.TOMLDecodeError` for a wrong form), in a line."""
    table: dict[str, Any] = _shallow(tomllib.loads, text)
    return table


def _shallow(read: Callable[[Any], Any], text: str | bytes) -> Any:
    try:
        whole = read(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [whole]
    for _ in range(DEEPEST + 1):
        level = [item for one in level for item in _inside(one)]
        if not level:
            return whole
    raise ValueError(_TOO_DEEP)


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


_TOO_DEEP = f"more than {DEEPEST} tables and lists lie in each other"
