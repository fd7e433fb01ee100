"""What is seen of clips, each read once, with what tools; and how sets of what was seen are compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from attrs import define, field
from numpy.typing import NDArray

from echosdk.clips.array import ArrayClip
from echosdk.clips.images import to_images
from echosdk.evaluation.distances import FEWEST, measure_sets
from echosdk.evaluation.features import ClipExtractor, StillExtractor
from echosdk.evaluation.measurement import Measured, NotComputed
from echosdk.evaluation.pretrained import measure_score
from echosdk.evaluation.temporal import Motion, motion_of
from echosdk.seeding import generator

T = TypeVar("T")
SAY_EVERY_SECONDS = 20.0


@define
class Tools:
    """What videos are looked at with, and what of that is missing."""

    stills: list[StillExtractor] = field(factory=list)
    clips: list[ClipExtractor] = field(factory=list)
    encoder: Any = None
    encoder_name: str = ""
    validator: Any = None
    missing: list[NotComputed] = field(factory=list)

    def take(self, found: StillExtractor | ClipExtractor | NotComputed) -> None:
        """Keep an extractor, or that there is none."""
        if isinstance(found, StillExtractor):
            self.stills.append(found)
        elif isinstance(found, ClipExtractor):
            self.clips.append(found)
        else:
            self.missing.append(found)


@define
class Seen:
    """What was seen of a set of clips, each read once: one frame of each, features, motion, labels."""

    frames: list[NDArray[np.uint8]] = field(factory=list)
    clip_features: list[list[NDArray[Any] | None]] = field(factory=list)
    motion: list[Motion] = field(factory=list)
    labels: list[Mapping[str, Any]] = field(factory=list)
    read: list[Mapping[str, Any]] = field(factory=list)
    differences: list[NDArray[np.float32]] = field(factory=list)
    windows: list[NDArray[np.float64]] = field(factory=list)


def see(clip: ArrayClip, seen: Seen, tools: Tools, fps: float, seed: int, *, read: bool) -> None:
    index = int(torch.randint(clip.num_frames, (), generator=generator(seed, "frame", clip.id)))
    seen.frames.append(clip.frames[index].copy())
    seen.clip_features.append([extractor.of(clip) for extractor in tools.clips])
    seen.motion.append(motion_of(clip.frames, fps))
    seen.labels.append(clip.labels)
    if read and tools.validator is not None:
        seen.read.append(tools.validator.predict(clip))


def image_distances(
    frames: NDArray[np.uint8], seen: Mapping[str, Seen], tools: Tools, seed: int, sources: int = 0
) -> list[Measured]:
    """Measure as many single frames `n H W` or `n H W 3` against those of either split.

    The first `sources` held-out clips are those that the frames were made of: the others are compared with.
    """
    found: list[Measured] = []
    images = to_images(frames)
    for still in tools.stills:
        ours, classes = still.of(images), still.classes(images) if still.classes else None
        for against, real in seen.items():
            others = to_images(np.stack(real.frames))
            found += measure_sets(
                still.of(others), ours, features=still.name, against=against, seed=seed, names=still.names,
                sources=sources if against == "held-out" else 0,
            )  # fmt: skip
            if still.classes and classes is not None:
                theirs = still.classes(others)
                found += measure_score(theirs, classes, title=still.name, against=against, seed=seed)
    return sorted(found, key=lambda each: [*seen].index(each.against))


def video_distances(made: Seen, seen: Mapping[str, Seen], tools: Tools, seed: int, sources: int = 0) -> list[Measured]:
    """Measure sets of clips, for each extractor those that are long enough for it, as many against either split.

    The first `sources` held-out clips are those that the clips were made of: the others are compared with.
    """
    found: list[Measured] = []
    for i, extractor in enumerate(tools.clips):
        ours, theirs = _long_enough(made, i), {against: _long_enough(real, i) for against, real in seen.items()}
        own = {"held-out": sum(row[i] is not None for row in seen["held-out"].clip_features[:sources])}
        m = min(len(ours), *(min(len(real) // 2, len(real) - own.get(name, 0)) for name, real in theirs.items()))
        if m < FEWEST:
            many = ", ".join(f"{len(real)} {against}" for against, real in theirs.items())
            why = (
                f"{len(ours)} generated, {many} videos have {extractor.length} frames; it needs {FEWEST} generated, "
                f"{2 * FEWEST} of either split"
            )
            what = extractor.names.get("Fréchet distance", "distances of videos")
            tools.missing.append(NotComputed(name=f"{what} ({extractor.name})", why=why))
            continue
        for against, real in theirs.items():
            found += measure_sets(
                np.stack(real), np.stack(ours[:m]), features=extractor.name, against=against, seed=seed,
                names=extractor.names, sources=own.get(against, 0),
            )  # fmt: skip
    return found


def _long_enough(seen: Seen, extractor: int) -> list[NDArray[Any]]:
    rows = (row[extractor] for row in seen.clip_features)
    return [features for features in rows if features is not None]


def said(items: Iterable[T], total: int, what: str, report: Callable[[str], None]) -> Iterator[T]:
    """Pass items on and say now and then how many there were."""
    last = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - last > SAY_EVERY_SECONDS:
            last = time.monotonic()
            report(f"{what}: {number} of {total}")
        yield item
