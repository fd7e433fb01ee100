"""The mitral and tricuspid leaflets, drawn as rows of blurred points."""

from __future__ import annotations

import numpy as np

from echosdk_phantom.anatomy import Array, Patient, borders, place, row_of
from echosdk_phantom.motion import Squeeze
from echosdk_phantom.view import undrift


def valve_echo(p: Patient, states: tuple[Squeeze, ...], drift: Array, opening: Array, size: int) -> Array:
    """Return the power of the echo of the mitral and tricuspid leaflets, `t h w`: rows of blurred points."""
    b = borders(p)
    along = np.linspace(0, 1, 14)[None]
    full = np.array([s.full for s in states])[:, None]
    width = np.array([s.width for s in states])[:, None]
    length = np.array([s.length for s in states])[:, None]
    opening = opening[:, None]
    base = row_of(np.array([b.annulus - 2e-3]))[0]
    middle = float(b.axis[base])
    septal_hinge = middle - b.inner[1, base] * width
    lateral_hinge = middle + b.inner[0, base] * width
    gap = lateral_hinge - septal_hinge
    points_x: list[Array] = []
    points_z: list[Array] = []
    # Each leaflet swings from its hinge: shut across the annulus with a slight tent, open towards the apex
    for hinge, side, reach, share in (
        (septal_hinge, 1, p.anterior_leaflet, 0.58),
        (lateral_hinge, -1, p.posterior_leaflet, 0.42),
    ):
        swing = 0.25 + opening * (1.15 if side > 0 else 1.3)
        size_ = share * gap * (1 + (reach - 1) * opening * 0.8)
        curl = swing - 0.5 * opening * along
        points_x.append(hinge + side * size_ * along * np.cos(curl))
        points_z.append(b.annulus * length - size_ * along * np.sin(curl) + 0 * hinge)
    tricuspid = row_of(np.array([b.tricuspid]))[0]
    drop = b.tricuspid * length
    hinge = middle - (b.outer[1, tricuspid] - b.inner[1, tricuspid] * (1 - width) * p.epicardial_motion)
    across = float(b.far[1, tricuspid] - b.outer[1, tricuspid]) * (1 - p.rv_shortening * (1 - full))
    for start, side in ((hinge, -1), (hinge - across, 1)):
        swing = 0.15 + 1.1 * opening
        points_x.append(start + side * 0.5 * across * along * np.cos(swing))
        points_z.append(drop - 0.5 * across * along * np.sin(swing))
    x, z = np.concatenate(points_x, 1), np.concatenate(points_z, 1)
    uneven: Array = np.power(10, np.random.default_rng([p.seed, p.number, 3, 5]).uniform(-1.6, 0.0, x.shape[1]))
    uneven[: 2 * along.size] *= 10 ** (p.valve_db / 10)
    uneven[2 * along.size :] *= 10 ** ((p.valve_db - 10) / 10)

    shift = drift.T[:, :, None]
    column, row = place(p, *undrift(x, z, shift))
    centre = (np.arange(size) + 0.5) / size
    lateral = 0.006 + 0.009 * row
    in_columns = np.exp(-(((column[..., None] - centre) / lateral[..., None]) ** 2)).astype(np.float32)
    in_rows = np.exp(-(((row[..., None] - centre) / 0.0075) ** 2)).astype(np.float32)
    in_rows *= uneven[:, None].astype(np.float32)
    echo: Array = np.swapaxes(in_rows, 1, 2) @ in_columns
    return echo
