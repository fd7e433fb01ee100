"""Render a simulated apical four-chamber echocardiogram; it stands for no patient.

Scatterers lie in the heart at end-diastole (`tissue`). Each frame looks up, for every pixel, the echo of those that the
motion brought there; then come the valves, the noise, the gain and the log compression.
"""

from __future__ import annotations

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from echosdk_phantom.anatomy import Array, Patient, borders, label_map, place, row_of
from echosdk_phantom.motion import SYSTOLE, Squeeze, filling, squeeze, to_end_diastole, valve_opening
from echosdk_phantom.tissue import RASTER, echo_image, gain_map
from echosdk_phantom.valves import valve_echo
from echosdk_phantom.view import decibel, heart_axes, in_sector, nearness, pixels, undrift

VERSION = "1"
"""Changes whenever the same parameters render other pixels."""

HEART_RATES = (50.0, 110.0)


@frozen(kw_only=True, eq=False)
class Simulation:
    """One rendered video and the truth about it.

    Volumes are in ml, of the discs of which the cavity is made, and `ejection_fraction` (%) is exactly theirs.
    `ed_frame` and `es_frame` are the frames nearest to end-diastole and end-systole; a clip of less than one beat may
    hold neither.
    """

    patient: Patient
    frames: NDArray[np.uint8] = field(repr=False)  # t h w
    fps: float
    heart_rate: float
    phases: NDArray[np.float64] = field(repr=False)  # cycles; 0 is end-diastole, SYSTOLE end-systole
    volumes: NDArray[np.float64] = field(repr=False)
    ejection_fraction: float
    ed_volume: float
    es_volume: float
    ed_frame: int
    es_frame: int
    mirror: bool
    _states: tuple[Squeeze, ...] = field(repr=False, alias="states")
    _drift: Array = field(repr=False, alias="drift")

    def masks(self, size: int | None = None, frames: list[int] | None = None) -> NDArray[np.uint8]:
        """Draw what each pixel is, `t h w` of indices into `LABELS`: of all frames or of those named, at any size."""
        size = size or self.frames.shape[-1]
        column, row = pixels(size)
        p = self.patient
        drawn = []
        for t in range(len(self._states)) if frames is None else frames:
            x, z = heart_axes(p, column, row, self._drift[t])
            label = label_map(p, *to_end_diastole(p, self._states[t], x, z, nearness(p, column, row)))
            label[~in_sector(p, column, row)] = 0
            drawn.append(label.reshape(size, size))
        masks = np.stack(drawn)
        return np.ascontiguousarray(masks[:, :, ::-1]) if self.mirror else masks

    def tracing(self, t: int, discs: int = 20) -> NDArray[np.float64]:
        """Trace the left ventricle in frame `t`: rows (x1, y1, x2, y2), its long axis, then discs from the apex."""
        p, b, s = self.patient, borders(self.patient), self._states[t]
        z = np.concatenate([[0.0, 1.0], (np.arange(discs) + 0.5) / discs]) * b.annulus
        row = row_of(np.minimum(z, b.annulus - 1e-3))
        ends = np.stack([b.axis[row] - b.inner[1, row] * s.width, b.axis[row] + b.inner[0, row] * s.width])
        ends[:, 0] = b.axis[row[0]]
        middle = ends.mean(0)
        x = np.concatenate([[[middle[0], middle[1]]], ends[:, 2:].T])
        depth = np.concatenate([[[0, z[1]]], np.stack([z[2:], z[2:]], 1)]) * s.length
        column, line = place(p, *undrift(x, depth, self._drift[t]))
        size = self.frames.shape[-1]
        column = (1 - column if self.mirror else column) * size - 0.5
        line = line * size - 0.5
        return np.stack([column[:, 0], line[:, 0], column[:, 1], line[:, 1]], 1)


def simulate(
    patient: Patient,
    video: int = 0,
    *,
    num_frames: int = 64,
    fps: float = 32.0,
    size: int = 112,
    speckle: int | None = None,
    gain: float = 1.0,
    mirror: bool = False,
) -> Simulation:
    """Render one video of a simulated patient, the same for the same arguments.

    `video` decides the phase at which it begins, the heart rate within 3 beats/min of the patient's, the probe's slight
    motion and the noise. `speckle` replaces the scatterers and noise only; `gain` multiplies the amplitude before the
    log compression (2 is 6 dB); `mirror` swaps left and right.
    """
    p = patient
    random = np.random.default_rng([p.seed, p.number, 1, video])
    heart_rate = float(np.clip(p.heart_rate + random.uniform(-3, 3), *HEART_RATES))
    phases = random.uniform() + np.arange(num_frames) / fps * heart_rate / 60
    drift = _probe_motion(random, np.arange(num_frames) / fps)
    full = filling(phases)
    states = tuple(squeeze(p, float(value)) for value in full)

    noise = random if speckle is None else np.random.default_rng([p.seed, p.number, 2, video, speckle])
    valves = valve_echo(p, states, drift, valve_opening(phases), size)
    frames = _render(p, states, drift, valves, noise, gain)

    ed_volume = _volume_ml(p)
    share = np.array([s.length * s.width**2 for s in states])
    return Simulation(
        patient=p,
        frames=np.ascontiguousarray(frames[:, :, ::-1]) if mirror else frames,
        fps=fps,
        heart_rate=heart_rate,
        phases=phases,
        volumes=ed_volume * share,
        ejection_fraction=p.ejection_fraction,
        ed_volume=ed_volume,
        es_volume=ed_volume * (1 - p.ejection_fraction / 100),
        ed_frame=_nearest(phases, 0.0),
        es_frame=_nearest(phases, SYSTOLE),
        mirror=mirror,
        states=states,
        drift=drift,
    )


def _nearest(phases: NDArray[np.float64], wanted: float) -> int:
    return int(np.argmin(np.abs((phases - wanted + 0.5) % 1 - 0.5)))


def _volume_ml(p: Patient) -> float:
    b = borders(p)
    inside = (b.z >= 0) & (b.z < b.annulus)
    widths = b.inner.sum(0, dtype=np.float64)[inside]
    return float(np.pi / 4 * np.sum(widths**2) * (b.z[1] - b.z[0]) * p.image_side_cm**3)


def _probe_motion(random: np.random.Generator, seconds: NDArray[np.float64]) -> Array:
    """Draw the slight motion of probe and breath: per frame a shift in x and z and a turn, `t 3`."""
    breath = np.sin(2 * np.pi * (seconds * random.uniform(0.2, 0.35) + random.uniform()))
    offset = random.uniform(-1, 1, 3) * (0.008, 0.008, 0.02)
    swing = random.uniform(-1, 1, 3) * (0.006, 0.008, 0.015)
    return (offset + breath[:, None] * swing).astype(np.float32)


def _render(
    p: Patient, states: tuple[Squeeze, ...], drift: Array, valves: Array, random: np.random.Generator, gain: float
) -> NDArray[np.uint8]:
    """Render the frames `t h w`, given the echo of the valves in each."""
    size = valves.shape[-1]
    column, row = pixels(size)
    seen = np.flatnonzero(in_sector(p, column, row))
    column, row = column[seen], row[seen]
    near = nearness(p, column, row)
    gain_db = gain_map(p, size)[seen] + np.float32(20 * np.log10(gain))
    image = echo_image(p, random).ravel()
    f = np.float32
    scale = f((RASTER - 1) / 1.2)

    # Thermal noise has its own speckle and does not move with the heart
    noise = random.standard_normal((2, size + 48, size + 48), dtype=f)
    noise = gaussian_filter(noise, (0, 0.6 * size / 112, 1.0 * size / 112))
    noise = (noise**2).sum(0) / (noise**2).mean()
    floor = decibel(2 * (-p.dynamic_range + 2 + 4 * row)) * f(0.5)
    corners = random.integers(0, 48, (len(states), 2))
    shades = (255 * np.linspace(0, 1, 2048) ** p.gamma + 0.5).astype(np.uint8)

    frames = np.zeros((len(states), size * size), np.uint8)
    for t, state in enumerate(states):
        x, z = heart_axes(p, column, row, drift[t])
        x, z = place(p, *to_end_diastole(p, state, x, z, near))
        x = np.clip((x + f(0.1)) * scale, 0, f(RASTER - 1.001))
        z = np.clip((z + f(0.1)) * scale, 0, f(RASTER - 1.001))
        left, top = x.astype(np.int32), z.astype(np.int32)
        x -= left
        z -= top
        at = top * np.int32(RASTER) + left
        upper = image[at] * (1 - x) + image[at + 1] * x
        lower = image[at + RASTER] * (1 - x) + image[at + RASTER + 1] * x
        power = upper * (1 - z) + lower * z + valves[t].ravel()[seen]
        i, j = corners[t]
        power *= np.power(f(10), gain_db * f(0.1))
        power += noise[i : i + size, j : j + size].ravel()[seen] * floor
        level = f(10) * np.log10(power + f(1e-9)) * f(1 / p.dynamic_range) + f(1)
        frames[t, seen] = shades[np.clip(level * f(2047 * 0.86), 0, 2047).astype(np.int32)]
    return frames.reshape(-1, size, size)
