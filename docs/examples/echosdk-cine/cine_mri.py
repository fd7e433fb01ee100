"""Short-axis cine MRI, simulated: bright blood, dark muscle, one beat a clip. It stands for no patient.

A slice through the left ventricle is a ring of muscle that thickens as its cavity empties: cavity and muscle are discs,
and the muscle's area is the same in every frame. `simulated_LVEF` is the share of the cavity's area that is ejected,
which is that of its volume where the long axis keeps its length.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import echosdk
import numpy as np
from attrs import asdict, define, field, frozen
from attrs.validators import ge

FIELD = 160.0  # mm
BLOOD, MUSCLE, LUNG, FAT, LIVER = 0.8, 0.25, 0.06, 0.95, 0.4
SLICES = {"basal": 1.0, "mid": 0.85, "apical": 0.6}  # radius of the cavity there
SYSTOLE = 0.35  # of a beat


@frozen(kw_only=True)
class Patient:
    """A made-up patient: lengths in mm, at end-diastole."""

    ejection_fraction: float
    wall: float
    radius: float
    right: float  # how large the right ventricle is
    place: tuple[float, float]
    gain: float
    seed: tuple[int, int]

    @classmethod
    def draw(cls, seed: int, number: int) -> "Patient":
        draws = np.random.default_rng([seed, number])
        return cls(
            ejection_fraction=float(draws.uniform(20, 75)),
            wall=float(draws.uniform(6, 14)),
            radius=float(draws.uniform(20, 27)),
            right=float(draws.uniform(0.9, 1.2)),
            place=(float(draws.uniform(-6, 6)), float(draws.uniform(-6, 6))),
            gain=float(draws.uniform(-0.3, 0.3)),
            seed=(seed, number),
        )


def render(patient: Patient, where: str, frames: int, size: int, noise: float = 0.04) -> np.ndarray:
    """Return one beat, uint8 `t h w`, from end-diastole on; `noise` is Rician, as a share of the brightest."""
    y, x = (np.mgrid[:size, :size] + 0.5) * FIELD / size - FIELD / 2
    pixel = FIELD / size

    def inside(distance: np.ndarray) -> np.ndarray:
        """What lies on the negative side of an edge, a pixel wide."""
        return np.clip(0.5 - distance / pixel, 0, 1)

    ejected = patient.ejection_fraction / 100
    end_diastole = patient.radius * SLICES[where]
    draws = np.random.default_rng([*patient.seed, [*SLICES].index(where)])
    made = []
    for beat in np.arange(frames) / frames:
        emptied = np.sin(np.pi / 2 * min(beat / SYSTOLE, (1 - beat) / (1 - SYSTOLE))) ** 2
        cavity = end_diastole * np.sqrt(1 - ejected * emptied)
        muscle = np.sqrt((end_diastole + patient.wall) ** 2 - end_diastole**2 + cavity**2)
        left = np.hypot(x - patient.place[0], y - patient.place[1])
        apart = 1.15 * (end_diastole + patient.wall) - 4 * emptied
        crescent = np.hypot((x - patient.place[0] + apart) / 0.8, y - patient.place[1])
        right = crescent - patient.right * 0.9 * end_diastole
        body = np.hypot(x / 1.1, y) - 0.46 * FIELD
        image = np.full_like(x, LUNG)
        for mask, level in (
            (inside(np.hypot(x + 45, y - 60) - 40), LIVER),
            (inside(right - 3), MUSCLE),
            (inside(right), BLOOD),
            (inside(left - muscle), MUSCLE),
            (inside(left - cavity), BLOOD),
            (inside(-body - 8), FAT),
            (inside(-body), LUNG / 4),
        ):
            image = image * (1 - mask) + level * mask
        shown = image * (1 + patient.gain * x / FIELD)
        real, imaginary = draws.normal(0, noise, (2, size, size))
        made.append(np.hypot(shown + real, imaginary))
    return np.clip(np.stack(made) * 230, 0, 255).astype(np.uint8)


@define(kw_only=True)
class CineMRI:
    """Three slices of each of `patients` made-up patients; all of a patient are in one split."""

    patients: int = field(default=64, validator=ge(4))
    frames: int = field(default=20, validator=ge(1))
    size: int = field(default=96, validator=ge(16))
    seed: int = 0

    @property
    def labels(self) -> tuple[echosdk.Label | echosdk.Category, ...]:
        return (
            echosdk.Label(name="simulated_LVEF", unit="%", low=20, high=75),
            echosdk.Label(name="simulated_wall", unit="mm", low=6, high=14),
            echosdk.Category(name="slice", values=tuple(SLICES)),
        )

    def clips(self, split: str) -> Iterator[echosdk.Clip]:
        for number in range(self.patients):
            if ("train", "train", "val", "train", "test")[number % 5] != split:
                continue
            patient = Patient.draw(self.seed, number)
            for where in SLICES:
                yield echosdk.Clip(
                    id=f"cine-{number:05d}-{where}",
                    group=f"cine-{number:05d}",
                    split=split,
                    fps=20.0,
                    labels={
                        "simulated_LVEF": patient.ejection_fraction,
                        "simulated_wall": patient.wall,
                        "slice": where,
                    },
                    load=partial(render, patient, where, self.frames, self.size),
                )

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps({"version": 1, **asdict(self)}, sort_keys=True).encode()).hexdigest()


@echosdk.hookimpl
def echosdk_data_sources():
    yield echosdk.Component(
        name="cine-mri", build=CineMRI, summary="SIMULATION of short-axis cine MRI; stands for no patient", contract=1
    )


@echosdk.hookimpl
def echosdk_plugin_sets():
    place = Path(__file__).with_name("cine_tiny.toml")
    yield echosdk.Resource(name="cine-tiny", location=str(place), summary="As small as it goes, at 20 frames/s.")
