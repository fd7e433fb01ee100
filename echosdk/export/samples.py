"""The samples of a joined dataset, one shard at a time; each shard's bytes are compared with the manifest's digest."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from echosdk.clips.video import decode_video
from echosdk.generation.dataset import read_manifest
from echosdk.generation.files import Folder
from echosdk.generation.reading import shard_samples
from echosdk.interfaces import Category, Clip, Label, Split


@frozen(kw_only=True)
class Sample:
    """One generated video: its file as it lies in the shard, and what `KEY.json` says."""

    key: str
    extension: str
    video: bytes
    about: Mapping[str, Any]

    def frames(self) -> NDArray[Any]:
        """Decode the frames, uint8 `t h w` or `t h w 3`."""
        if self.extension == "npy":
            loaded: NDArray[Any] = np.load(io.BytesIO(self.video), allow_pickle=False)
            return loaded
        return decode_video(self.video, name=self.key)[0]


def samples(folder: Folder, manifest: Mapping[str, Any], split: str | None = None) -> Iterator[Sample]:
    """Yield the samples of one split, or of all. Raises `DatasetError` where a shard is not what was written."""
    extension = manifest["plan"]["format"]
    for entry in manifest["shards"]:
        if split not in (None, entry["split"]):
            continue
        for one in shard_samples(folder, entry):
            about = json.loads(one["json"])
            yield Sample(key=one["__key__"], extension=extension, video=one[extension], about=about)


@frozen
class Generated:
    """A generated dataset as a data source: each video is a patient of its own."""

    folder: Folder
    manifest: Mapping[str, Any]

    @classmethod
    def at(cls, out: str) -> Generated:
        """Open a joined dataset."""
        folder = Folder.at(out)
        return cls(folder, read_manifest(folder))

    @property
    def labels(self) -> tuple[Label | Category, ...]:
        return tuple(_label(label) for label in self.manifest["labels"])

    def clips(self, split: Split) -> Iterator[Clip]:
        for sample in samples(self.folder, self.manifest, split):
            yield Clip(
                id=sample.key,
                group=sample.key,
                split=split,
                fps=sample.about["fps"],
                labels=sample.about["labels"],
                load=partial(sample.frames),
            )

    def fingerprint(self) -> str:
        digests = "".join(entry["sha256"] for entry in self.manifest["shards"])
        return hashlib.sha256(digests.encode()).hexdigest()


def _label(plain: Mapping[str, Any]) -> Label | Category:
    if "values" in plain:
        return Category(name=plain["name"], values=tuple(plain["values"]))
    return Label(name=plain["name"], unit=plain["unit"], low=plain["low"], high=plain["high"])
