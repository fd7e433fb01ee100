"""A cache of clips as WebDataset shards of plain arrays: random access to frames, never a whole dataset in memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from echosdk.clips.video import resample_indices, window_to_uint8
from echosdk.errors import DataError
from echosdk.interfaces import Clip, Conditions, StoredClip

CLIPS_A_SHARD = 256
INDEX, BEGUN = "index.json", "fingerprint"


@frozen(kw_only=True)
class CachedClip:
    """One clip of a store; frames are read from the shard when asked for."""

    id: str
    group: str
    labels: Conditions
    num_frames: int
    shard: Path = field(repr=False)
    offset: int = field(repr=False)
    dtype: str = field(repr=False)
    shape: tuple[int, ...] = field(repr=False)

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return frames `start:stop` as they were written, but for half precision: that becomes float32."""
        frames = np.memmap(self.shard, self.dtype, "r", self.offset, self.shape)[start:stop]
        return np.array(frames, np.float32 if self.dtype == "float16" else self.dtype)


@frozen
class Store(Sequence[CachedClip]):
    """The clips of one split, as written by `write_store`."""

    clips: tuple[CachedClip, ...]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: Any) -> Any:
        return self.clips[index]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one frame."""
        return self.clips[0].shape[1:]


Items = Callable[[Collection[str]], Iterable[tuple[Clip | StoredClip, NDArray[Any]]]]
"""Given the ids of clips that are there already, yields the others with their frames `t ...`."""


def pixel_clips(clips: Iterable[Clip], fps: float) -> Iterator[tuple[Clip, NDArray[Any]]]:
    """Read clips as uint8 at one frame rate: the nearest frame in time, so that a clip keeps its duration."""
    for clip in clips:
        frames = clip.frames
        if frames.dtype == np.uint16:
            if clip.window is None:
                raise DataError(f"{clip.id}: 16-bit frames need a declared window (low, high)")
            frames = window_to_uint8(frames, clip.window)
        if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or not len(frames):
            raise DataError(f"{clip.id}: wants uint8 frames `t h w` or `t h w 3`, got {frames.dtype} {frames.shape}")
        yield clip, frames[resample_indices(len(frames), clip.fps, fps)]


def write_store(folder: Path, fingerprint: str, items: Items) -> Store:
    """Write clips and their frames to shards under `folder`, unless a store with this fingerprint is complete there.

    All frames must have one shape. The folder is written under another name and renamed when it is whole; its owner
    alone can read it. A writing that broke off goes on after its last whole shard, and one that broke off while its
    folder was renamed loses nothing: `items` is told which clips are there. Two processes must not write one folder at
    once.
    """
    import webdataset

    index = folder / INDEX
    if index.is_file() and json.loads(index.read_text())["fingerprint"] == fingerprint:
        return open_store(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    begun = partial / BEGUN
    if not (begun.is_file() and begun.read_text() == fingerprint):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700, parents=True)
        begun.write_text(fingerprint)
    there = open_store(partial)
    written = len(there)
    shape = there.shape if there else None
    rest = iter(items({clip.id for clip in there}))
    for number in count(len([*partial.glob("*.tar")])):
        if (head := next(rest, None)) is None:
            break
        path = partial / f"{number:06d}.tar"
        writing = path.with_suffix(".writing")
        with writing.open("wb") as file:
            with webdataset.TarWriter(file, encoder=False, mtime=0) as tar:
                for clip, frames in chain([head], islice(rest, CLIPS_A_SHARD - 1)):
                    shape = shape or frames.shape[1:]
                    if frames.shape[1:] != shape:
                        raise DataError(
                            f"{clip.id}: frames are {frames.shape[1:]}, those of the clips before are {shape}"
                        )
                    tar.write(_record(clip, frames, written))
                    written += 1
            file.flush()
            os.fsync(file.fileno())  # a shard under its own name is whole, whenever the power fails
        writing.rename(path)
    (partial / INDEX).write_text(json.dumps({"fingerprint": fingerprint, "clips": written}))
    for path in partial.iterdir():
        path.chmod(0o600)
    shutil.rmtree(before := folder.with_name(f"{folder.name}.before"), ignore_errors=True)
    if folder.is_dir():
        folder.rename(before)  # at once: half of it would pass for a whole store
    partial.rename(folder)
    (folder / BEGUN).unlink()  # last: by it a writing goes on
    shutil.rmtree(before, ignore_errors=True)
    return open_store(folder)


def open_store(folder: Path) -> Store:
    """Open a store: reads the shards' headers and the clips' labels, no frames."""
    clips = []
    for shard in sorted(folder.glob("*.tar")):
        about: dict[str, Any] = {}
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    file = tar.extractfile(member)
                    assert file is not None
                    about = json.load(file)
                else:
                    clips.append(_cached(about, shard, member.offset_data))
    return Store(tuple(clips))


def store_fingerprint(*parts: str | float | Mapping[str, Any]) -> str:
    """Return a digest of whatever decides a store's content: data, frame rate, encoder, dtype."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _record(clip: Clip | StoredClip, frames: NDArray[Any], number: int) -> dict[str, Any]:
    about = {"id": clip.id, "group": clip.group, "labels": dict(clip.labels)}
    about |= {"dtype": str(frames.dtype), "shape": list(frames.shape)}
    raw = np.ascontiguousarray(frames).tobytes()
    return {"__key__": f"{number:09d}", "json": json.dumps(about).encode(), "raw": raw}


def _cached(about: Mapping[str, Any], shard: Path, offset: int) -> CachedClip:
    return CachedClip(
        id=about["id"],
        group=about["group"],
        labels=about["labels"],
        num_frames=about["shape"][0],
        shard=shard,
        offset=offset,
        dtype=about["dtype"],
        shape=tuple(about["shape"]),
    )


