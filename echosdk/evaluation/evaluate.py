"""How good is a generated dataset? Everything is measured against the training and against the held-out split.

A distance to the training split alone would reward a model that remembers it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray

from echosdk.abilities import Joins
from echosdk.bundle import Bundle
from echosdk.clips.array import ArrayClip
from echosdk.clips.images import to_images
from echosdk.errors import BundleError, EchoError, InputError, PrivacyError
from echosdk.evaluation.clips import HELD_OUT, one_of_each_patient, read_generated, read_real
from echosdk.evaluation.continuity import (
    errors_by_window,
    frame_differences,
    seam_ratio_of,
    window_errors,
    window_starts,
)
from echosdk.evaluation.distances import FEWEST
from echosdk.evaluation.features import (
    LPIPS_NETWORKS,
    alexnet,
    of_filter,
    of_validator,
    perceptual_distance,
    pixels,
)
from echosdk.evaluation.images import measure_copies, measure_values
from echosdk.evaluation.in_memory import InMemory
from echosdk.evaluation.intervals import BOOTSTRAP
from echosdk.evaluation.labels import measure_labels, measure_windows
from echosdk.evaluation.measurement import Measured, NotComputed, finite
from echosdk.evaluation.pretrained import pretrained
from echosdk.evaluation.seen import Seen, Tools, image_distances, said, see, video_distances
from echosdk.evaluation.temporal import measure_motion
from echosdk.generation.dataset import read_manifest
from echosdk.generation.files import Folder
from echosdk.generation.plan import Plan
from echosdk.generation.reading import check_complete
from echosdk.interfaces import Category, DataSource, Label
from echosdk.plugin_set import PluginSet
from echosdk.registry import Registry

BATCH = 32


@frozen(kw_only=True)
class Scorecard:
    """What `echosdk evaluate` found. `n` is the size of every set that is compared with another.

    `measured` is by subject: images, videos, motion, labels, reconstruction.
    """

    dataset: str
    data: str
    bundle: str | None
    n: int
    measured: Mapping[str, Sequence[Measured]]
    not_computed: Sequence[NotComputed]

    def plain(self) -> dict[str, Any]:
        """Return it for JSON, in which what is no finite number is null."""
        plain: dict[str, Any] = finite(attrs.asdict(self))
        return plain


def evaluate(
    out: str,
    source: DataSource,
    source_name: str,
    *,
    bundle: str | None = None,
    videos: int = 500,
    seed: int = 0,
    device: str = "cpu",
    reconstructions: bool = False,
    stills: bool = False,
    real_stills: bool = False,
    registry: Registry | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Scorecard:
    """Measure the dataset at `out` against real data.

    At most `videos` generated videos are looked at, drawn by the seed, and twice as many of each real split, one of a
    patient. The networks are those of the bundle that the dataset was made from, or of the one that is named; what
    needs one that is not there is reported as not computed. `reconstructions` are as many held-out videos after the
    encoder, `stills` as many of the bundle's before and after its filter, `real_stills` as many held-out frames that
    are animated: all in memory, to be measured, and never written.

    Raises `InputError` where there is nothing to compare.
    """
    registry = registry or Registry.discover()
    folder = Folder.at(out)
    manifest = read_manifest(folder)
    check_complete(folder, manifest)
    plan = Plan.of_public(manifest["plan"])
    opened = bundle_of(bundle, plan, registry)
    train = one_of_each_patient(source, ("train",), seed)
    held_out = one_of_each_patient(source, HELD_OUT, seed)
    total = int(manifest["counts"]["samples"])
    n = min(total, videos, len(train) // 2, len(held_out) // 2)
    if n < 1:
        raise InputError(
            f"{source_name}: {len(train)} training and {len(held_out)} held-out patients, {total} videos in {out}: "
            "a comparison needs at least two patients of each and a video"
        )
    tools = _tools(opened, plan, registry, device, seed)
    window, seams = _joins(plan, registry, tools)
    starts = window_starts(plan.num_frames, window, seams) if seams else []
    if n < FEWEST:
        tools.clips.clear()  # no set is compared
    report(f"comparing {n} generated videos with {n} training and {n} held-out ones, one of each patient")

    drawn = set(np.random.default_rng([seed, total]).permutation(total)[:n].tolist())
    numeric: Label | None = None
    made = Seen()
    chosen = (clip for i, clip in enumerate(read_generated(folder, manifest)) if i in drawn)
    for clip in said(chosen, n, "generated videos", report):
        see(clip, made, tools, plan.fps, seed, read=True)
        if opened and len(made.read) == 1:
            numeric = _label_read(opened.manifest.labels, made.read[0], tools)
        made.differences.append(frame_differences(clip.frames))
        if numeric and starts:
            made.windows.append(_by_window(clip, numeric, tools, window, starts))
    shape = made.frames[0].shape
    seen = {}
    for against, clips in (("train", train), ("held-out", held_out)):
        seen[against] = Seen()
        wanted = clips[: 2 * n]  # two disjoint sets of n, for the floor
        for clip in said(read_real(wanted, plan.fps, shape), len(wanted), f"{against} videos", report):
            see(clip, seen[against], tools, plan.fps, seed, read=against == "held-out")
            if numeric and starts and against == "held-out":
                seen[against].windows.append(_by_window(clip, numeric, tools, window, starts))

    measured: dict[str, list[Measured]] = {"images": [], "videos": [], "motion": [], "labels": []}
    report("measuring distances")
    if n < FEWEST:
        why = f"{n} videos of a kind are compared; it needs {FEWEST}, and as many patients twice in each real split"
        tools.missing.append(NotComputed(name="distances of sets", why=why))
    if n >= FEWEST:
        measured["images"] += image_distances(np.stack(made.frames), seen, tools, seed)
        measured["videos"] += video_distances(made, seen, tools, seed)
    for against, real in seen.items():
        measured["motion"] += measure_motion(real.motion, made.motion, against=against, seed=seed)
    measured["motion"] += _seam_measure(made, seams, tools)
    if numeric:
        asked, read = _values(made.labels, numeric), _values(made.read, numeric)
        true, truly_read = (_values(rows, numeric) for rows in (seen["held-out"].labels, seen["held-out"].read))
        measured["labels"] += measure_labels(numeric, asked, read, true, truly_read, seed)
        if made.windows:
            windows = window_errors(np.array(made.windows), window, starts)
            measured["labels"] += measure_windows(numeric, windows, np.array(seen["held-out"].windows), seed)
    measured["reconstruction"] = [
        figure for against, real in seen.items() for figure in _reconstruction(real, against, tools, n, seed)
    ]
    if n >= FEWEST:
        asked_for = {"reconstructions": reconstructions, "stills": stills, "real-stills": real_stills}
        measured |= InMemory(
            wanted=frozenset(name for name, wanted in asked_for.items() if wanted),
            bundle=opened,
            plan=plan,
            registry=registry,
            device=device,
            seen=seen,
            tools=tools,
            held_out=read_real(held_out[:n], plan.fps, shape),
            n=n,
            seed=seed,
            report=report,
        ).measure()
    return Scorecard(
        dataset=out.rstrip("/").rpartition("/")[2],
        data=source_name.partition(":")[0].partition("?")[0],
        bundle=opened.folder.name if opened else None,
        n=n,
        measured={subject: found for subject, found in measured.items() if found},
        not_computed=tools.missing,
    )


def bundle_of(name: str | None, plan: Plan, registry: Registry) -> Bundle | None:
    """Open the bundle that is named, which must be there, or the plan's own, where a package offers it as it was."""
    if name is not None:
        return Bundle.open(name, registry)
    if plan.bundle not in registry.names("bundle"):
        return None
    opened = Bundle.open(plan.bundle, registry)
    return opened if opened.digest == plan.bundle_digest else None


def _tools(bundle: Bundle | None, plan: Plan, registry: Registry, device: str, seed: int) -> Tools:
    tools = Tools(stills=[pixels()])
    tools.take(alexnet())
    for extractor in pretrained(registry, device, seed):
        tools.take(extractor)
    if bundle is None:
        why = "the bundle that the dataset was made from is not here"
        what = "labels read again, reconstruction, distances in the bundle's own features"
        tools.missing.append(NotComputed(name=what, why=why, remedy="--bundle PATH"))
        return tools

    def loaded(kind: str, what: str) -> Any:
        name = bundle.plugin_set.choices[kind].use
        try:
            component = bundle.plugin_set.build(registry, kind)
            bundle.load(kind, component, name)
        except (BundleError, PrivacyError) as error:
            tools.missing.append(NotComputed(name=what, why=str(error)))
            return None
        return component

    names = {kind: choice.use for kind, choice in bundle.plugin_set.choices.items()}
    tools.encoder = loaded("encoder", "reconstruction")
    tools.encoder_name = names["encoder"]
    if tools.encoder is not None:
        tools.encoder.to(device, torch.float32)
        judge = loaded("privacy_filter", "distances of images in the privacy filter's features")
        if judge is not None:
            tools.take(of_filter(names["privacy_filter"], judge, tools.encoder))
    tools.validator = loaded("downstream_validator", "labels read again, distances of videos")
    if tools.validator is not None:
        tools.take(of_validator(names["downstream_validator"], tools.validator))
    return tools


def _joins(plan: Plan, registry: Registry, tools: Tools) -> tuple[int, list[int]]:
    """Return the animator's window, and the frames before which two windows meet; 0 and none where it is unknown."""
    name = "seam ratio, labels by window"
    try:
        plugin_set = PluginSet.from_plain(plan.plugin_set, where="plan")
        window = int(plugin_set.build(registry, "video_animator").window)
        stitcher = plugin_set.build(registry, "stitcher")
    except EchoError as error:  # another machine's plugins
        tools.missing.append(NotComputed(name=name, why=str(error)))
        return 0, []
    if plan.num_frames <= window:
        why = f"the videos are no longer than the animator's window of {window} frames"
        tools.missing.append(NotComputed(name=name, why=why))
        return window, []
    if not isinstance(stitcher, Joins):
        used = plugin_set.choices["stitcher"].use
        tools.missing.append(NotComputed(name=name, why=f"{used} does not say where it joins (no method `seams`)"))
        return window, []
    return window, list(stitcher.seams(plan.num_frames, window))


def _label_read(labels: Sequence[Label | Category], read: Mapping[str, Any], tools: Tools) -> Label | None:
    """Return the first numeric label that the validator reads; a category is not read again."""
    numeric = [label for label in labels if isinstance(label, Label) and label.name in read]
    if not numeric:
        what = f"{', '.join(read)} read again, against what was asked for"
        tools.missing.append(NotComputed(name=what, why="only numeric labels are, so far"))
    return numeric[0] if numeric else None


def _by_window(clip: ArrayClip, label: Label, tools: Tools, window: int, starts: Sequence[int]) -> NDArray[np.float64]:
    return errors_by_window(clip.frames, clip.labels, label.name, tools.validator, window, starts)


def _seam_measure(made: Seen, seams: Sequence[int], tools: Tools) -> list[Measured]:
    if not seams:
        return []
    found = seam_ratio_of(np.array(made.differences), seams)
    if not math.isfinite(found.ratio):
        tools.missing.append(NotComputed(name="seam ratio", why="nothing moves in these videos"))
        return []
    return [
        Measured(
            name="motion: at the seams over elsewhere",
            direction="one",
            n=found.videos,
            value=found.ratio,
            low=found.low,
            high=found.high,
            interval=BOOTSTRAP,
        )
    ]


def _reconstruction(real: Seen, against: str, tools: Tools, n: int, seed: int) -> list[Measured]:
    """Measure what the encoder makes of one frame of each of n patients of a split."""
    if tools.encoder is None:
        return []
    images = to_images(np.stack(real.frames[:n]))
    copies = torch.cat([tools.encoder.decode(tools.encoder.encode(part)).cpu() for part in images.split(BATCH)])
    copies = copies.clamp(-1, 1)
    found = measure_copies(images, copies, of=tools.encoder_name, against=against, seed=seed)
    for net, title in LPIPS_NETWORKS.items():
        lpips = perceptual_distance(net)
        if isinstance(lpips, NotComputed):
            found.append(lpips)
        else:
            name = f"LPIPS, {title} ({tools.encoder_name})"
            found.append(measure_values(lpips(images, copies), name, "lower", against, seed))
    for each in found:
        if isinstance(each, NotComputed) and each not in tools.missing:  # once for both splits
            tools.missing.append(each)
    return [each for each in found if isinstance(each, Measured)]


def _values(rows: Sequence[Mapping[str, Any]], label: Label) -> NDArray[Any]:
    return np.array([row[label.name] for row in rows], float)
