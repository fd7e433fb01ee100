"""A folder of videos with a list of them: what the EchoNet layouts have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import fsspec
from attrs import define, field

from echosdk import Clip, DataError
from echosdk.clips import read_bytes, read_video, video_fps
from echosdk_echonet.layout import FILE_LIST, VIDEOS, Row, Split, read_file_list, stem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@define
class Folder:
    """Videos/*.avi and FileList.csv in a folder or at any fsspec URL; `splits` reads the list's column of that name.

    Nothing is ever written to it: what the list does not say is read from the videos and kept in memory. With `report`
    videos that are missing, or do not say their frame rate where the list does not, are left out and reported.
    """

    location: str
    splits: Mapping[str, Split]
    report: Callable[[str], None] | None = None
    _listed: tuple[list[Row], dict[str, str], str] | None = field(init=False, default=None, repr=False, eq=False)
    _rates: dict[str, float | None] = field(init=False, factory=dict, repr=False, eq=False)

    def clips(self, split: Split) -> Iterator[Clip]:
        """Yield the clips of one split in the order of the list."""
        rows, files, _ = self._opened()
        for row in rows:
            if row.split != split:
                continue
            url, where = self._url(f"{VIDEOS}/{files[row.name]}"), f"{self._url(FILE_LIST)}: row {row.number}"
            fps = row.fps or self._fps(row.name, url, where)
            if fps is not None:
                yield Clip(
                    id=row.name,
                    group=row.patient,
                    split=row.split,
                    fps=fps,
                    labels={"EF": row.ef},
                    load=partial(_frames, url, where),
                )

    def fingerprint(self) -> str:
        """Return a digest of the list, and of the names and sizes of the videos."""
        return self._opened()[2]

    def _opened(self) -> tuple[list[Row], dict[str, str], str]:
        if self._listed is None:
            self._listed = self._open()
        return self._listed

    def _open(self) -> tuple[list[Row], dict[str, str], str]:
        where = self._url(FILE_LIST)
        data = read_bytes(where)
        rows = read_file_list(data, where, self.splits)
        sizes = self._videos()
        files = {stem(name): name for name in sizes}
        there = []
        for row in rows:
            if row.name in files:
                there.append(row)
                continue
            missing = f"{where}: row {row.number}: no video {self._url(VIDEOS)}/{row.name}.avi"
            if self.report is None:
                raise DataError(f"{missing}; add it, or remove the row")
            self.report(f"skipped {row.name}: {missing}")
        digest = hashlib.sha256(data)
        for name, size in sorted(sizes.items()):
            digest.update(f"\0{name}\0{size}".encode())
        return there, files, digest.hexdigest()

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

    def _fps(self, name: str, url: str, where: str) -> float | None:
        """Return the frame rate that a video states, read once; None for one that is left out."""
        if name not in self._rates:
            try:
                self._rates[name] = video_fps(url)
            except DataError as error:
                if self.report is None:
                    raise DataError(f"{where}: {error}") from None
                self.report(f"skipped {name}: {where}: {error}")
                self._rates[name] = None
        return self._rates[name]

    def _url(self, name: str) -> str:
        return f"{self.location.rstrip('/')}/{name}"


def _frames(url: str, where: str) -> NDArray[np.uint8]:
    try:
        frames: NDArray[Any] = read_video(url, grey=True)[0]
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    return frames
