"""Where pixels lie: in the image, in the probe's sector and in the heart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from echosdk_phantom.anatomy import Array, Patient, borders, unplace


def pixels(size: int) -> tuple[Array, Array]:
    """Return the centres of the pixels, row by row, in image sides."""
    centre = (np.arange(size, dtype=np.float32) + 0.5) / size
    return np.tile(centre, size), np.repeat(centre, size)


def heart_axes(p: Patient, column: Array, row: Array, drift: Array) -> tuple[Array, Array]:
    """Map the image to heart axes, the probe having drifted by (x, z, turn)."""
    x, z = unplace(p, column, row)
    return x - drift[0] - drift[2] * z, z - drift[1] + drift[2] * x


def undrift(x: Array, z: Array, drift: Array) -> tuple[Array, Array]:
    """Undo the drift in `heart_axes`: say where points of the heart lie before `place`."""
    x, z = x + drift[0], z + drift[1]
    return (x + drift[2] * z) / (1 + drift[2] ** 2), (z - drift[2] * x) / (1 + drift[2] ** 2)


def nearness(p: Patient, column: Array, row: Array) -> Array:
    """Return 1 in the heart, falling to 0 away from it."""
    b = borders(p)
    x, _ = unplace(p, column, row)
    beyond = np.maximum(x - b.outer[0].max() - 0.04, -x - b.far[1].max() - 0.04)
    near: Array = 1 - np.clip(beyond / 0.15, 0, 1)
    return near


def polar(p: Patient, column: Array, row: Array) -> tuple[Array, Array]:
    """Return depth under the probe (image sides) and angle to its axis (radians)."""
    right, down = column - p.sector_x, row - p.sector_y
    return np.hypot(right, down), np.arctan2(right, down)


def in_sector(p: Patient, column: Array, row: Array) -> NDArray[np.bool_]:
    """Say which points the probe sees."""
    depth, angle = polar(p, column, row)
    return (np.abs(angle) < p.sector_angle) & (depth < p.sector_depth) & (depth > 0.035)


def decibel(value: Array | float) -> Array:
    """Turn decibels into a ratio of amplitudes."""
    ratio: Array = np.power(10, np.asarray(value, np.float32) / 20)
    return ratio
