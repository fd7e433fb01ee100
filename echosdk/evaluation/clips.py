"""The clips that are compared: real ones of a split, one of each patient, and generated ones; read one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from echosdk.clips.array import ArrayClip
from echosdk.clips.store import pixel_clips
from echosdk.errors import DataError
from echosdk.generation.files import Folder
from echosdk.generation.reading import frames_in, shard_samples
from echosdk.interfaces import Clip, DataSource, Split

HELD_OUT: tuple[Split, ...] = ("val", "test")
"""What no network was fitted to."""


def one_of_each_patient(source: DataSource, splits: Sequence[Split], seed: int) -> list[Clip]:
    """Return one clip of each patient, drawn, in an order that is drawn too: all independent of each other."""
    rng = np.random.default_rng([seed, len(splits)])
    patients: dict[str, list[Clip]] = {}
    for split in splits:
        for clip in source.clips(split):
            patients.setdefault(clip.group, []).append(clip)
    chosen = [clips[rng.integers(len(clips))] for clips in patients.values()]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def read_real(clips: Sequence[Clip], fps: float, shape: Sequence[int]) -> Iterator[ArrayClip]:
    """Read clips at a frame rate. Raises `DataError` where their frames are not of this shape."""
    for clip, frames in pixel_clips(clips, fps):
        if frames.shape[1:] != tuple(shape):
            raise DataError(
                f"{clip.id}: frames are {_size(frames.shape[1:])}, those of the dataset are {_size(shape)}; compare "
                "with the source that its bundle was trained on"
            )
        yield ArrayClip(id=clip.id, group=clip.group, labels=clip.labels, frames=frames)


def read_generated(
    out: Folder, manifest: Mapping[str, Any], splits: Sequence[Split] | None = None
) -> Iterator[ArrayClip]:
    """Read a dataset's videos in order, shard by shard; each is a group of its own."""
    extension = manifest["plan"]["format"]
    for entry in manifest["shards"]:
        if splits is not None and entry["split"] not in splits:
            continue
        for sample in shard_samples(out, entry):
            key, frames = sample["__key__"], frames_in(sample, extension)
            yield ArrayClip(id=key, group=key, labels=json.loads(sample["json"])["labels"], frames=frames)


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
