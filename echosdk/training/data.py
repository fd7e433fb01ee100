"""The data of a training: sources checked, their clips read once into stores of pixels, and encoded into latents."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen
from numpy.typing import NDArray

from echosdk.abilities import TolerantSource
from echosdk.clips.store import Items, Store, pixel_clips, store_fingerprint, write_store
from echosdk.errors import DataError
from echosdk.integrity import locked, private_folder
from echosdk.interfaces import SPLITS, Clip, DataSource, Split, StoredClip, TrainingData
from echosdk.plugin_set import parse_source
from echosdk.registry import Registry
from echosdk.training.references import encode

USED: tuple[Split, ...] = ("train", "val")
REPORT_EVERY = 30.0  # seconds


@frozen
class Named:
    """A data source, and what the user calls it: `NAME[:LOCATION][?key=value&...]`.

    `left_out` are the clips that the source itself leaves out and has reported so far (see `tolerant`).
    """

    source: DataSource
    name: str
    left_out: dict[str, None] = field(factory=dict)


@frozen(kw_only=True)
class Place:
    """Where stores are kept, and how. With `skip_bad` clips that cannot be read are left out, and reported."""

    work: Path
    fps: float
    skip_bad: bool = False
    report: Callable[[str], None] = field(default=lambda line: None)


def check_source(source: DataSource) -> dict[Split, int]:
    """Refuse data that no training can use: an empty split, a patient in two splits, a label that is no number.

    And one that never differs in the training split.

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
                value = clip.labels[name]
                if not isinstance(value, str) and not math.isfinite(value):
                    raise DataError(f"{clip.id}: label {name!r} is {value}; give a number, or leave the clip out")
                if split == "train":
                    seen.add(value)
        counts[split] = clips
        if not clips and split != "test":
            raise DataError(f"the split {split!r} has no clips; training needs train and val")
    for name, seen in values.items():
        if len(seen) == 1:
            raise DataError(f"label {name!r} is {seen.pop()!r} in every training clip; nothing can be learnt from it")
    return counts


def check_sources(sources: Sequence[Named]) -> list[dict[Split, int]]:
    """Check each of several sources, and that they go together. Returns the counts of each."""
    counts = []
    fingerprints: dict[str, str] = {}
    first = sources[0]
    for each in sources:
        try:
            counts.append(check_source(each.source))
        except DataError as error:
            raise error if len(sources) == 1 else DataError(f"{each.name}: {error}") from error
        if _what(each.source) != _what(first.source):
            raise DataError(
                f"{each.name}: its labels are {_words(each.source)}, those of {first.name} {_words(first.source)}; "
                "sources that are trained on together have the same"
            )
        other = fingerprints.setdefault(each.source.fingerprint(), each.name)
        if len(fingerprints) < len(counts):
            raise DataError(f"{each.name}: is the same data as {other}; give each source once")
    return counts


def tolerant(named: Named, report: Callable[[str], None]) -> Named:
    """Return a source that leaves out and reports clips whose files are missing, where it knows how to."""
    if not isinstance(named.source, TolerantSource):
        return named
    left_out: dict[str, None] = {}

    def heard(line: str) -> None:
        left_out[line.removeprefix("skipped ").partition(":")[0]] = None
        report(line)

    return Named(named.source.skipping(heard), named.name, left_out)


def pixels_of(sources: Sequence[Named], place: Place) -> list[TrainingData]:
    """Read the clips of every source at one frame rate, once; each source's data stay apart.

    Raises `DataError` where frames are not all of one size.
    """
    found: list[TrainingData] = []
    for number, named in enumerate(sources):
        source = named.source
        train, val = (_pixel_store(named, split, number, place) for split in USED)
        if place.skip_bad:
            kept = {clip.id for store in (train, val) for clip in store}
            unread = [clip.id for split in USED for clip in source.clips(split) if clip.id not in kept]
            left_out = [*named.left_out, *unread]
            listed = f": {', '.join(left_out)}" if left_out else ""
            place.report(f"data: {len(left_out)} clips{_whose(named, number)} cannot be read{listed}")
        other = val.shape
        if other != train.shape:
            raise DataError(f"{val[0].id}: frames are {other}, those of the training split are {train.shape}")
        if found and train.shape != found[0].shape:
            raise DataError(
                f"{named.name}: frames are {train.shape}, those of {sources[0].name} {found[0].shape}; sources that "
                "are trained on together have one size"
            )
        found.append(TrainingData(train=train, val=val, labels=source.labels, fps=place.fps, shape=train.shape))
    return found


def latents_of(
    sources: Sequence[Named], pixels: Sequence[TrainingData], encoder: Any, digest: str, place: Place
) -> list[TrainingData]:
    """Encode the pixels of every source, once; `digest` is the encoder's, which must be on its device already."""
    found = []
    for number, (named, data) in enumerate(zip(sources, pixels, strict=True)):
        train, val = (
            _latent_store(named, split, number, data, encoder, digest, place) for split in USED
        )
        found.append(evolve(data, train=train, val=val, shape=train.shape, decode=encoder.decode))
    return found


def together(data: Sequence[TrainingData]) -> TrainingData:
    """Join the clips of several sources; whoever has the same name in two of them is two patients."""
    first, *others = data
    if not others:
        return first

    def joined(split: Split) -> list[StoredClip]:
        clips = list(getattr(first, split))
        for number, other in enumerate(others, start=2):
            clips += [evolve(clip, group=f"{number}:{clip.group}") for clip in getattr(other, split)]
        return clips

    return evolve(first, train=joined("train"), val=joined("val"))


def counts_of(data: TrainingData) -> dict[str, int]:
    """Count clips and patients of the splits that are trained with."""
    return {
        "train_clips": len(data.train),
        "train_patients": len({clip.group for clip in data.train}),
        "val_clips": len(data.val),
        "val_patients": len({clip.group for clip in data.val}),
    }


def facts_of_source(source: DataSource, name: str, registry: Registry) -> dict[str, Any]:
    """Return what a bundle says of its data, but for the counts."""
    summary = registry.component("data_source", parse_source(name)[0]).summary
    return {**_public_name(name), "summary": summary, "fingerprint": source.fingerprint()}


def _public_name(source: str) -> dict[str, Any]:
    """Return the source's name and what of its parameters is a number or a truth value: a text may name a place."""
    name, parameters = parse_source(source)
    return {"source": name, "parameters": {key: value for key, value in parameters.items() if _is_number(value)}}


def _is_number(value: object) -> bool:
    return isinstance(value, bool | int | float)


def _pixel_store(named: Named, split: Split, number: int, place: Place) -> Store:
    fingerprint = store_fingerprint("pixels", named.source.fingerprint(), place.fps, split, *_how(place))
    place.report(f"data: reading the {_which(split, named, number)} at {place.fps:g} frames/s")

    def items(there: Collection[str]) -> Iterator[tuple[Clip, NDArray[Any]]]:
        for clip in named.source.clips(split):
            if clip.id in there:
                continue
            try:
                ((_, frames),) = pixel_clips([clip], place.fps)
            except DataError as error:
                if not place.skip_bad:
                    raise
                place.report(f"skipped {clip.id}: {error}")
                continue
            yield clip, frames

    store = _write_once(place, "pixels", _folder(split, number), fingerprint, items)
    if not len(store):
        raise DataError(f"{named.name}: no clip of the split {split!r} can be read; training needs train and val")
    return store


def _latent_store(
    named: Named, split: Split, number: int, data: TrainingData, encoder: Any, digest: str, place: Place
) -> Store:
    clips: Sequence[StoredClip] = getattr(data, split)
    size = "x".join(map(str, data.shape))
    fingerprint = store_fingerprint(
        "latents", named.source.fingerprint(), place.fps, size, split, digest, "float32", "float16", *_how(place)
    )
    what = _which(split, named, number)
    place.report(f"latents: encoding the {what}")

    def items(there: Collection[str]) -> Iterator[tuple[Any, NDArray[Any]]]:
        left = [clip for clip in clips if clip.id not in there]
        if there:
            place.report(f"latents: {len(there)} of {len(clips)} clips of the {what} are there already")
        began, told, frames = time.monotonic(), time.monotonic(), 0
        for done, clip in enumerate(left, start=1):
            yield clip, encode(encoder, clip.read())
            frames += clip.num_frames
            now = time.monotonic()
            if done == len(left):
                place.report(f"latents: {frames} frames at {frames / (now - began):.0f} frames/s")
            elif now - told > REPORT_EVERY:
                told = now
                place.report(
                    f"latents: {len(there) + done} of {len(clips)} clips at {frames / (now - began):.0f} frames/s, "
                    f"{(now - began) / done * (len(left) - done) / 60:.0f} min left"
                )

    return _write_once(place, "latents", _folder(split, number), fingerprint, items)


def _write_once(place: Place, kind: str, name: str, fingerprint: str, items: Items) -> Store:
    """Write a store of real data; another process that trains the same bundle waits for it, and finds it there."""
    place.work.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = private_folder(place.work / kind)
    with locked(folder):
        return write_store(folder / name, fingerprint, items)


def _folder(split: Split, number: int) -> str:
    return f"{split}-{number + 1}" if number else split


def _which(split: Split, named: Named, number: int) -> str:
    return f"{split} split{_whose(named, number)}"


def _whose(named: Named, number: int) -> str:
    return f" of source {number + 1} ({parse_source(named.name)[0]})" if number else ""


def _how(place: Place) -> tuple[str, ...]:
    return ("without what cannot be read",) if place.skip_bad else ()


def _what(source: DataSource) -> list[Any]:
    return [(label.name, getattr(label, "unit", None), getattr(label, "values", None)) for label in source.labels]


def _words(source: DataSource) -> str:
    return ", ".join(label.name for label in source.labels) or "none"
