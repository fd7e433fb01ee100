"""The simulated patients as a data source. They are a SIMULATION and stand for no patient."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from attrs import Attribute, asdict, define, evolve, field
from numpy.typing import NDArray

from echosdk import Clip, Label
from echosdk.clips import Tracing
from echosdk_phantom.anatomy import Patient
from echosdk_phantom.motion import SYSTOLE
from echosdk_phantom.simulator import VERSION, Simulation, simulate

Split = Literal["train", "val", "test"]

ENDS: dict[str, tuple[float, float]] = {"train": (0.0, 0.75), "val": (0.75, 0.875), "test": (0.875, 1.0)}
"""Which part of the shuffled patients each split is."""

OTHERS_FIRST, OTHERS_FPS = 10_000_000, 1.6
"""Numbers of patients that are in no source, and a frame rate at which frames are half a beat apart and more."""


def _whole(low: int) -> Any:
    def check(_source: object, attribute: Attribute[Any], value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"phantom: {attribute.name} must be a whole number of at least {low}, not {value!r}")

    return check


def _above_zero(_source: object, attribute: Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"phantom: {attribute.name} must be a number above 0, not {value!r}")


def _yes_or_no(_source: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"phantom: {attribute.name} must be true or false, not {value!r}")


def _whole_or_none(source: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None:
        _whole(0)(source, attribute, value)


@define(kw_only=True)
class PhantomSource:
    """Simulated apical four-chamber videos of `patients` simulated patients, `videos` of each.

    The patients are those numbered from `first` on in the population `seed`: sources with disjoint numbers share no
    patient. `gain`, `mirror` and `speckle` render the same anatomy otherwise. Stands for no patient.
    """

    patients: int = field(default=100, validator=_whole(1))
    videos: int = field(default=1, validator=_whole(1))
    frames: int = field(default=64, validator=_whole(1))
    fps: float = field(default=32.0, validator=_above_zero)
    size: int = field(default=112, validator=_whole(16))
    seed: int = field(default=0, validator=_whole(0))
    first: int = field(default=0, validator=_whole(0))
    gain: float = field(default=1.0, validator=_above_zero)
    mirror: bool = field(default=False, validator=_yes_or_no)
    speckle: int | None = field(default=None, validator=_whole_or_none)

    @property
    def labels(self) -> tuple[Label, ...]:
        return (Label(name="simulated_EF", unit="%", low=10, high=80),)

    def clips(self, split: Split) -> Iterator[Clip]:
        """Yield the clips of one split by patient number; a clip is rendered when its frames are asked for."""
        for number in self.numbers(split):
            patient = Patient.draw(self.seed, number)
            for video in range(self.videos):
                yield Clip(
                    id=f"phantom-{number:06d}-{video}",
                    group=f"phantom-{number:06d}",
                    split=split,
                    fps=self.fps,
                    labels={"simulated_EF": patient.ejection_fraction},
                    load=partial(self._render, patient, video),
                )

    def numbers(self, split: Split) -> tuple[int, ...]:
        """Return the numbers of a split's patients: 75, 12.5 and 12.5 % of all, shuffled by the seed."""
        if split not in ENDS:
            raise ValueError(f"phantom: no split named {split!r}; choose from {', '.join(ENDS)}")
        order = np.random.default_rng([self.seed, self.first, self.patients]).permutation(self.patients) + self.first
        low, high = (round(end * self.patients) for end in ENDS[split])
        return tuple(sorted(int(number) for number in order[low:high]))

    def fingerprint(self) -> str:
        """Digest the parameters and the simulator's version."""
        facts = {"simulator": VERSION, **asdict(self)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def others(self, number: int, frames: int, noise: int | None = None) -> Sequence[Sequence[Clip]]:
        """Return two clips each of `number` patients of the same population who are in no split of this source."""
        first = self.first + self.patients + OTHERS_FIRST
        speckle = self.speckle if noise is None else noise
        source = evolve(self, patients=number, first=first, videos=2, frames=frames, fps=OTHERS_FPS, speckle=speckle)
        clips = sorted((clip for split in ENDS for clip in source.clips(split)), key=lambda clip: clip.id)
        return list(zip(clips[::2], clips[1::2], strict=True))

    def again(self, clip: Clip, noise: int) -> Clip:
        """Return a clip of this source with other scatterers and noise; the patient, the moment and the motion stay."""
        named = self._named(clip.id)
        if named is None:
            raise ValueError(f"phantom: {clip.id} is not of this source")
        number, video = named
        return evolve(clip, load=partial(evolve(self, speckle=noise)._render, Patient.draw(self.seed, number), video))

    def anatomy(self, clip: Clip) -> tuple[float, ...]:
        """Return what is drawn of a clip's patient, scaled to mean 0 and variance 1 over the population."""
        return Patient.draw(self.seed, int(clip.group.rpartition("-")[2])).scaled()

    def tracings(self, clip_id: str) -> Tracing | None:
        """Return the true outline of a clip's left ventricle at end-diastole and end-systole.

        None for a clip that holds not both, being shorter than a beat, and for one that is not of this source.
        """
        named = self._named(clip_id)
        if named is None:
            return None
        number, video = named
        simulation = self._simulate(Patient.draw(self.seed, number), video)
        frames = simulation.ed_frame, simulation.es_frame
        for frame, phase in zip(frames, (0.0, SYSTOLE), strict=True):
            away = abs((simulation.phases[frame] - phase + 0.5) % 1 - 0.5)
            if away > simulation.heart_rate / 60 / self.fps / 2:  # over half a frame: the clip does not hold the moment
                return None
        return Tracing(
            frames=frames,
            volumes=(float(simulation.volumes[frames[0]]), float(simulation.volumes[frames[1]])),
            lines=(simulation.tracing(frames[0]), simulation.tracing(frames[1])),
        )

    def _named(self, clip_id: str) -> tuple[int, int] | None:
        """Return the patient and the video that an id of this source names."""
        named = re.fullmatch(r"phantom-(\d{6,})-(\d+)", clip_id)
        if named is None:
            return None
        number, video = int(named[1]), int(named[2])
        return (number, video) if self.first <= number < self.first + self.patients and video < self.videos else None

    def _render(self, patient: Patient, video: int) -> NDArray[np.uint8]:
        return self._simulate(patient, video).frames

    def _simulate(self, patient: Patient, video: int) -> Simulation:
        return simulate(
            patient,
            video,
            num_frames=self.frames,
            fps=self.fps,
            size=self.size,
            speckle=self.speckle,
            gain=self.gain,
            mirror=self.mirror,
        )
