"""Write the clips of any data source in the layout of EchoNet-Dynamic."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import fsspec

from echosdk import Clip, DataError, DataSource, Label
from echosdk.clips import Traced, Tracing, check_frames, encode_video, window_to_uint8
from echosdk_echonet.layout import (
    COLUMNS,
    FILE_LIST,
    PATIENT,
    TRACING_COLUMNS,
    TRACINGS,
    VIDEOS,
    Split,
    is_file_name,
    stem,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


def write_layout(source: DataSource, directory: str, *, ef_label: str | None = None) -> dict[Split, int]:
    """Write every clip of a source to `directory` (any fsspec URL) and return the number of videos in each split.

    `ef_label` names the label that goes to the column EF; without it that is the source's only numeric label. Height,
    width and count are those of the frames written; ESV and EDV come from the tracings of a source that is
    `echosdk.clips.Traced`, and are empty where they are not known. The column `Patient` is added where a clip's group
    is not its own id.

    Everything is written to a sibling folder which is renamed at the end, so `directory` is there whole or not at all.
    Raises DataError if it holds anything, and for a clip that does not fit the layout.
    """
    label = _ef_label(source, ef_label)
    try:
        fs, path = fsspec.core.url_to_fs(directory.rstrip("/"))
    except (ValueError, ImportError) as error:  # no such protocol, or its package is not installed
        raise DataError(f"{directory}: cannot be opened: {error}") from error
    if fs.exists(path) and fs.ls(path, detail=False):
        raise DataError(f"{directory}: not empty; give a new folder, nothing is overwritten")
    part = f"{path}.{uuid.uuid4().hex[:8]}.part"
    try:
        fs.makedirs(f"{part}/{VIDEOS}")
        counts = _write(source, label, fs, part)
        if fs.exists(path):
            fs.rmdir(path)  # empty: a rename onto it would land inside
        fs.mv(part, path, recursive=True)
    except OSError as error:
        raise DataError(f"{directory}: cannot be written: {error.strerror or error}; check the path") from None
    finally:
        if fs.exists(part):
            fs.rm(part, recursive=True)
    return counts


def _ef_label(source: DataSource, name: str | None) -> str:
    numeric = [label.name for label in source.labels if isinstance(label, Label)]
    choices = f"choose from {', '.join(numeric)}" if numeric else "the source has no numeric label"
    if name is None:
        if len(numeric) == 1:
            return numeric[0]
        raise DataError(f"ef_label: say which label goes to the column EF; {choices}")
    if name not in numeric:
        raise DataError(f"ef_label: no numeric label named {name!r}; {choices}")
    return name


def _write(source: DataSource, label: str, fs: Any, folder: str) -> dict[Split, int]:
    """Write videos and lists to an empty folder."""
    rows: list[dict[str, Any]] = []
    lines: list[tuple[Any, ...]] = []
    counts = dict.fromkeys(_SPLITS, 0)
    patients: dict[str, Split] = {}
    names: set[str] = set()
    own_patients = True
    for split in _SPLITS:
        for clip in source.clips(split):
            name = stem(clip.id)
            _check(clip, name, label, names, patients.setdefault(clip.group, split))
            names.add(name)
            frames = _levels(clip)
            tracing = source.tracings(clip.id) if isinstance(source, Traced) else None
            fs.pipe_file(f"{folder}/{VIDEOS}/{name}.avi", encode_video(frames, clip.fps, "avi"))
            rows.append(_row(clip, name, label, frames, tracing))
            lines += _tracing_lines(name, tracing, len(frames))
            counts[split] += 1
            own_patients = own_patients and clip.group == clip.id
    if not rows:
        raise DataError("the source has no clips: there is nothing to write")
    if lines:
        fs.pipe_file(f"{folder}/{TRACINGS}", _csv(TRACING_COLUMNS, lines))
    columns = COLUMNS if own_patients else (*COLUMNS, PATIENT)
    fs.pipe_file(f"{folder}/{FILE_LIST}", _csv(columns, ([row[column] for column in columns] for row in rows)))
    return {split: counts[split] for split in _SPLITS}


def _check(clip: Clip, name: str, label: str, names: set[str], split: Split) -> None:
    where = f"clip {clip.id!r}"
    if not is_file_name(name):
        raise DataError(f"{where}: its id is no file name; give ids without slashes")
    if name in names:
        raise DataError(f"{where}: another clip has the same name; give each its own id")
    if split != clip.split:
        raise DataError(
            f"{where}: patient {clip.group!r} is in {split} and in {clip.split}; put a patient into one split"
        )
    value = clip.labels.get(label)
    if not isinstance(value, int | float) or not 0 <= value <= 100:  # NaN too
        raise DataError(f"{where}: {label} is {value!r}; the column EF takes a number from 0 to 100")


def _levels(clip: Clip) -> NDArray[np.uint8]:
    frames = clip.frames
    if clip.window is not None:
        frames = window_to_uint8(frames, clip.window)
    try:
        check_frames(frames)
    except DataError as error:
        raise DataError(f"clip {clip.id!r}: {error}") from None
    return frames


def _row(clip: Clip, name: str, label: str, frames: NDArray[np.uint8], tracing: Tracing | None) -> dict[str, Any]:
    num_frames, height, width = frames.shape[:3]
    edv, esv = tracing.volumes if tracing else ("", "")
    values = (name, float(clip.labels[label]), esv, edv, height, width, float(clip.fps), num_frames, clip.split.upper())
    return {**dict(zip(COLUMNS, values, strict=True)), PATIENT: clip.group}


def _tracing_lines(name: str, tracing: Tracing | None, num_frames: int) -> list[tuple[Any, ...]]:
    if tracing is None:
        return []
    if max(tracing.frames) >= num_frames:
        raise DataError(
            f"clip {name!r}: traced in frame {max(tracing.frames)}, but it has {num_frames} frames; number them from 0"
        )
    return [
        (f"{name}.avi", *map(float, line), frame)
        for frame, lines in zip(tracing.frames, tracing.lines, strict=True)
        for line in lines
    ]


def _csv(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()
