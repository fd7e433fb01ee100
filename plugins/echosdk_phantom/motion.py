"""How the simulated heart moves: the volume curve of a cycle, and where each point was at end-diastole."""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from echosdk_phantom.anatomy import Array, Patient, borders, row_of

SYSTOLE = 0.38
"""Share of the cycle from end-diastole (phase 0) to end-systole."""


def _ramp(phase: NDArray[np.float64], start: float, end: float) -> NDArray[np.float64]:
    value = np.clip((phase - start) / (end - start), 0, 1)
    return value * value * (3 - 2 * value)


def filling(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how full the ventricle is, 1 at end-diastole and 0 at end-systole, for phases in cycles.

    Ejection lasts until `SYSTOLE`; after a short isovolumic pause come early filling, diastasis and the atrial kick.
    """
    phase = np.mod(phase, 1)
    return 1 - _ramp(phase, 0.02, SYSTOLE) + 0.76 * _ramp(phase, SYSTOLE + 0.04, 0.66) + 0.24 * _ramp(phase, 0.80, 0.99)


def valve_opening(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the mitral valve is open, 0 to 1: wide in early filling (E), less in the atrial kick (A)."""
    phase = np.mod(phase, 1)
    early = _ramp(phase, SYSTOLE + 0.02, 0.50) * (1 - 0.72 * _ramp(phase, 0.56, 0.72))
    late = 0.55 * _ramp(phase, 0.78, 0.87) * _ramp(phase, 0.36, 0.78)
    return np.clip(early + late, 0, 1) * (1 - _ramp(phase, 0.91, 1.0))


@frozen(kw_only=True)
class Squeeze:
    """The state of the heart in one frame, as ratios to end-diastole."""

    full: float
    length: float
    width: float


def squeeze(p: Patient, full: float) -> Squeeze:
    """Shorten and narrow the ventricle so that its volume is exactly that of the curve.

    The cavity only ever changes by one factor along and one across its axis, so volume = length * width ** 2 of what
    it was, whatever its shape.
    """
    lost = p.ejection_fraction / 100
    length = 1 - p.long_axis_share * lost * (1 - full)
    return Squeeze(full=full, length=length, width=float(np.sqrt((1 - lost * (1 - full)) / length)))


def to_end_diastole(p: Patient, s: Squeeze, x: Array, z: Array, near: Array) -> tuple[Array, Array]:
    """Say where points of the heart in state `s` lie at end-diastole.

    Along the axis: the apex stays, the base comes down to it, the atria stretch, their roof stays. Across: the cavity
    narrows, the wall thickens, the right heart's free wall comes in. `near` (1 in the heart, 0 far away) fades it all.
    """
    b = borders(p)
    f = np.float32
    base = b.annulus * s.length
    stretch = (b.roof - b.annulus) / (b.roof - base)
    along = np.clip(z, 0, f(base)) * f(1 / s.length) + np.clip(z - f(base), 0, f(b.roof - base)) * f(stretch)
    along += np.minimum(z, 0) + np.maximum(z - f(b.roof), 0)
    along = z + (along - z) * near

    row = row_of(along)
    axis = b.axis[row]
    across = x - axis
    septal = across < 0
    row += septal * np.int32(b.z.size)
    distance = np.abs(across)
    inner, outer, far, follow = (np.take(table, row) for table in (b.inner, b.outer, b.far, b.follow))

    # How far each border has come in
    moved_inner = inner * follow * f(1 - s.width)
    moved_outer = moved_inner * f(p.epicardial_motion)
    moved_far = (far - outer) * follow * f(p.rv_shortening * (1 - s.full)) * septal + f(0.5) * moved_outer

    # Piecewise linear from border to border; outside, the motion fades
    now_inner, now_outer, now_far = inner - moved_inner, outer - moved_outer, far - moved_far
    shift = np.minimum(distance, now_inner) * (moved_inner / np.maximum(now_inner, f(1e-4)))
    shift += _between(distance, now_inner, now_outer) * (moved_outer - moved_inner)
    shift += _between(distance, now_outer, now_far) * (moved_far - moved_outer)
    shift -= np.clip((distance - now_far) * f(1 / 0.15), 0, 1) * moved_far
    distance += shift
    return np.where(septal, -distance, distance) + axis, along


def _between(distance: Array, low: Array, high: Array) -> Array:
    share: Array = np.clip((distance - low) / np.maximum(high - low, np.float32(1e-4)), 0, 1)
    return share
