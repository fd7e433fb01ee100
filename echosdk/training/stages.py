"""Train a bundle, stage by stage: encoder, latent cache, then whatever else of the plugin set learns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState
from attrs import evolve, field, frozen
from numpy.typing import NDArray

from echosdk.bundle import (
    MANIFEST,
    PRIVATE,
    REFERENCES,
    Bundle,
    Manifest,
    Stage,
    add_stage,
    amend,
    begin_bundle,
)
from echosdk.clips.images import to_images
from echosdk.clips.store import CachedClip, Store, pixel_clips, store_fingerprint, write_store
from echosdk.errors import DataError, InputError
from echosdk.integrity import file_digest, locked, private_folder, write_whole
from echosdk.interfaces import KINDS, SPLITS, DataSource, Run, Split, Trainable, TrainingCheck, TrainingData
from echosdk.plugin_set import PluginSet, parse_source
from echosdk.published import published
from echosdk.registry import Registry, default_parameters
from echosdk.seeding import generator, seed_of
from echosdk.training.recipe import Recipe

ON_PIXELS = ("encoder", "downstream_validator")
ENCODE_BATCH = 32


@frozen(kw_only=True)
class Training:
    """What a training is made of. `work` holds caches and checkpoints; it derives from real data and stays private."""

    plugin_set: PluginSet
    registry: Registry
    source: DataSource
    source_name: str
    out: Path
    work: Path
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    stages: tuple[str, ...] = KINDS
    references_a_clip: int = 4
    progress: bool = False
    report: Callable[[str], None] = field(default=lambda line: None)


def train_bundle(training: Training) -> Bundle:
    """Train the wanted stages that are not yet done, and return the bundle.

    What the bundle says of a kind is replaced when that kind is wanted and its stage is done: so a command that trains
    one stage leaves the parameters of all others as they were trained. Sampling defaults are replaced by a command that
    wants every stage. Raises `DataError` before any training where the data cannot be used.
    """
    components = training.plugin_set.build_all(training.registry)
    for kind in training.stages:
        if isinstance(components[kind], TrainingCheck) and not _is_there(training, kind):
            components[kind].check_training()
    clips = check_source(training.source)
    for kind in training.stages:
        recipe = getattr(components[kind], "recipe", None)
        if isinstance(recipe, Recipe) and recipe.batch_size > clips["train"] and not _is_there(training, kind):
            raise DataError(
                f"{kind}: {clips['train']} training clips are fewer than a batch of {recipe.batch_size}; give more, or "
                f"--set {kind}.recipe.batch_size={clips['train']}"
            )
    pixels = _pixels(training)
    height, width, *_ = pixels.shape
    bundle = begin_bundle(
        training.out,
        Manifest(
            plugin_set=published(training.plugin_set.to_plain()),
            labels=training.source.labels,
            fps=training.plugin_set.fps,
            frame_shape=pixels.shape,
            data={
                **_public_name(training.source_name),
                "summary": training.registry.component("data_source", parse_source(training.source_name)[0]).summary,
                "fingerprint": training.source.fingerprint(),
                **_counts(pixels),
            },
            sampling=training.plugin_set.sampling,
        ),
    )
    training.report(f"data: {len(pixels.train)} training and {len(pixels.val)} validation clips of {height}x{width}")

    learns = {kind for kind in training.stages if isinstance(components[kind], Trainable)}
    latents = None
    if "encoder" in training.stages or learns - set(ON_PIXELS):
        bundle = _stage(bundle, "encoder", components["encoder"], pixels, training)
    if learns - set(ON_PIXELS):
        latents = _latents(bundle, components["encoder"], pixels, training)
        bundle = _keep_references(bundle, latents, training)
    for kind in KINDS[1:]:
        if kind in learns:
            data = pixels if kind in ON_PIXELS else cast(TrainingData, latents)
            bundle = _stage(bundle, kind, components[kind], data, training)
        elif kind in training.stages:
            bundle = amend(bundle, choices={kind: _entry(training, kind)})
            if set(training.stages) != set(KINDS):
                training.report(f"{kind}: {training.plugin_set.choices[kind].use!r} learns nothing")
    return amend(bundle, sampling=training.plugin_set.sampling) if set(training.stages) == set(KINDS) else bundle


def check_source(source: DataSource) -> dict[Split, int]:
    """Refuse data that no training can use: an empty split, a patient in two splits, labels that never differ.

    Returns how many clips each split has. Reads no frame.
    """
    counts: dict[Split, int] = {}
    groups: dict[str, str] = {}
    values: dict[str, set[float | str]] = {label.name: set() for label in source.labels}
    for split in SPLITS:
        clips = 0
        for clip in source.clips(split):
            clips += 1
            other = groups.setdefault(clip.group, split)
            if other != split:
                raise DataError(f"{clip.id}: patient {clip.group!r} is in two splits, {other} and {split}")
            for name, seen in values.items():
                if name not in clip.labels:
                    raise DataError(f"{clip.id}: has no label {name!r}, which its source declares")
                seen.add(clip.labels[name])
        counts[split] = clips
        if not clips and split != "test":
            raise DataError(f"the split {split!r} has no clips; training needs train and val")
    for name, seen in values.items():
        if len(seen) == 1:
            raise DataError(f"label {name!r} is {seen.pop()!r} in every clip; nothing can be learnt from it")
    return counts


def _stage(bundle: Bundle, kind: str, component: Any, data: TrainingData, training: Training) -> Bundle:
    """Do a stage unless it is done. An encoder that learns nothing is a stage too: others are bound to its latents."""
    choice = training.plugin_set.choices[kind]
    learns = isinstance(component, Trainable)
    fixed = _fixed(training, kind, learns)
    seed = training.seed if learns else 0
    key = _key(fixed, choice.use, choice.parameters, seed)
    public_key = published(key)
    done = bundle.manifest.stages.get(kind)
    encoder = None if kind in ON_PIXELS else bundle.manifest.stages["encoder"].public
    if done and _done_key(training, kind, done, fixed) == public_key and done.encoder == encoder:
        if kind in training.stages:
            bundle = amend(bundle, choices={kind: _entry(training, kind)})  # its run parameters may be new
        bundle.load(kind, component, choice.use)
        return bundle
    if kind not in training.stages and (learns or done):  # an encoder that others need
        raise InputError(
            f"{training.out}: has no trained encoder with these parameters; train it first: --stage encoder"
        )
    made_by = {"use": choice.use, "parameters": published(_plain(choice.parameters)), "seed": seed}
    if not learns:
        public = store_fingerprint(public_key)
        stage = Stage(public=public, private="", encoder=encoder, provenance={"choice": made_by, "facts": {}})
        return amend(bundle, stages={kind: stage}, choices={kind: _entry(training, kind)})
    training.report(f"{kind}: training {choice.use!r}")
    made_of = (key, encoder or "", bundle.manifest.data["fingerprint"], bundle.manifest.fps)
    run = Run(
        folder=private_folder(training.work / "stages") / f"{kind}-{store_fingerprint(*made_of)[:12]}",
        seed=seed_of(training.seed, kind) % 2**31,
        device=training.device,
        dtype=training.dtype,  # type: ignore[arg-type]
        progress=training.progress,
        report=lambda line: training.report(f"{kind}: {line}"),
    )
    together = PartialState(cpu=training.device == "cpu")
    together.wait_for_everyone()  # all have seen that it is not done
    torch.manual_seed(run.seed)  # the networks' first weights
    facts = component.fit(data, run)
    if together.is_main_process:
        add_stage(bundle, kind, component, encoder, {"choice": made_by, "facts": dict(facts)})
    together.wait_for_everyone()
    bundle = Bundle.open(str(bundle.folder))
    bundle.load(kind, component, choice.use)  # what comes next sees what was saved, not what was in memory
    training.report(f"{kind}: done: {json.dumps(dict(facts))}")
    return bundle


def _fixed(training: Training, kind: str, learns: bool) -> Sequence[str]:
    """Return the parameters that decide what a component is: where nothing is learnt, all of them."""
    choice = training.plugin_set.choices[kind]
    return training.registry.component(kind, choice.use).shape if learns else tuple(choice.parameters)


def _is_there(training: Training, kind: str) -> bool:
    """Say whether the bundle has this component as it is wanted, on whatever encoder."""
    done = Bundle.open(str(training.out)).manifest.stages.get(kind) if (training.out / MANIFEST).is_file() else None
    choice, fixed = training.plugin_set.choices[kind], _fixed(training, kind, learns=True)
    wanted = published(_key(fixed, choice.use, choice.parameters, training.seed))
    return done is not None and _done_key(training, kind, done, fixed) == wanted


def _entry(training: Training, kind: str) -> dict[str, Any]:
    """Return what the bundle's plugin set is to say of a kind."""
    return cast(dict[str, Any], published(training.plugin_set.to_plain()[kind]))


def _key(fixed: Sequence[str], use: str, parameters: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return what decides a component's weights: not its run parameters, which may change when it is trained."""
    return {"use": use, "seed": seed, "parameters": _plain({name: parameters.get(name) for name in fixed})}


def _done_key(training: Training, kind: str, done: Stage, fixed: Sequence[str]) -> dict[str, Any]:
    """Return what decided a trained component's weights; what its version did not know had today's default."""
    made_by = done.provenance["choice"]
    if made_by["use"] != training.plugin_set.choices[kind].use:
        return _key(fixed, **made_by)
    known = default_parameters(training.registry.component(kind, made_by["use"])) | made_by["parameters"]
    return _key(fixed, made_by["use"], published(known), made_by["seed"])


def _pixels(training: Training) -> TrainingData:
    fps, source = training.plugin_set.fps, training.source

    def store(split: str) -> Store:
        fingerprint = store_fingerprint("pixels", source.fingerprint(), fps, split)
        training.report(f"data: reading the {split} split at {fps:g} frames/s")
        return _write_once(
            training, "pixels", split, fingerprint, lambda: pixel_clips(source.clips(split), fps)  # type: ignore[arg-type]
        )

    train, val = store("train"), store("val")
    (height, width), other = train.shape[:2], val.shape
    if height != width:
        raise DataError(
            f"{train[0].id}: frames of {height}x{width} are not square, and training takes square ones only; crop or "
            "pad them in the data source"
        )
    if other != train.shape:
        raise DataError(f"{val[0].id}: frames are {other}, those of the training split are {train.shape}")
    return TrainingData(train=train, val=val, labels=source.labels, fps=fps, shape=train.shape)


def _write_once(training: Training, kind: str, split: str, fingerprint: str, items: Callable[[], Any]) -> Store:
    """Write a store of real data; another process that trains the same bundle waits for it, and finds it there."""
    training.work.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = private_folder(training.work / kind)
    with locked(folder):
        return write_store(folder / split, fingerprint, items)


def _latents(bundle: Bundle, encoder: Any, pixels: TrainingData, training: Training) -> TrainingData:
    source, digest = training.source, bundle.manifest.stages["encoder"].public

    encoder.to(training.device, torch.float32)  # latents are the same whatever precision a training has

    def encoded(clips: Sequence[CachedClip]) -> Iterator[tuple[CachedClip, NDArray[Any]]]:
        for clip in clips:
            frames = clip.read()
            parts = [
                encoder.encode(to_images(frames[first:last])).cpu()
                for first, last in _batches(len(frames), ENCODE_BATCH)
            ]
            yield clip, torch.cat(parts).numpy().astype(np.float16)

    def store(split: str, clips: Any) -> Store:
        made_of = (source.fingerprint(), pixels.fps, split, digest, "float32", "float16")
        fingerprint = store_fingerprint("latents", *made_of)
        training.report(f"latents: encoding the {split} split")
        return _write_once(training, "latents", split, fingerprint, lambda: encoded(clips))

    train, val = store("train", pixels.train), store("val", pixels.val)
    return evolve(pixels, train=train, val=val, shape=train.shape)


def _keep_references(bundle: Bundle, latents: TrainingData, training: Training) -> Bundle:
    """Keep what a filter compares with: some frames of every training clip, all of one clip of every held-out patient.

    Patients are numbered in an order drawn with the noise key, so that a number says nothing.
    """
    from safetensors.torch import save

    groups = sorted({clip.group for clip in (*latents.train, *latents.val)})
    order = torch.randperm(len(groups), generator=generator("pseudonyms", key=bundle.noise_key)).tolist()
    pseudonym = dict(zip(groups, order, strict=True))

    train, train_group = [], []
    for clip in latents.train:
        frames = clip.read()
        chosen = np.linspace(0, len(frames) - 1, min(training.references_a_clip, len(frames))).round().astype(int)
        train.append(frames[chosen])
        train_group += [pseudonym[clip.group]] * len(chosen)
    one_each = list({clip.group: clip for clip in latents.val}.values())
    holdout = [clip.read() for clip in one_each]
    lengths = [len(frames) for frames in holdout]
    tensors = {
        "train": torch.from_numpy(np.concatenate(train)).half(),
        "train_group": torch.tensor(train_group),
        "holdout": torch.from_numpy(np.concatenate(holdout)).half(),
        "holdout_group": torch.tensor(
            [pseudonym[clip.group] for clip, n in zip(one_each, lengths, strict=True) for _ in range(n)]
        ),
        "holdout_video": torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)),
    }
    content = save(tensors)
    digest = hashlib.sha256(content).hexdigest()
    path = bundle.folder / PRIVATE / REFERENCES
    with locked(path.parent):
        if not path.is_file() or file_digest(path) != digest:
            write_whole(path, content, mode=0o600)
    return amend(bundle, references=digest)


def _batches(length: int, size: int) -> Iterable[tuple[int, int]]:
    return pairwise([*range(0, length, size), length])


def _counts(data: TrainingData) -> dict[str, int]:
    return {
        "train_clips": len(data.train),
        "train_patients": len({clip.group for clip in data.train}),
        "val_clips": len(data.val),
        "val_patients": len({clip.group for clip in data.val}),
    }


def _public_name(source: str) -> dict[str, Any]:
    """Return the source's name and what of its parameters is a number or a truth value: a text may name a place."""
    name, parameters = parse_source(source)
    return {"source": name, "parameters": {key: value for key, value in parameters.items() if _is_number(value)}}


def _is_number(value: object) -> bool:
    return isinstance(value, bool | int | float)


def _plain(parameters: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(parameters))
