"""Make a bundle of weights that somebody else published."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import evolve, field, frozen

from echosdk.bundle import PRIVATE, Bundle, Manifest, add_stage, begin_bundle, write_manifest
from echosdk.clips.store import pixel_clips
from echosdk.errors import BundleError, DataError
from echosdk.integrity import digest
from echosdk.interfaces import KINDS, SPLITS, DataSource, References, Split
from echosdk.plugin_set import Choice, PluginSet, resolve
from echosdk.published_layout import PublishedLayout, PublishedWeights
from echosdk.registry import Registry
from echosdk.training.data import check_source, facts_of_source
from echosdk.training.references import Latents, encode, evenly, keep_references, strangers
from echosdk.training.stages import ON_PIXELS


@frozen(kw_only=True)
class Import:
    """What an import is made of. `source` gives the references; without one the bundle is a stripped one."""

    layout_name: str
    parameters: Mapping[str, Any]
    registry: Registry
    out: Path
    source: DataSource | None = None
    source_name: str = ""
    references_a_clip: int = 4
    device: str = "cpu"
    report: Callable[[str], None] = field(default=lambda line: None)


def import_bundle(wanted: Import) -> Bundle:
    """Read published weights with the layout that a plugin offers, and write a bundle, whole or not at all.

    The private part needs latents of real data: without a source there is none, and the bundle is a stripped one.
    Raises `BundleError` where `out` exists or the weights do not fit, and `DataError` where the data do not.
    """
    component = wanted.registry.component("published_layout", wanted.layout_name, "--from")
    layout: PublishedLayout = wanted.registry.build(
        "published_layout", wanted.layout_name, wanted.parameters, f"--from {wanted.layout_name}"
    )
    if wanted.out.exists():
        raise BundleError(f"{wanted.out}: exists; choose another --out")
    weights = layout.describe()
    plugin_set = _plugin_set(weights, wanted.registry)
    if wanted.source is None:
        data = {"source": wanted.layout_name, "parameters": {}, "summary": component.summary}
        labels = weights.labels
    else:
        check_source(wanted.source)
        data = facts_of_source(wanted.source, wanted.source_name, wanted.registry) | _counts(wanted.source)
        labels = _same_labels(wanted.source, weights)
    manifest = Manifest(
        plugin_set=plugin_set.to_plain(),
        labels=labels,
        fps=weights.fps,
        frame_shape=weights.frame_shape,
        data=data,
        sampling=weights.sampling,
    )
    partial = wanted.out.with_name(wanted.out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write(partial, manifest, layout, weights, plugin_set, wanted)
        os.replace(partial, wanted.out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Bundle.open(str(wanted.out))


def _write(
    folder: Path,
    manifest: Manifest,
    layout: PublishedLayout,
    weights: PublishedWeights,
    plugin_set: PluginSet,
    wanted: Import,
) -> None:
    if wanted.source is None:
        folder.mkdir(parents=True)
        bundle = write_manifest(folder, manifest)
    else:
        bundle = begin_bundle(folder, manifest)
    origin = {key: value for key, value in wanted.parameters.items() if key != "location"}
    facts = {"imported": wanted.layout_name, **origin}

    references: References | None = None
    for kind in KINDS:
        if kind not in weights.parameters:
            continue
        wanted.report(f"{kind}: importing")
        choice, before = plugin_set.choices[kind], bundle.manifest
        made_by = {"use": choice.use, "parameters": dict(choice.parameters), "seed": 0}
        encoder = None if kind in ON_PIXELS else before.stages["encoder"].public
        written = _Written(layout, kind, references)
        bundle = add_stage(bundle, kind, written, encoder, {"choice": made_by, "facts": facts})
        if not (folder / kind).exists() and not (folder / PRIVATE / kind).exists():
            bundle = write_manifest(folder, before)  # all of it is private, and a stripped bundle has none
        if kind == "encoder" and wanted.source is not None:
            bundle = _with_references(bundle, plugin_set, wanted.source, wanted)
            references = bundle.references()[0]
    if wanted.source is None:
        data = {**bundle.manifest.data, "fingerprint": digest(folder, only=KINDS)}
        write_manifest(folder, evolve(bundle.manifest, data=data))


@frozen
class _Written:
    """The trained state of one kind, as the layout writes it."""

    layout: PublishedLayout
    kind: str
    references: References | None

    def save(self, public: Path, private: Path) -> None:
        self.layout.write(self.kind, public)
        if self.references is not None:
            self.layout.write_private(self.kind, private, self.references)


def _plugin_set(weights: PublishedWeights, registry: Registry) -> PluginSet:
    """Return the plugin set of the weights with every parameter."""
    found = PluginSet.find(weights.plugin_set, registry)
    choices = {
        kind: Choice(use=choice.use, parameters={**choice.parameters, **weights.parameters.get(kind, {})})
        for kind, choice in found.choices.items()
    }
    return resolve(registry, evolve(found, choices=choices, fps=weights.fps))


def _same_labels(source: DataSource, weights: PublishedWeights) -> Any:
    """Return the source's labels, whose names and units must be those that the weights know."""
    theirs, ours = ([(label.name, getattr(label, "unit", "")) for label in of.labels] for of in (source, weights))
    if theirs != ours:
        raise DataError(f"--data: its labels are {_words(theirs)}, those of the published weights {_words(ours)}")
    return source.labels


def _words(labels: list[tuple[str, str]]) -> str:
    return ", ".join(f"{name} in {unit}" if unit else name for name, unit in labels)


def _counts(source: DataSource) -> dict[str, int]:
    """Count clips and patients as training does. Reads no frame."""
    found: dict[str, int] = {}
    for split in SPLITS[:2]:
        groups = [clip.group for clip in source.clips(split)]
        found |= {f"{split}_clips": len(groups), f"{split}_patients": len(set(groups))}
    return found


def _with_references(bundle: Bundle, plugin_set: PluginSet, source: DataSource, wanted: Import) -> Bundle:
    """Encode some frames of every training clip, and one clip of every validation patient."""
    encoder = plugin_set.build(wanted.registry, "encoder")
    bundle.load("encoder", encoder, plugin_set.choices["encoder"].use)
    encoder.to(wanted.device, torch.float32)

    def encoded(split: Split, count: int | None, one_each: bool) -> list[Latents]:
        wanted.report(f"references: encoding frames of the {split} split")
        found: list[Latents] = []
        seen: set[str] = set()
        for clip in source.clips(split):
            if one_each and clip.group in seen:
                continue
            seen.add(clip.group)
            ((_, frames),) = pixel_clips([clip], plugin_set.fps)
            if frames.shape[1:] != bundle.manifest.frame_shape:
                raise DataError(
                    f"{clip.id}: frames are {frames.shape[1:]}, those of the published weights "
                    f"{bundle.manifest.frame_shape}; give the data that they were trained on"
                )
            chosen = frames if count is None else frames[evenly(len(frames), count)]
            found.append((clip.group, encode(encoder, chosen)))
        return found

    train = encoded("train", wanted.references_a_clip, one_each=False)
    test = strangers(source, encoder, plugin_set.fps, bundle.noise_key)
    return keep_references(bundle, encoder, train, encoded("val", None, one_each=True), test)
