"""How long the steps of a protocol may take here: each kind of work is timed once, and counted.

Nothing that is made here is kept. What is left out of a step's time is said with it; within a factor of two is meant.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import numpy as np
import torch
from attrs import define

from echosdk.abilities import DenoisingLosses, SimulatedSource
from echosdk.bundle import Bundle
from echosdk.clips.array import ArrayClip
from echosdk.clips.images import to_images
from echosdk.clips.store import pixel_clips
from echosdk.evaluation.distances import FEWEST, measure_sets
from echosdk.evaluation.downstream import KIND
from echosdk.evaluation.features import alexnet, of_filter, of_validator, pixels
from echosdk.evaluation.pretrained import pretrained
from echosdk.evaluation.seen import Seen, Tools, see
from echosdk.generation.estimate import seconds_a_video
from echosdk.generation.generate import make_plan
from echosdk.generation.pipeline import load_gate
from echosdk.generation.plan import Plan
from echosdk.interfaces import SPLITS, Label, Run, Trainable, TrainingData
from echosdk.plugin_set import PluginSet, resolve
from echosdk.privacy.alterations import ALTERATIONS
from echosdk.privacy.enrolled import FRAMES as ENROLLED_FRAMES
from echosdk.privacy.neighbours import nearest
from echosdk.privacy.probes import ALTERED_VIDEOS
from echosdk.privacy.records import latent_records
from echosdk.privacy.second import ABOUT
from echosdk.protocol import Protocol

FEW = 4
"""So many frames, stills or clips are used where one would say too little."""
LOOKS = 8 / 3
"""A look at validation examples, in optimiser steps: eight batches, each forward alone."""


class _EnoughError(Exception):
    """A training has said that its last step is done."""


@define(slots=False)  # for the cached properties
class Times:
    """Seconds of each kind of work with this bundle, whose shapes are those that will be used."""

    protocol: Protocol
    bundle: Bundle

    @cached_property
    def plan(self) -> Plan:
        options = attrs.evolve(self.protocol.options, bundle=str(self.bundle.folder))
        if options.like is not None and options.num_frames is None:
            options = attrs.evolve(options, num_frames=len(self._frames))  # its mean length would be read of every clip
        return make_plan(options, self.protocol.registry)[0]

    @cached_property
    def a_video(self) -> float:
        return seconds_a_video(self.plan, self.bundle, self.protocol.registry)

    @cached_property
    def clips(self) -> Mapping[str, Mapping[str, int]]:
        """How many clips each patient of each split has."""
        found: dict[str, dict[str, int]] = {}
        for split in SPLITS:
            of = found.setdefault(split, {})
            for clip in self.protocol.source.clips(split):
                of[clip.group] = of.get(clip.group, 0) + 1
        return found

    @cached_property
    def _read(self) -> tuple[float, np.ndarray[Any, Any]]:
        clip = next(iter(self.protocol.source.clips("train")))
        begun = time.perf_counter()
        ((_, frames),) = pixel_clips([clip], self.bundle.manifest.fps)
        return time.perf_counter() - begun, frames

    @property
    def a_reading(self) -> float:
        return self._read[0]

    @property
    def _frames(self) -> np.ndarray[Any, Any]:
        return self._read[1]

    def loaded(self, kind: str) -> Any:
        component = self.bundle.plugin_set.build(self.protocol.registry, kind)
        self.bundle.load(kind, component, self.bundle.plugin_set.choices[kind].use)
        if hasattr(component, "to"):
            component.to(self.protocol.device, torch.float32)
        return component

    @cached_property
    def encoder(self) -> Any:
        return self.loaded("encoder")

    @cached_property
    def latents(self) -> torch.Tensor:
        latents: torch.Tensor = self.encoder.encode(to_images(self._frames[:FEW])).float().cpu()
        return latents

    @cached_property
    def an_encoding(self) -> float:
        images = to_images(self._frames[:FEW])
        return _seconds(lambda: self.encoder.encode(images)) / len(images)

    @cached_property
    def a_decoding(self) -> float:
        return _seconds(lambda: self.encoder.decode(self.latents)) / len(self.latents)

    @cached_property
    def _gate(self) -> tuple[Any, float]:
        """A calibrated gate, and the seconds of the calibration: a part of the patients may be too few for a filter."""
        gate = load_gate(self.bundle.plugin_set, self.bundle, self.protocol.registry, self.encoder)
        begun = time.perf_counter()
        gate.calibrate(*self.bundle.references(), self.bundle.noise_key)
        return gate, time.perf_counter() - begun

    @property
    def a_calibration(self) -> float:
        return self._gate[1]

    @cached_property
    def a_verdict(self) -> float:
        stills = self.latents.repeat(FEW, 1, 1, 1)
        return _seconds(lambda: self._gate[0].judge_stills(stills).keep) / len(stills)

    @cached_property
    def a_still(self) -> float:
        prior = self.loaded("image_prior")
        noise = [torch.Generator().manual_seed(number) for number in range(FEW)]
        return _seconds(lambda: prior.sample(noise, [self._labels] * FEW)) / FEW

    @property
    def _labels(self) -> dict[str, Any]:
        return {
            label.name: (label.low + label.high) / 2 if isinstance(label, Label) else label.values[0]
            for label in self.bundle.manifest.labels
        }

    def a_loss(self, kind: str) -> float:
        """Return what one item's losses take: a still's, or a video's; 0 where the component tells none."""
        model: Any = self.loaded(kind)
        window = getattr(model, "window", 1)
        if not isinstance(model, DenoisingLosses):
            return 0.0
        items = self.latents[:1]
        if kind == "video_animator":
            items = items.expand(min(self.plan.num_frames, window), -1, -1, -1)[None]
        return _seconds(lambda: model.losses(items, [self._labels], [torch.Generator().manual_seed(0)]))

    @cached_property
    def a_pair(self) -> float:
        """Return what one record takes to be compared with one other."""
        items = self.bundle.references()[0].items.float()
        among = latent_records(items, np.arange(len(items)))
        some = latent_records(items[:256], np.arange(len(items[:256])))
        return _seconds(lambda: torch.from_numpy(nearest(some, among).distance)) / len(some) / len(among)

    @cached_property
    def clip(self) -> ArrayClip:
        return ArrayClip(id="timed", group="timed", labels=self._labels, frames=self._frames)

    @cached_property
    def a_prediction(self) -> float:
        validator = self.loaded(KIND)
        begun = time.perf_counter()
        validator.predict(self.clip)
        return time.perf_counter() - begun

    def a_training_step(self, kind: str, plugin_set: PluginSet) -> float:
        """Return what one optimiser step takes at the real batch and size: from trainings of one step and of three."""
        once, thrice = (self._training(kind, plugin_set, steps) for steps in (1, 3))
        return max(thrice - once, 0.0) / 2

    def _training(self, kind: str, plugin_set: PluginSet, steps: int) -> float:
        registry = self.protocol.registry
        short = resolve(registry, plugin_set, set_=[f"{kind}.recipe.steps={steps}"])
        component = short.build(registry, kind)
        if not isinstance(component, Trainable):
            return 0.0
        frames: Any = self._frames
        if kind not in ("encoder", KIND):
            frames = self.latents[:1].expand(len(frames), -1, -1, -1).numpy()
        clips = [
            ArrayClip(id=str(number), group=str(number // 2), labels=self._varied(number), frames=frames)
            for number in range(2 * FEW)
        ]
        data = TrainingData(
            train=clips,
            val=clips,
            labels=self.bundle.manifest.labels,
            fps=self.bundle.manifest.fps,
            shape=frames.shape[1:],
        )

        def heard(line: str) -> None:
            if line.startswith(f"step {steps}/"):  # what follows is no step: a look at validation, a score
                raise _EnoughError

        with TemporaryDirectory() as folder:
            run = Run(folder=Path(folder), seed=0, device=self.protocol.device, report=heard)
            begun = time.perf_counter()
            with suppress(_EnoughError):
                component.fit(data, run)
            return time.perf_counter() - begun

    def _varied(self, number: int) -> dict[str, Any]:
        return {
            label.name: label.low + (label.high - label.low) * number / (2 * FEW)
            if isinstance(label, Label)
            else label.values[number % len(label.values)]
            for label in self.bundle.manifest.labels
        }


def generate_seconds(times: Times) -> tuple[float, str]:
    """Return seconds, and on what they rest."""
    workers = min(times.protocol.workers or 1, len(times.plan.shards))
    videos = sum(times.plan.counts.values()) * times.protocol.choices.generate.datasets
    said = "one denoising step was timed here; those that the filter rejects are not in it"
    return times.a_video * videos / workers, said


def audit_seconds(times: Times) -> tuple[float, str]:
    """Return seconds, and on what they rest: what each probe reads, encodes, asks and compares is counted."""
    chosen, length = times.protocol.choices.audit, times.plan.num_frames
    references, _, _ = times.bundle.references()
    kept = max(1, round(len(references.items) / times.bundle.manifest.data["train_clips"]))
    again = isinstance(times.protocol.source, SimulatedSource)
    altered = len(ALTERATIONS) + 2
    members, others = (min(len(times.clips[split]), chosen.patients) for split in ("train", "test"))
    readers = chosen.anatomy_patients or 0
    theirs = round(sum(times.clips["test"].values()) * others / max(1, len(times.clips["test"])))
    several = any(count > 1 for count in times.clips["train"].values())
    whole, strangers = min(members, chosen.videos), min(others, chosen.videos)
    changed = min(whole, ALTERED_VIDEOS)
    made = sum(times.plan.counts.values()) * min(chosen.frames, length)
    videos = length * (2 * whole + changed * (altered - 1) + strangers)
    asked = members * (altered + several) + others + videos + chosen.probe_patients * altered
    encoded = asked + made + kept * (theirs + members * several) + 2 * chosen.probe_patients + readers
    read = members * (1 + again + 2 * several) + theirs + whole + changed * again
    rendered = chosen.probe_patients * 4 * ENROLLED_FRAMES + readers
    read += math.ceil(rendered / len(times.clip.frames))
    known, outside = len(references.items), kept * theirs
    judged = asked + chosen.stills + known + outside + made
    pairs = 6 * known**2 + 6 * made * known + 2 * outside * known + bool(chosen.stills) * 6 * known**2
    seconds = (
        read * times.a_reading
        + encoded * times.an_encoding
        + judged * times.a_verdict
        + (1 + several + bool(chosen.probe_patients)) * times.a_calibration
        + chosen.stills * times.a_still
        + 2 * pairs * times.a_pair
        + (len(set(references.groups)) + others) * times.a_loss("image_prior")
        + (whole + strangers) * times.a_loss("video_animator")
    )
    said = "a reading, an encoded frame and a question to the filter were timed here"
    if chosen.second_network and not (Path(chosen.second_network) / ABOUT).is_file():
        recipe = times.bundle.plugin_set.choices["privacy_filter"].parameters["recipe"]
        seconds += recipe["steps"] * times.a_training_step("privacy_filter", times.bundle.plugin_set)
    if readers:
        said += "; training the reader of anatomy is not in it"
    return seconds, said


def evaluate_seconds(times: Times) -> tuple[float, str]:
    """Return seconds, and on what they rest: one video was looked at with the extractors that are here."""
    chosen, length = times.protocol.choices.evaluate, times.plan.num_frames
    train, held_out = len(times.clips["train"]), len(times.clips["val"]) + len(times.clips["test"])
    n = min(sum(times.plan.counts.values()), chosen.videos, train // 2, held_out // 2)
    tools = Tools(stills=[pixels()])
    tools.take(alexnet())
    for extractor in pretrained(times.protocol.registry, times.protocol.device, 0):
        tools.take(extractor)
    names = {kind: choice.use for kind, choice in times.bundle.plugin_set.choices.items()}
    tools.take(of_filter(names["privacy_filter"], times.loaded("privacy_filter"), times.encoder))
    tools.take(of_validator(names[KIND], times.loaded(KIND)))
    again, real = (bool(wanted) * (n >= FEWEST) for wanted in (chosen.reconstructions, chosen.real_stills))
    drawn = chosen.stills * (n >= FEWEST)
    seen = Seen()
    begun = time.perf_counter()
    see(times.clip, seen, tools, times.bundle.manifest.fps, 0, read=False)
    a_look = time.perf_counter() - begun
    images = to_images(times.clip.frames[:FEW])
    a_frame, a_set, a_video_set = 0.0, 0.0, 0.0
    for still in tools.stills:
        begun = time.perf_counter()
        features = still.of(images)
        a_frame += (time.perf_counter() - begun) / len(images)
        a_set += _comparing(n, features.shape[1])
    for found in seen.clip_features[0]:
        a_video_set += 0.0 if found is None else _comparing(n, len(found))
    sets = 1 + again + real
    seconds = (
        5 * n * times.a_reading
        + n * (5 + again + real) * a_look
        + 3 * n * times.a_prediction
        + 5 * n * (sets + 2 * drawn) * a_frame
        + 2 * (sets + 2 * drawn) * a_set
        + 2 * sets * a_video_set
        + n * (1 + again * length) * (times.an_encoding + times.a_decoding)
        + n * drawn * (times.a_still + times.a_verdict + 2 * times.a_decoding)
        + n * real * times.a_video
        + (drawn + real) * times.a_calibration
    )
    return seconds, "a reading, a look at one video and a comparison of sets were timed here"


def validate_seconds(times: Times, plugin_set: PluginSet, trainings: int, a_step: float | None) -> tuple[float, str]:
    """Return seconds, and on what they rest. `a_step` is what an optimiser step takes; None times two of them here."""
    parameters = plugin_set.choices[KIND].parameters
    recipe = parameters.get("recipe", {"steps": 0})
    said = "an optimiser step is as the bundle recorded it" if a_step is not None else "two optimiser steps were timed"
    step = times.a_training_step(KIND, plugin_set) if a_step is None else a_step
    every = parameters.get("look_every") or recipe["steps"] or 1
    steps = recipe["steps"] * (1 + LOOKS / every)
    clips = {split: sum(patients.values()) for split, patients in times.clips.items()}
    made = times.plan.counts
    predicted = trainings * (clips["test"] + clips["val"]) + made.get("test", 0) * times.protocol.choices.validate.seeds
    copied = (clips["train"] + clips["val"]) * len(times.clip.frames) * times.protocol.choices.validate.reconstruct
    seconds = (
        trainings * steps * step
        + sum(clips.values()) * times.a_reading
        + predicted * times.a_prediction
        + copied * (times.an_encoding + times.a_decoding)
    )
    return seconds, f"{said}; a reading and a prediction were timed here"


def train_seconds(times: Times, plugin_set: PluginSet, kinds: list[str]) -> tuple[float, str]:
    """Return seconds, and on what they rest: some optimiser steps of each stage, and reading all clips once."""
    seconds = sum(sum(patients.values()) for patients in times.clips.values()) * (
        times.a_reading + len(times.clip.frames) * times.an_encoding
    )
    for kind in kinds:
        steps = plugin_set.choices[kind].parameters["recipe"]["steps"]
        seconds += steps * times.a_training_step(kind, plugin_set)
    return seconds, "two optimiser steps of each stage were timed here"


def _comparing(n: int, width: int) -> float:
    """Return what it takes to compare one set of n with real ones, in so many features."""
    if n < FEWEST:
        return 0.0
    some = min(n, 2 * FEWEST)
    random = np.random.default_rng(0)
    real, made = random.normal(size=(2 * some, width)), random.normal(size=(some, width))
    begun = time.perf_counter()
    measure_sets(real, made, features="", against="")
    return (time.perf_counter() - begun) * (n / some) ** 2


def _seconds(work: Callable[[], torch.Tensor]) -> float:
    """Time it the second time: the first one also sets up what is kept for later."""
    work().cpu()
    begun = time.perf_counter()
    work().cpu()  # waits for the device
    return time.perf_counter() - begun
