"""EchoNet-Pediatric is read as it lies: folds are splits, what its list lacks is the videos', and nothing is written."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echosdk import DataError, DataSource, Label, Registry
from echosdk.clips import encode_video
from echosdk.plugin_set import open_source

HEADER = "FileName,EF,Sex,Age,Weight,Height,Split"


def make(folder: Path, rows: list[str] | None = None, header: str = HEADER) -> Path:
    """Write ten videos of unlike size, length and rate, one a fold."""
    (folder / "Videos").mkdir(parents=True)
    lines = []
    for fold in range(10):
        frames = np.full((4 + fold, 16, 16), 20 * fold, np.uint8)
        (folder / "Videos" / f"CR{fold}.avi").write_bytes(encode_video(frames, 30 + fold, "avi"))
        lines.append(f"CR{fold}.avi,{50.5 + fold},F,7,20,120,{fold}")
    (folder / "FileList.csv").write_text("\n".join([header, *(rows or lines)]) + "\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "A4C")


@pytest.fixture
def open_(registry: Registry) -> Any:
    return lambda folder: open_source(registry, f"echonet-pediatric:{folder}")


def test_folds_are_splits(folder: Path, open_: Any) -> None:
    source = open_(folder)
    found = {split: [clip.id for clip in source.clips(split)] for split in ("train", "val", "test")}
    assert found == {"train": [f"CR{fold}" for fold in range(8)], "val": ["CR8"], "test": ["CR9"]}
    assert isinstance(source, DataSource)
    assert source.labels == (Label(name="EF", unit="%", low=0, high=100),)


def test_what_the_list_lacks_is_the_videos(folder: Path, open_: Any) -> None:
    (clip,) = open_(folder).clips("test")
    assert (clip.fps, clip.frames.shape, clip.labels) == (39.0, (13, 16, 16), {"EF": 59.5})


def state(folder: Path) -> dict[str, Any]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


def test_reading_it_twice_changes_nothing(folder: Path, open_: Any) -> None:
    def read() -> list[Any]:
        source = open_(folder)
        clips = [clip for split in ("train", "val", "test") for clip in source.clips(split)]
        return [source.fingerprint(), *((clip.id, clip.split, clip.fps, len(clip.frames)) for clip in clips)]

    before = state(folder)
    first = read()
    assert read() == first
    assert state(folder) == before


def test_a_videos_rate_is_read_once(folder: Path, open_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import echosdk_echonet.folder

    read = []
    monkeypatch.setattr(echosdk_echonet.folder, "video_fps", lambda url: read.append(url) or 30.0)
    source = open_(folder)
    assert [len(list(source.clips("train"))) for _ in range(3)] == [8, 8, 8]
    assert len(read) == 8


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("CR0,50,F,7,20,120,TRAIN", "row 2: unknown split 'TRAIN'; choose from 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("CR0,50,F,7,20,120,10", "row 2: unknown split '10'; choose from 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("CR0,,F,7,20,120,0", "row 2: EF is ''; give a number from 0 to 100"),
        ("gone,50,F,7,20,120,0", "row 2: no video DIR/Videos/gone.avi; add it, or remove the row"),
    ],
)
def test_a_wrong_row_is_named(row: str, says: str, tmp_path: Path, open_: Any) -> None:
    folder = make(tmp_path / "PSAX", rows=[row])
    with pytest.raises(DataError) as error:
        list(open_(folder).clips("train"))
    assert str(error.value).replace(str(folder), "DIR") == f"DIR/FileList.csv: {says}"


def test_a_video_that_states_no_rate_is_named_or_left_out_and_said(folder: Path, open_: Any) -> None:
    (folder / "Videos" / "CR1.avi").write_bytes(b"no video")
    (folder / "Videos" / "CR2.avi").unlink()
    with pytest.raises(DataError):
        list(open_(folder).clips("train"))
    lines: list[str] = []
    tolerant = open_(folder).skipping(lines.append)
    for _ in range(2):
        assert [clip.id for clip in tolerant.clips("train")] == ["CR0", *(f"CR{fold}" for fold in range(3, 8))]
    assert [line.replace(str(folder), "DIR") for line in lines] == [
        "skipped CR2: DIR/FileList.csv: row 4: no video DIR/Videos/CR2.avi",
        "skipped CR1: DIR/FileList.csv: row 3: DIR/Videos/CR1.avi: not a video that can be read; give an .avi, .mp4 or .mkv file",
    ]


def test_frames_stay_lazy(folder: Path, open_: Any) -> None:
    (clip, *_) = open_(folder).clips("train")
    (folder / "Videos" / "CR0.avi").write_bytes(b"")
    with pytest.raises(DataError) as error:
        _ = clip.frames
    assert "row 2" in str(error.value)
