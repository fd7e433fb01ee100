"""Read EchoNet-Dynamic, or a dataset in its layout."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import fsspec
from attrs import define, field
from attrs.validators import instance_of, optional

from echosdk import Clip, DataError, DataSource, Label
from echosdk.clips import read_bytes, read_video, video_fps
from echosdk_echonet.export import write_layout
from echosdk_echonet.layout import FILE_LIST, VIDEOS, Row, Split, read_file_list, stem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@define
class EchoNetDynamic:
    """Videos/*.avi and FileList.csv in a folder or at any fsspec URL.

    Each video is a patient of its own unless the list has a column `Patient`. The list is read and checked as a whole
    at first use, before any video is opened; a video when its frames are asked for, turned to grey. Sizes and frame
    counts are those of the videos: the list's are not used.

    `ef_label` is for writing only: the label of the other source that goes to the column EF; without it that is its
    only numeric one.
    """

    location: str = field(validator=instance_of(str))
    ef_label: str | None = field(default=None, validator=optional(instance_of(str)))
    _listed: tuple[list[Row], dict[str, str], str] | None = field(init=False, default=None, repr=False, eq=False)

    @property
    def labels(self) -> tuple[Label, ...]:
        return (Label(name="EF", unit="%", low=0, high=100),)

    def clips(self, split: Split) -> Iterator[Clip]:
        """Yield the clips of one split in the order of the list."""
        rows, files, _ = self._opened()
        for row in rows:
            if row.split != split:
                continue
            url, where = self._url(f"{VIDEOS}/{files[row.name]}"), f"{self._url(FILE_LIST)}: row {row.number}"
            yield Clip(
                id=row.name,
                group=row.patient,
                split=row.split,
                fps=row.fps or _fps(url, where),
                labels={"EF": row.ef},
                load=partial(_frames, url, where),
            )

    def fingerprint(self) -> str:
        """Return a digest of the list, and of the names and sizes of the videos."""
        return self._opened()[2]

    def write(self, source: DataSource) -> dict[Split, int]:
        """Write every clip of another source here, in this layout; see `write_layout`."""
        return write_layout(source, self.location, ef_label=self.ef_label)

    def _opened(self) -> tuple[list[Row], dict[str, str], str]:
        if self._listed is None:
            self._listed = self._open()
        return self._listed

    def _open(self) -> tuple[list[Row], dict[str, str], str]:
        where = self._url(FILE_LIST)
        data = read_bytes(where)
        rows = read_file_list(data, where)
        sizes = self._videos()
        files = {stem(name): name for name in sizes}
        for row in rows:
            if row.name not in files:
                raise DataError(
                    f"{where}: row {row.number}: no video {self._url(VIDEOS)}/{row.name}.avi; add it, or remove the row"
                )
        digest = hashlib.sha256(data)
        for name, size in sorted(sizes.items()):
            digest.update(f"\0{name}\0{size}".encode())
        return rows, files, digest.hexdigest()

    def _videos(self) -> dict[str, int]:
        """List the names and sizes of the videos."""
        fs, path = fsspec.core.url_to_fs(self._url(VIDEOS))
        try:
            entries = fs.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                f"{self._url(VIDEOS)}: no such folder; give the one that holds {FILE_LIST} and {VIDEOS}"
            ) from None
        names = {entry["name"].rstrip("/").rsplit("/", 1)[-1]: entry for entry in entries if entry["type"] == "file"}
        return {name: entry["size"] for name, entry in names.items() if name.lower().endswith(".avi")}

    def _url(self, name: str) -> str:
        return f"{self.location.rstrip('/')}/{name}"


def _frames(url: str, where: str) -> NDArray[np.uint8]:
    try:
        frames: NDArray[Any] = read_video(url, grey=True)[0]
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    return frames


def _fps(url: str, where: str) -> float:
    try:
        return video_fps(url)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
