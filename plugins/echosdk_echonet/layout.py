"""The EchoNet layouts: what their files are called, and their list of videos read and checked."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from typing import Literal

from attrs import frozen

from echosdk import DataError

Split = Literal["train", "val", "test"]

FILE_LIST = "FileList.csv"
TRACINGS = "VolumeTracings.csv"
VIDEOS = "Videos"
COLUMNS = ("FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split")
TRACING_COLUMNS = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
FPS = (1.0, 1000.0)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
PATIENT = "Patient"  # ours, optional: EchoNet-Dynamic has one video a patient

_REQUIRED = ("FileName", "EF", "Split")
NAMED_SPLITS: Mapping[str, Split] = {"TRAIN": "train", "VAL": "val", "TEST": "test"}
"""What EchoNet-Dynamic has in the column `Split`."""

FOLDS: Mapping[str, Split] = {**{str(fold): "train" for fold in range(8)}, "8": "val", "9": "test"}
"""What EchoNet-Pediatric has there, and the paper's use of it."""


@frozen(kw_only=True)
class Row:
    """One line of FileList.csv; `number` is the one that a spreadsheet shows (the header is row 1)."""

    number: int
    name: str
    split: Split
    ef: float
    fps: float | None
    patient: str


def is_file_name(name: str) -> bool:
    """Say whether a name stays inside its folder, on every system."""
    return bool(name) and name not in (".", "..") and not any(c in "/\\:" or not c.isprintable() for c in name)


def stem(name: str) -> str:
    """Return a video's name without `.avi`: the lists have it with and without."""
    return name[:-4] if name.lower().endswith(".avi") else name


def read_file_list(data: bytes, where: str, splits: Mapping[str, Split] = NAMED_SPLITS) -> list[Row]:
    """Read FileList.csv and check every row; raises DataError that names `where`, the row and what to do.

    `splits` says what the column `Split` may hold, in capitals, and which split that is.
    """
    rows: list[Row] = []
    seen: dict[str, int] = {}
    patients: dict[str, Row] = {}
    for number, cells in _table(data, where):
        row = _row(number, cells, f"{where}: row {number}", splits)
        if row.name in seen:
            raise DataError(f"{where}: row {number}: {row.name!r} is in row {seen[row.name]} too; remove one of them")
        first = patients.setdefault(row.patient, row)
        if first.split != row.split:
            raise DataError(
                f"{where}: row {number}: patient {row.patient!r} is in {row.split}, but in row {first.number} in "
                f"{first.split}; put all videos of a patient into one split"
            )
        seen[row.name] = number
        rows.append(row)
    if not rows:
        raise DataError(f"{where}: the list has no rows; list at least one video")
    return rows


def _table(data: bytes, where: str) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        lines = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{where}: not a CSV file in UTF-8; save it as one") from None
    header = lines[0] if lines else []
    missing = [column for column in _REQUIRED if column not in header]
    if missing:
        raise DataError(f"{where}: row 1: no column {', '.join(missing)}; the columns must be {','.join(COLUMNS)}")
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise DataError(f"{where}: row 1: column {twice[0]!r} is there twice; remove one of them")
    for number, cells in enumerate(lines[1:], start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise DataError(f"{where}: row {number}: {len(cells)} cells under {len(header)} columns; correct the row")
        yield number, dict(zip(header, cells, strict=True))


def _row(number: int, cells: Mapping[str, str], where: str, splits: Mapping[str, Split]) -> Row:
    name = stem(cells["FileName"])
    if not is_file_name(name):
        raise DataError(f"{where}: FileName {cells['FileName']!r} is no name of a file in {VIDEOS}; give the bare name")
    ef = _number(cells["EF"])
    if not 0 <= ef <= 100:
        raise DataError(f"{where}: EF is {cells['EF']!r}; give a number from 0 to 100")
    split = splits.get(cells["Split"].upper())
    if split is None:
        raise DataError(f"{where}: unknown split {cells['Split']!r}; choose from {', '.join(splits)}")
    fps = None
    if cells.get("FPS"):
        fps = _number(cells["FPS"])
        if not FPS[0] <= fps <= FPS[1]:
            raise DataError(f"{where}: FPS is {cells['FPS']!r}; give a number from 1 to 1000, or leave it empty")
    patient = cells.get(PATIENT, name).strip()
    if not patient:
        raise DataError(f"{where}: {PATIENT} is empty; give one, or remove the column if no patient has two videos")
    return Row(number=number, name=name, split=split, ef=ef, fps=fps, patient=patient)


def _number(cell: str) -> float:
    """Read a number as lists have it; Python would also read `5_0`, and the digits of other scripts."""
    return float(cell) if NUMBER.fullmatch(cell.strip()) else math.nan
