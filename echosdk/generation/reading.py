"""Reading what was written: shards by their digests, and the samples in them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echosdk.clips.video import decode_video
from echosdk.errors import DatasetError
from echosdk.generation.files import Folder


def read_samples(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield a shard's samples: `__key__`, the video's bytes under its extension, `json` bytes."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    yield from group_by_keys(tar_file_expander([{"url": "shard", "stream": io.BytesIO(data)}]))


def shard_samples(out: Folder, entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the samples of a shard as the manifest has it. Raises `DatasetError` where it is not what was written."""
    name = f"{entry['shard']}.tar"
    data = out.read(name)
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise DatasetError(
            f"{out.url}/{name}: its bytes are not those that were written; copy it again, or run: echosdk repair "
            f"{out.url}"
        )
    yield from read_samples(data)


def frames_in(sample: Mapping[str, Any], extension: str) -> NDArray[np.uint8]:
    """Return a sample's frames, `t h w` or `t h w 3`."""
    if extension == "npy":
        frames: NDArray[np.uint8] = np.load(io.BytesIO(sample["npy"]), allow_pickle=False)
        return frames
    return decode_video(sample[extension], name=sample["__key__"])[0]


def check_complete(out: Folder, manifest: Mapping[str, Any]) -> None:
    """Raise `DatasetError` where shards are missing, before what takes hours begins."""
    names, shards = set(out.names()), [f"{entry['shard']}.tar" for entry in manifest["shards"]]
    missing = [name for name in shards if name not in names]
    if names and missing:  # a place that may be read and not listed shows no names
        raise DatasetError(
            f"{out.url}/{missing[0]}: missing, as {len(missing)} of {len(shards)} shards are; copy them again, or run: "
            f"echosdk repair {out.url}"
        )
