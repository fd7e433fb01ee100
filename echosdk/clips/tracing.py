"""Tracings: outlines in the two frames between which a quantity is measured, where a data source knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from attrs import field, frozen

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def _pair(value: tuple[Any, Any]) -> tuple[Any, ...]:
    return tuple(value)


def _lines(value: tuple[ArrayLike, ArrayLike]) -> tuple[NDArray[np.float64], ...]:
    return tuple(np.asarray(lines, dtype=np.float64) for lines in value)


@frozen(kw_only=True, eq=False)
class Tracing:
    """What is measured in one clip, traced where it is largest (first of each pair) and smallest (second).

    `frames` are the numbers of the two frames between which it is measured, counted from 0. `volumes` are in mL.
    `lines` are two arrays `n 4` of X1, Y1, X2, Y2 in pixels, x to the right and y down; the first line is the long
    axis, and the others run across it.
    """

    frames: tuple[int, int] = field(converter=_pair)
    volumes: tuple[float, float] = field(converter=_pair)
    lines: tuple[NDArray[np.float64], NDArray[np.float64]] = field(converter=_lines, repr=False)

    @frames.validator
    def _check_frames(self, _attribute: object, frames: tuple[int, int]) -> None:
        if len(frames) != 2 or min(frames) < 0:
            raise ValueError(f"tracing: frames must be two frame numbers from 0, got {frames}")

    @volumes.validator
    def _check_volumes(self, _attribute: object, volumes: tuple[float, float]) -> None:
        if len(volumes) != 2 or not all(0 < volume < float("inf") for volume in volumes):
            raise ValueError(f"tracing: volumes must be two positive numbers of mL, got {volumes}")

    @lines.validator
    def _check_lines(self, _attribute: object, lines: tuple[NDArray[np.float64], ...]) -> None:
        if len(lines) != 2 or any(each.ndim != 2 or each.shape[1] != 4 or len(each) == 0 for each in lines):
            shapes = [each.shape for each in lines]
            raise ValueError(f"tracing: lines must be two arrays n x 4 (X1, Y1, X2, Y2), got shapes {shapes}")
        if not all(np.isfinite(each).all() for each in lines):
            raise ValueError("tracing: lines must be finite numbers")


@runtime_checkable
class Traced(Protocol):
    """What a data source may offer besides its clips; nothing in the SDK requires it."""

    def tracings(self, clip_id: str) -> Tracing | None:
        """Return the tracing of one clip, or None where it has none."""
