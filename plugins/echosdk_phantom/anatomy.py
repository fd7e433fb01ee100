"""The simulated patient: what is his own in every video, and the shape of his heart at end-diastole.

Everything here is invented by a random generator. Lengths are in image sides (1 = the height and width of the image).
The heart is described in its own axes: `z` runs from the endocardial apex (0) to the mitral annulus (`lv_length`) and
on into the atria, `x` across it, positive towards the left ventricle's free wall. A heart is a stack of lateral
borders: at each z, the distance from the axis of the inner wall, the outer wall and (on the septal side) the right
heart.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from attrs import field, fields, frozen
from numpy.typing import NDArray

Array = NDArray[Any]
"""Numbers; single precision wherever there is one a pixel."""

LABELS = ("background", "LV cavity", "LV wall", "LA", "RV", "RA")
"""What the numbers in a mask mean."""

Z_FIRST, Z_LAST, Z_COUNT = -0.4, 1.4, 1800


def _drawn(low: float, high: float) -> Any:
    return field(metadata={"range": (low, high)})


@frozen(kw_only=True)
class Patient:
    """One simulated patient; stands for no real one."""

    seed: int
    number: int

    ejection_fraction: float = _drawn(10, 80)  # %
    heart_rate: float = _drawn(52, 108)  # beats a minute
    image_side_cm: float = _drawn(14.5, 18.5)

    apex_aside: float = _drawn(-0.04, 0.055)  # of the probe
    apex_below: float = _drawn(0.155, 0.215)  # the probe
    tilt: float = _drawn(-0.16, 0.12)  # radians
    lv_length: float = _drawn(0.36, 0.49)
    lv_half_width: float = _drawn(0.115, 0.180)
    lv_truncation: float = _drawn(0.30, 0.62)
    lv_asymmetry: float = _drawn(-0.12, 0.12)
    lv_taper: float = _drawn(-0.15, 0.20)
    lv_bow: float = _drawn(-0.03, 0.03)
    septum: float = _drawn(0.040, 0.072)
    free_wall: float = _drawn(0.038, 0.066)
    apex_wall: float = _drawn(0.025, 0.055)
    long_axis_share: float = _drawn(0.24, 0.36)  # of the ejection fraction that is lost in length
    epicardial_motion: float = _drawn(0.38, 0.60)

    rv_width: float = _drawn(0.10, 0.21)
    rv_start: float = _drawn(0.10, 0.38)
    rv_bulge: float = _drawn(0.55, 1.10)
    rv_wall: float = _drawn(0.014, 0.028)
    rv_shortening: float = _drawn(0.15, 0.42)
    tricuspid_offset: float = _drawn(0.01, 0.05)
    la_length: float = _drawn(0.17, 0.29)
    la_half_width: float = _drawn(0.10, 0.165)
    ra_length: float = _drawn(0.16, 0.27)
    ra_width: float = _drawn(0.12, 0.20)
    atrial_septum: float = _drawn(0.010, 0.028)
    anterior_leaflet: float = _drawn(0.75, 1.15)
    posterior_leaflet: float = _drawn(0.5, 0.8)
    valve_db: float = _drawn(-8, 4)
    papillary_place: float = _drawn(0.35, 0.65)
    papillary_size: float = _drawn(0.012, 0.026)
    papillary_db: float = _drawn(-26, -10)

    sector_x: float = _drawn(0.46, 0.54)
    sector_y: float = _drawn(-0.02, 0.03)
    sector_angle: float = _drawn(0.68, 0.82)  # half, radians
    sector_depth: float = _drawn(0.93, 1.02)

    gain_db: float = _drawn(-13.5, -5)
    dynamic_range: float = _drawn(40, 52)  # dB
    gamma: float = _drawn(1.15, 1.75)
    depth_slope: float = _drawn(-12, 4)  # dB from top to bottom
    haze_db: float = _drawn(-14, -4)
    septum_db: float = _drawn(-5, 4)
    free_wall_db: float = _drawn(-14, -3)
    rv_wall_db: float = _drawn(-20, -6)
    pericardium_db: float = _drawn(-4, 6)
    specular_db: float = _drawn(2, 10)
    outside_db: float = _drawn(-38, -24)
    blood_db: float = _drawn(-48, -36)
    left_falloff: float = _drawn(14, 40)  # dB at the sector's edge
    right_falloff: float = _drawn(12, 36)
    shadow_angle: float = _drawn(-0.95, 0.95)  # of the half angle
    shadow_width: float = _drawn(0.04, 0.14)  # radians
    shadow_db: float = _drawn(4, 26)
    shadow_start: float = _drawn(0.05, 0.5)
    dropout_x: float = _drawn(0.15, 0.9)
    dropout_y: float = _drawn(0.25, 0.8)
    dropout_size: float = _drawn(0.06, 0.16)
    dropout_db: float = _drawn(6, 24)

    @property
    def apex_x(self) -> float:
        return self.sector_x + self.apex_aside

    @property
    def apex_y(self) -> float:
        return self.sector_y + self.apex_below

    @classmethod
    def draw(cls, seed: int, number: int) -> Patient:
        """Draw the patient called `number` of the population `seed`; all parameters are independent and uniform."""
        random = np.random.default_rng([seed, number, 0])
        drawn = {name: float(random.uniform(*ends)) for name, ends in cls.ranges().items()}
        return cls(seed=seed, number=number, **drawn)

    @classmethod
    def ranges(cls) -> dict[str, tuple[float, float]]:
        """Return between which ends each parameter is drawn."""
        return {f.name: f.metadata["range"] for f in fields(cls) if "range" in f.metadata}

    def scaled(self) -> tuple[float, ...]:
        """Return what is drawn, in the order of `ranges`, each scaled to mean 0 and variance 1 over all patients."""
        return tuple(
            (getattr(self, name) - (low + high) / 2) / (high - low) * math.sqrt(12)
            for name, (low, high) in self.ranges().items()
        )


@frozen(kw_only=True, eq=False)
class Borders:
    """Borders of the heart at end-diastole at `Z_COUNT` values of z; rows 0 and 1 are the free and the septal side."""

    z: Array
    axis: Array  # how far the long axis bows
    inner: Array  # 2 z: cavity of the left ventricle or atrium
    outer: Array  # 2 z: end of the wall around it
    far: Array  # 2 z: end of the right heart's cavity (free side: where motion has begun to fade)
    follow: Array  # 2 z: how far lateral motion reaches: 1 in the ventricles, fading and reversed in the atria
    annulus: float
    tricuspid: float
    roof: float


def _half_ellipse(z: Array, start: float, end: float, widest: float) -> Array:
    """Rise from 0 at `start` to 1 at `widest` and fall to 0 at `end`, as quarters of ellipses."""
    scale = np.where(z < widest, widest - start, end - widest)
    return np.sqrt(np.clip(1 - ((z - widest) / scale) ** 2, 0, None))


def _smooth(value: Array) -> Array:
    value = np.clip(value, 0, 1)
    smooth: Array = value * value * (3 - 2 * value)
    return smooth


@lru_cache(maxsize=16)
def borders(p: Patient) -> Borders:
    """Work out the borders of a patient's heart at end-diastole."""
    z = np.linspace(Z_FIRST, Z_LAST, Z_COUNT)
    length, roof = p.lv_length, p.lv_length + p.la_length
    zeta = z / length
    taper = 1 + p.lv_taper * (zeta - 0.5)

    # The left ventricle: an ellipse with its lower end cut off at the annulus, wider to one side
    semi = length / (1 + p.lv_truncation)
    profile = np.sqrt(np.clip(1 - ((z - semi) / semi) ** 2, 0, None)) * np.clip(taper, 0.5, 1.5)
    sides = np.array([[1 + p.lv_asymmetry], [1 - p.lv_asymmetry]])
    ventricle = p.lv_half_width * sides * profile
    thick = np.array([[p.free_wall], [p.septum]])
    shell = np.sqrt(np.clip(1 - ((z - semi) / (semi + p.apex_wall)) ** 2, 0, None)) * np.clip(taper, 0.5, 1.5)
    epicardium = np.maximum((p.lv_half_width * sides + thick) * shell, ventricle + 0.6 * thick * (z > 0))

    # The left atrium: from the annulus's width to its own, closing at the roof
    below = (z - length) / p.la_length
    at_annulus = ventricle[:, [np.searchsorted(z, length) - 1]] * 0.92
    middle = 0.45
    swell = at_annulus + (p.la_half_width * sides - at_annulus) * _smooth(below / middle)
    atrium = swell * np.where(below < middle, 1, _half_ellipse(below, -1, 1, middle))
    thin = np.array([[0.018], [p.atrial_septum]])
    fade = _smooth(below / 0.25)
    atrial_wall = np.where(z < roof + 0.02, atrium + thick * (1 - fade) + thin * fade, 0)

    inner = np.where(z < length, ventricle, atrium) * (z > 0)
    outer = np.where(z < length, epicardium, atrial_wall)

    # The right heart hangs on the septum
    tricuspid = length - p.tricuspid_offset
    start = p.rv_start * length
    ventricular = _half_ellipse(z, start, tricuspid + 0.5, tricuspid - 0.25 * length) * (z > start)
    ventricular = p.rv_width * ventricular**p.rv_bulge
    under = (z - tricuspid) / p.ra_length
    at_valve = ventricular[np.searchsorted(z, tricuspid)]
    right = (at_valve + (p.ra_width - at_valve) * _smooth(under / 0.5)) * np.where(
        under < 0.5, 1, _half_ellipse(under, -1, 1, 0.5)
    )
    right = np.where(z < tricuspid, ventricular, right)
    far = np.stack([outer[0] + 0.04, outer[1] + right])

    follow = np.where(z < length, 1, 1 - 1.35 * _smooth(below / 0.5)) * (1 - _smooth((below - 0.55) / 0.45))
    axis = p.lv_bow * np.sin(np.pi * np.clip(zeta, -0.3, 2.2))
    arrays = {"z": z, "axis": axis, "inner": inner, "outer": outer, "far": far, "follow": np.stack([follow, follow])}
    return Borders(
        **{name: np.ascontiguousarray(value, dtype=np.float32) for name, value in arrays.items()},
        annulus=length,
        tricuspid=tricuspid,
        roof=max(roof, tricuspid + p.ra_length) + 0.03,
    )


def row_of(z: Array) -> Array:
    """Find the rows of the tables of `Borders` for values of z."""
    scale = (Z_COUNT - 1) / (Z_LAST - Z_FIRST)
    return np.clip((z - Z_FIRST) * np.float32(scale) + np.float32(0.5), 0, Z_COUNT - 1).astype(np.int32)


def label_map(p: Patient, x: Array, z: Array) -> NDArray[np.uint8]:
    """Name the structure at points of the end-diastolic heart: indices into `LABELS`."""
    b = borders(p)
    row = row_of(z)
    across = x - b.axis[row]
    septal = (across < 0).astype(np.int32)
    distance = np.abs(across)
    inner, outer, far = b.inner[septal, row], b.outer[septal, row], b.far[septal, row]
    cavity = distance < inner
    wall = (distance < outer) & ~cavity
    right = (septal == 1) & (distance >= outer) & (distance < far)
    ventricle = z <= b.annulus
    label = np.zeros(x.shape, np.uint8)
    label[cavity & ventricle & (z >= 0)] = 1
    label[wall & ventricle] = 2
    label[cavity & ~ventricle] = 3
    label[right & (z <= b.tricuspid)] = 4
    label[right & (z > b.tricuspid)] = 5
    return label


def place(p: Patient, x: Array, z: Array) -> tuple[Array, Array]:
    """Map heart axes to the image (column, row), both in image sides."""
    cos, sin = np.float32(np.cos(p.tilt)), np.float32(np.sin(p.tilt))
    return p.apex_x + cos * x + sin * z, p.apex_y - sin * x + cos * z


def unplace(p: Patient, column: Array, row: Array) -> tuple[Array, Array]:
    """Map the image (column, row) to heart axes."""
    cos, sin = np.float32(np.cos(p.tilt)), np.float32(np.sin(p.tilt))
    right, down = column - p.apex_x, row - p.apex_y
    return cos * right - sin * down, sin * right + cos * down
