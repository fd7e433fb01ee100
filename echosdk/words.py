"""Words for numbers of things."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """Write how many there are: `1 video`, `2 videos`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
