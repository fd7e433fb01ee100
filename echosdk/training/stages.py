"""Train a bundle, stage by stage: encoder, latent cache, then whatever else of the plugin set learns."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState
from attrs import asdict, field, frozen
from numpy.typing import NDArray

from echosdk.abilities import DataCheck, TrainingCheck
from echosdk.bundle import (
    MANIFEST,
    Bundle,
    Manifest,
    Stage,
    add_stage,
    amend,
    begin_bundle,
    refuse_what_is_no_bundle,
)
from echosdk.clips.store import store_fingerprint
from echosdk.errors import DataError, InputError, TrainingError
from echosdk.integrity import alone, private_folder
from echosdk.interfaces import KINDS, DataSource, Run, StoredClip, Switches, Trainable, TrainingData
from echosdk.plugin_set import PluginSet, parse_source
from echosdk.published import published
from echosdk.registry import Registry, default_parameters
from echosdk.seeding import seed_of
from echosdk.training.data import (
    Named,
    Place,
    check_sources,
    counts_of,
    facts_of_source,
    latents_of,
    pixels_of,
    together,
    tolerant,
)
from echosdk.training.learner import share_of
from echosdk.training.recipe import Recipe
from echosdk.training.references import evenly, keep_references, strangers
from echosdk.training.watch import check_switches

ON_PIXELS = ("encoder", "downstream_validator")
ON_ALL_DATA = ("encoder", "video_animator")
"""The kinds that learn from every source where several are given; the others learn from the first alone."""


@frozen(kw_only=True)
class Training:
    """What a training is made of. `work` holds caches and checkpoints; it derives from real data and stays private.

    The bundle is of `source`: its references are kept, and its labels are drawn. `more` are other sources, with what
    the user calls them, from which `ON_ALL_DATA` learn too. `start` is a bundle whose weights each stage starts from.
    """

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
    more: tuple[tuple[DataSource, str], ...] = ()
    start: Bundle | None = None
    skip_bad: bool = False
    references_a_clip: int = 4
    progress: bool = False
    switches: Switches = Switches()
    report: Callable[[str], None] = field(default=lambda line: None)

    @property
    def sources(self) -> list[Named]:
        """The source and those besides."""
        return [Named(self.source, self.source_name), *(Named(*each) for each in self.more)]

    @property
    def place(self) -> Place:
        """Where the data's stores are kept."""
        return Place(work=self.work, fps=self.plugin_set.fps, skip_bad=self.skip_bad, report=self.report)


def train_bundle(training: Training) -> Bundle:
    """Train the wanted stages that are not yet done, and return the bundle.

    What the bundle says of a kind is replaced when that kind is wanted and its stage is done: so a command that trains
    one stage leaves the parameters of all others as they were trained. Sampling defaults are replaced by a command that
    wants every stage. Raises `DataError` before any training where the data cannot be used.
    """
    check_switches(training.switches)
    if training.start and training.start.folder.resolve() == training.out.resolve():
        raise InputError(f"{training.out}: is the bundle to start from; choose another --out")
    refuse_what_is_no_bundle(training.out)
    components = training.plugin_set.build_all(training.registry)
    for kind in training.stages:
        if isinstance(components[kind], TrainingCheck) and not _is_there(training, kind):
            components[kind].check_training()
    recipes = _recipes(training, components)
    _refuse_uneven_shares(recipes, training.switches.accumulate)
    sources = training.sources
    if training.skip_bad:
        sources = [tolerant(named, training.report) for named in sources]
    counted = check_sources(sources)
    _refuse_fewer_than_a_batch(recipes, [each["train"] for each in counted])
    all_pixels = pixels_of(sources, training.place)
    _refuse_fewer_than_a_batch(recipes, [len(each.train) for each in all_pixels])  # without what cannot be read
    pixels = all_pixels[0]
    for kind in training.stages:
        if isinstance(components[kind], DataCheck) and not _is_there(training, kind):
            components[kind].check_data(together(all_pixels) if kind in ON_ALL_DATA else pixels)
    height, width, *_ = pixels.shape
    about, *others = (
        {**facts_of_source(named.source, named.name, training.registry), **counts_of(of)}
        for named, of in zip(sources, all_pixels, strict=True)
    )
    bundle = begin_bundle(
        training.out,
        Manifest(
            plugin_set=published(training.plugin_set.to_plain()),
            labels=training.source.labels,
            fps=training.plugin_set.fps,
            frame_shape=pixels.shape,
            data=about | ({"also": {str(i): other for i, other in enumerate(others, start=2)}} if others else {}),
            sampling=training.plugin_set.sampling,
        ),
    )
    for named, of in zip(sources, all_pixels, strict=True):
        whose = f" from {parse_source(named.name)[0]}" if others else ""
        training.report(f"data: {len(of.train)} training and {len(of.val)} validation clips of {height}x{width}{whose}")

    learns = {kind for kind in training.stages if isinstance(components[kind], Trainable)}
    latents: list[TrainingData] = []
    if "encoder" in training.stages or learns - set(ON_PIXELS):
        bundle = _stage(bundle, "encoder", components["encoder"], together(all_pixels), training)
    if learns - set(ON_PIXELS):
        wanted = len(sources) if learns & set(ON_ALL_DATA) - {"encoder"} else 1
        components["encoder"].to(training.device, torch.float32)  # the same whatever precision a training has
        digest = bundle.manifest.stages["encoder"].public
        latents = latents_of(sources[:wanted], all_pixels[:wanted], components["encoder"], digest, training.place)
        bundle = _keep_references(bundle, sources[0].source, latents[0], components["encoder"], training)
    for kind in KINDS[1:]:
        if kind in learns:
            data = all_pixels if kind in ON_PIXELS else latents
            joined = together(data if kind in ON_ALL_DATA else data[:1])
            bundle = _stage(bundle, kind, components[kind], joined, training)
        elif kind in training.stages:
            bundle = amend(bundle, choices={kind: _entry(training, kind)})
            if set(training.stages) != set(KINDS):
                training.report(f"{kind}: {training.plugin_set.choices[kind].use!r} learns nothing")
    return amend(bundle, sampling=training.plugin_set.sampling) if set(training.stages) == set(KINDS) else bundle


def _recipes(training: Training, components: Mapping[str, Any]) -> dict[str, Recipe]:
    """Return the recipes by which the wanted stages that are not there yet are trained."""
    recipes = {kind: getattr(components[kind], "recipe", None) for kind in training.stages}
    return {
        kind: recipe
        for kind, recipe in recipes.items()
        if isinstance(recipe, Recipe) and not _is_there(training, kind)
    }


def _refuse_uneven_shares(recipes: Mapping[str, Recipe], accumulate: int) -> None:
    for kind, recipe in recipes.items():
        try:
            share_of(recipe.batch_size, int(os.environ.get("WORLD_SIZE", "1")), accumulate)
        except TrainingError as error:
            raise TrainingError(f"{kind}: {error}") from None


def _refuse_fewer_than_a_batch(recipes: Mapping[str, Recipe], clips_of_sources: Sequence[int]) -> None:
    for kind, recipe in recipes.items():
        clips = sum(clips_of_sources if kind in ON_ALL_DATA else clips_of_sources[:1])
        if recipe.batch_size > clips:
            raise DataError(
                f"{kind}: {clips} training clips are fewer than a batch of {recipe.batch_size}; give more, or "
                f"--set {kind}.recipe.batch_size={clips}"
            )


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
    start = _start_of(training, kind) if learns and kind in training.stages else None
    as_wanted = done and _done_key(training, kind, done, fixed) == public_key and done.encoder == encoder
    if done and as_wanted and (start is None or done.provenance.get("start") == start):
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
    others = bundle.manifest.data.get("also", {}).values() if kind in ON_ALL_DATA else ()
    of_data = (bundle.manifest.data["fingerprint"], *(other["fingerprint"] for other in others))
    made_of = (key, encoder or "", of_data[0], bundle.manifest.fps, *of_data[1:], *([start] if start else []))
    run = Run(
        folder=private_folder(training.work / "stages") / f"{kind}-{store_fingerprint(*made_of)[:12]}",
        seed=seed_of(training.seed, kind) % 2**31,
        device=training.device,
        dtype=training.dtype,  # type: ignore[arg-type]
        progress=training.progress,
        switches=training.switches,
        report=lambda line: training.report(f"{kind}: {line}"),
    )
    processes = PartialState(cpu=training.device == "cpu")
    processes.wait_for_everyone()  # all have seen that it is not done
    torch.manual_seed(run.seed)  # the networks' first weights
    if training.start and start:
        training.report(f"{kind}: starting from the weights of {training.start.where}")
        training.start.load(kind, component, choice.use)
    busy = f"{kind}: another process trains it in {run.folder}; wait for that one, or give this one another --work"
    with alone(private_folder(run.folder), busy) if processes.is_main_process else nullcontext():
        facts = component.fit(data, run)
    if processes.is_main_process:
        provenance = {"choice": made_by, "facts": dict(facts), **({"start": start} if start else {})}
        add_stage(bundle, kind, component, encoder, provenance)
    processes.wait_for_everyone()
    bundle = Bundle.open(str(bundle.folder))
    bundle.load(kind, component, choice.use)  # what comes next sees what was saved, not what was in memory
    training.report(f"{kind}: done: {json.dumps(dict(facts))}")
    return bundle


def _start_of(training: Training, kind: str) -> dict[str, Any] | None:
    """Return which weights a stage is to start from, and how they were made; None where it starts from nothing."""
    stage = training.start.manifest.stages.get(kind) if training.start else None
    if stage is None or stage.provenance["choice"]["use"] != training.plugin_set.choices[kind].use:
        return None
    return {"public": stage.public, "private": stage.private, "provenance": dict(stage.provenance)}


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
    known = {name: parameters.get(name) for name in fixed}
    if isinstance(recipe := known.get("recipe"), Mapping):  # what its version did not know had today's default
        known["recipe"] = {**asdict(Recipe()), **recipe, "checkpoint_every": None}  # of which nothing is learnt
    return {"use": use, "seed": seed, "parameters": _plain(known)}


def _done_key(training: Training, kind: str, done: Stage, fixed: Sequence[str]) -> dict[str, Any]:
    """Return what decided a trained component's weights; what its version did not know had today's default."""
    made_by = done.provenance["choice"]
    if made_by["use"] != training.plugin_set.choices[kind].use:
        return _key(fixed, **made_by)
    known = default_parameters(training.registry.component(kind, made_by["use"])) | made_by["parameters"]
    return _key(fixed, made_by["use"], published(known), made_by["seed"])


def _keep_references(
    bundle: Bundle, source: DataSource, latents: TrainingData, encoder: Any, training: Training
) -> Bundle:
    """Keep some frames of every training clip, all of one clip of a held-out patient, one frame of a test patient."""
    train = [(clip.group, _some_of(clip, training.references_a_clip)) for clip in latents.train]
    one_each = {clip.group: clip for clip in latents.val}.values()
    skipped = training.report if training.skip_bad else None
    test = strangers(source, encoder, training.plugin_set.fps, bundle.noise_key, skipped)
    holdout = [(clip.group, clip.read().astype(np.float16)) for clip in one_each]  # as they are stored and kept
    return keep_references(bundle, encoder, train, holdout, test)


def _some_of(clip: StoredClip, count: int) -> NDArray[Any]:
    return np.stack([clip.read(index, index + 1)[0] for index in evenly(clip.num_frames, count)]).astype(np.float16)


def _plain(parameters: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(parameters))
