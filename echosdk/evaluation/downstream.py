"""The trainings that are compared, and what each made of the test videos.

Every arm is trained by the same component with the same budget and rule of selection, which is the component's own: it
is given validation data of the arm's kind, so the synthetic arm sees no real video before its test. The seeds are the
same for all arms but those of a second and further dataset, which have their own: what one seed does to all datasets
would else be taken for what datasets have in common.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import evolve, field, frozen
from numpy.typing import NDArray

from echosdk.abilities import TrainingCheck
from echosdk.clips.images import to_frames, to_images
from echosdk.clips.store import CachedClip, Items, Store, pixel_clips, store_fingerprint, write_store
from echosdk.errors import DataError, TrainingError
from echosdk.evaluation.clips import read_generated
from echosdk.generation.files import Folder
from echosdk.integrity import locked, private_folder
from echosdk.interfaces import (
    SPLITS,
    Category,
    Clip,
    DataSource,
    Label,
    Run,
    Split,
    StoredClip,
    Trainable,
    TrainingData,
)
from echosdk.plugin_set import PluginSet
from echosdk.registry import Registry
from echosdk.seeding import seed_of

KIND = "downstream_validator"
ENCODE_BATCH = 32
PREDICTED_AT_ONCE = 50
"""Clips after which predictions are kept, and a line says how far they are."""
Clips = Sequence[CachedClip]


@frozen(kw_only=True)
class Arm:
    """One thing to train on: `fingerprint` says which data it is, and belongs to the name of what comes of it.

    `dataset` counts generated datasets from 0; those above have seeds of their own.
    """

    name: str
    train: Clips = field(repr=False)
    val: Clips = field(repr=False)
    fingerprint: str
    dataset: int = 0


@frozen(kw_only=True)
class Exam:
    """One test: clips, and a digest of the data that they are of."""

    name: str
    clips: Clips = field(repr=False)
    fingerprint: str


@frozen(kw_only=True)
class Bench:
    """What all trainings share. `work` holds caches, checkpoints and models; it derives from real data."""

    plugin_set: PluginSet
    registry: Registry
    labels: tuple[Label | Category, ...]
    fps: float
    shape: tuple[int, ...]
    work: Path
    seed: int
    device: str
    dtype: str
    progress: bool
    report: Callable[[str], None] = field(repr=False)

    def trained(self, arm: Arm, number: int) -> tuple[Any, str]:
        """Return the component that was trained on an arm from the number-th seed, and the name it is kept by.

        One that is kept in `work` is not trained again; an interrupted training goes on.
        """
        choice = self.plugin_set.choices[KIND]
        component = self.plugin_set.build(self.registry, KIND)
        if not isinstance(component, Trainable):
            raise TrainingError(f"{choice.use}: learns nothing, so no training can be compared; use another validator")
        whose = (arm.dataset,) if arm.dataset else ()
        seed = seed_of(self.seed, "validate", *whose, number) % 2**31
        made_of = (choice.use, dict(choice.parameters), arm.fingerprint, self.fps, seed, self.dtype)
        slug = re.sub(r"\W+", "-", arm.name)
        name = f"{slug}-{number}-{store_fingerprint(*made_of)[:12]}"
        kept = private_folder(self.work / "models") / name
        if not kept.is_dir():
            if isinstance(component, TrainingCheck):
                component.check_training()
            run = Run(
                folder=private_folder(self.work / "stages") / name,
                seed=seed,
                device=self.device,
                dtype=self.dtype,  # type: ignore[arg-type]
                progress=self.progress,
                report=lambda line: self.report(f"{arm.name}, seed {number}: {line}"),
            )
            torch.manual_seed(seed)  # the networks' first weights
            data = TrainingData(train=arm.train, val=arm.val, labels=self.labels, fps=self.fps, shape=self.shape)
            component.fit(data, run)
            partial = kept.with_name(f"{name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            for part in ("public", "private"):
                (partial / part).mkdir(parents=True)
            component.save(partial / "public", partial / "private")
            partial.rename(kept)
            shutil.rmtree(run.folder, ignore_errors=True)
        # Always what was saved: a rerun that finds it there must read the same
        component = self.plugin_set.build(self.registry, KIND)
        component.load(kept / "public", kept / "private")
        if hasattr(component, "to"):
            component.to(self.device, torch.float32)
        return component, name

    def predict(self, arm: Arm, number: int, exam: Exam, label: str) -> NDArray[np.float64]:
        """Return what the training made of a test's clips, `n`; what was predicted before is read.

        Every so many clips what there is is kept, and an interrupted prediction goes on.
        """
        component, name = self.trained(arm, number)
        about = store_fingerprint(exam.fingerprint, label, *(clip.id for clip in exam.clips))[:12]
        path = private_folder(self.work / "predictions") / f"{name}-{exam.name}-{about}.json"
        if path.is_file():
            return np.array(json.loads(path.read_text()), float)
        partial = path.with_suffix(".partial")
        found: list[float] = json.loads(partial.read_text()) if partial.is_file() else []
        for done in range(len(found), len(exam.clips)):
            read = component.predict(exam.clips[done])
            if label not in read:
                raise DataError(f"{self.plugin_set.choices[KIND].use}: reads {', '.join(read)}, not {label!r}")
            found.append(float(read[label]))
            if len(found) % PREDICTED_AT_ONCE == 0 and len(found) < len(exam.clips):
                _write(partial, found)
                far = f"{len(found)} of {len(exam.clips)} clips"
                self.report(f"{arm.name}, seed {number}, tested on {exam.name}: {far}")
        _write(path, found)
        partial.unlink(missing_ok=True)
        return np.array(found, float)


def real_stores(source: DataSource, fps: float, work: Path, report: Callable[[str], None]) -> dict[Split, Store]:
    """Read all real clips once, into caches."""

    def read(split: Split, there: Collection[str]) -> Iterable[tuple[Clip, NDArray[Any]]]:
        return pixel_clips((clip for clip in source.clips(split) if clip.id not in there), fps)

    stores = {}
    for split in SPLITS:
        report(f"data: reading the {split} split at {fps:g} frames/s")
        fingerprint = store_fingerprint("pixels", source.fingerprint(), fps, split)
        stores[split] = _once(work, f"real-{split}", fingerprint, partial(read, split))
    return stores


def generated_stores(out: Folder, manifest: Mapping[str, Any], work: Path, number: int) -> dict[Split, Store]:
    """Read a generated dataset once, into caches; a split that it has not is left out."""

    def read(split: Split, there: Collection[str]) -> Iterable[tuple[StoredClip, NDArray[Any]]]:
        return ((clip, clip.frames) for clip in read_generated(out, manifest, (split,)) if clip.id not in there)

    stores = {}
    for split in SPLITS:
        shards = [entry["sha256"] for entry in manifest["shards"] if entry["split"] == split]
        if shards:
            fingerprint = store_fingerprint("made", *shards)
            stores[split] = _once(work, f"made-{number}-{split}", fingerprint, partial(read, split))
    return stores


def reconstructed_stores(
    real: Mapping[Split, Store], encoder: Any, digest: str, source: str, fps: float, work: Path, device: str
) -> dict[Split, Store]:
    """Pass the real training and validation clips through the encoder and back, frame by frame."""
    encoder.to(device, torch.float32)

    def copied(clips: Clips, there: Collection[str]) -> Iterable[tuple[StoredClip, NDArray[Any]]]:
        for clip in (clip for clip in clips if clip.id not in there):
            parts = to_images(clip.read()).split(ENCODE_BATCH)
            yield clip, to_frames(torch.cat([encoder.decode(encoder.encode(part)).cpu() for part in parts]))

    return {
        split: _once(
            work,
            f"reconstructed-{split}",
            store_fingerprint("reconstructed", source, fps, digest, split),
            partial(copied, real[split]),
        )
        for split in ("train", "val")
    }


def relabelled(clips: Clips, label: str, values: NDArray[Any]) -> list[CachedClip]:
    """Return the same clips with another value of a label."""
    return [
        evolve(clip, labels={**clip.labels, label: float(value)}) for clip, value in zip(clips, values, strict=True)
    ]


def with_noise(clips: Clips, label: str, spread: float, seed: int) -> list[CachedClip]:
    """Return the same clips with labels as somebody would write them down who errs by so much (standard deviation)."""
    values = np.array([clip.labels[label] for clip in clips], float)
    return relabelled(clips, label, values + np.random.default_rng([seed, 2]).normal(0, spread, len(values)))


def distributed_as(clips: Clips, real: Clips, label: str, seed: int) -> list[CachedClip]:
    """Return as many of the clips, some more than once, whose labels are distributed as those of the real ones.

    Of each evenly spaced quantile of the real labels the clip with the nearest label is taken.
    """
    own = np.array([clip.labels[label] for clip in clips], float)
    wanted = np.quantile([float(clip.labels[label]) for clip in real], (np.arange(len(own)) + 0.5) / len(own))
    nearest = [int(np.abs(own - value).argmin()) for value in wanted]
    return [clips[i] for i in np.random.default_rng([seed, 3]).permutation(nearest)]


def share_of_patients(clips: Clips, share: float, seed: int) -> list[CachedClip]:
    """Return the clips of a drawn share of the patients, at least two."""
    groups = sorted({clip.group for clip in clips})
    order = np.random.default_rng([seed, 1]).permutation(len(groups))
    kept = {groups[i] for i in order[: max(2, round(share * len(groups)))]}
    return [clip for clip in clips if clip.group in kept]


def _once(work: Path, name: str, fingerprint: str, items: Items) -> Store:
    folder = private_folder(work / "pixels")
    with locked(folder):
        return write_store(folder / name, fingerprint, items)


def _write(path: Path, found: Sequence[float]) -> None:
    """Write readings for their owner alone; the file is whole or not there."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(found))
    unfinished.replace(path)
