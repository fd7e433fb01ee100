"""Any source's clips can be written as EchoNet-Dynamic lays them out, with true columns, whole or not at all."""

import csv
from pathlib import Path

import fsspec
import numpy as np
import pytest
from attrs import define, evolve
from echosdk_echonet import EchoNetDynamic, write_layout

import echosdk
from echosdk.clips import Traced, Tracing, probe_video

COLUMNS = ["FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split"]
EF = echosdk.Label(name="simulated_EF", unit="%", low=0, high=100)
FPS = 29.97


def disc(num_frames, height, width, seed):
    """A disc that beats: it shrinks and grows once."""
    y, x = np.mgrid[:height, :width]
    radius = 6 + 3 * np.cos(2 * np.pi * np.arange(num_frames) / num_frames)
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < radius[:, None, None] ** 2
    return np.where(inside, 40 + 10 * seed, 180).astype(np.uint8)


def clip(split, number, **changes):
    """Each clip has its own length, and is higher than wide: axes that are mixed up show."""
    name = f"{split}-{number}"
    return echosdk.Clip(
        **{
            "id": name,
            "group": name,
            "split": split,
            "fps": FPS,
            "labels": {"simulated_EF": 52.9912345678 + number},
            "load": lambda: disc(7 + number, 40, 24, number),
            **changes,
        }
    )


@define
class Discs:
    made: list[echosdk.Clip]
    labels: tuple[echosdk.Label | echosdk.Category, ...] = (EF, echosdk.Category(name="view", values=("a4c",)))

    def clips(self, split):
        return (each for each in self.made if each.split == split)

    def fingerprint(self):
        return "discs"


class TracedDiscs(Discs):
    def tracings(self, clip_id):
        if clip_id == "val-0":
            return None
        lines = np.array([[12.0, 11.25, 12.0, 29.0], [3.0, 20.0, 21.0, 20.0]])
        return Tracing(frames=(0, 3), volumes=(81.25, 38.5), lines=(lines, lines[:1] + 1))


@pytest.fixture
def discs():
    return [clip("train", 0), clip("train", 1), clip("val", 0), clip("test", 0)]


def rows(location, name="FileList.csv"):
    with fsspec.open(f"{location}/{name}", "r", newline="") as file:
        return list(csv.DictReader(file))


def refusal(source, target, **options):
    with pytest.raises(echosdk.DataError) as caught:
        write_layout(source, str(target), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_what_is_written_reads_back_the_same(tmp_path, discs, kind):
    target = str(tmp_path / "out") if kind == "folder" else f"memory://{tmp_path.name}/out"
    assert write_layout(Discs(discs), target) == {"train": 2, "val": 1, "test": 1}
    source = EchoNetDynamic(location=target)
    read = [each for split in ("train", "val", "test") for each in source.clips(split)]
    assert [(c.id, c.group, c.split, c.fps) for c in read] == [(c.id, c.group, c.split, c.fps) for c in discs]
    for written, again in zip(discs, read, strict=True):
        assert again.labels["EF"] == written.labels["simulated_EF"]  # all digits
        assert again.frames.shape == written.frames.shape
        assert np.abs(again.frames.astype(int) - written.frames).mean() < 2


def test_the_columns_are_true(tmp_path, discs):
    write_layout(Discs(discs), str(tmp_path / "out"))
    listed = rows(tmp_path / "out")
    assert list(listed[0]) == COLUMNS
    assert [row["Split"] for row in listed] == ["TRAIN", "TRAIN", "VAL", "TEST"]
    for row, each in zip(listed, discs, strict=True):
        t, h, w = each.frames.shape
        assert (int(row["NumberOfFrames"]), int(row["FrameHeight"]), int(row["FrameWidth"])) == (t, h, w)
        info = probe_video(f"{tmp_path}/out/Videos/{row['FileName']}.avi")
        assert (info.num_frames, info.height, info.width) == (t, h, w)
        assert info.fps == pytest.approx(float(row["FPS"]), abs=1e-5) == pytest.approx(each.fps)
        assert float(row["EF"]) == each.labels["simulated_EF"]
        assert row["ESV"] == row["EDV"] == ""  # not known is not 0


def test_tracings_give_volumes_and_their_own_list(tmp_path, discs):
    source = TracedDiscs(discs)
    assert isinstance(source, Traced)
    write_layout(source, str(tmp_path / "out"))
    by_name = {row["FileName"]: row for row in rows(tmp_path / "out")}
    assert (by_name["train-0"]["EDV"], by_name["train-0"]["ESV"]) == ("81.25", "38.5")
    assert (by_name["val-0"]["EDV"], by_name["val-0"]["ESV"]) == ("", "")
    traced = rows(tmp_path / "out", "VolumeTracings.csv")
    assert list(traced[0]) == ["FileName", "X1", "Y1", "X2", "Y2", "Frame"]
    assert [tuple(row.values()) for row in traced[:3]] == [
        ("train-0.avi", "12.0", "11.25", "12.0", "29.0", "0"),
        ("train-0.avi", "3.0", "20.0", "21.0", "20.0", "0"),
        ("train-0.avi", "13.0", "12.25", "13.0", "30.0", "3"),
    ]
    assert {row["FileName"] for row in traced} == {"train-0.avi", "train-1.avi", "test-0.avi"}


def test_a_source_without_tracings_gets_no_list_of_them(tmp_path, discs):
    write_layout(Discs(discs), str(tmp_path / "out"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["FileList.csv", "Videos"]


def test_patients_with_several_clips_are_kept_together(tmp_path, discs):
    discs[0], discs[1] = (evolve(each, group="p1") for each in discs[:2])
    write_layout(Discs(discs), str(tmp_path / "out"))
    assert list(rows(tmp_path / "out")[0]) == [*COLUMNS, "Patient"]
    source = EchoNetDynamic(location=str(tmp_path / "out"))
    assert [each.group for each in source.clips("train")] == ["p1", "p1"]
    assert [each.group for each in source.clips("val")] == ["val-0"]


def test_sixteen_bits_are_shown_through_the_window(tmp_path):
    frames = np.full((2, 16, 16), 300, np.uint16)
    frames[:, :8] = 100
    source = Discs([clip("train", 0, load=lambda: frames, window=(100.0, 300.0))])
    write_layout(source, str(tmp_path / "out"))
    (read,) = EchoNetDynamic(location=str(tmp_path / "out")).clips("train")
    assert read.frames[:, :8].max() <= 2
    assert read.frames[:, 8:].min() >= 253


def test_the_same_source_writes_the_same_bytes(tmp_path, discs):
    for name in ("a", "b"):
        write_layout(TracedDiscs(discs), str(tmp_path / name))
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) == 6
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


# --- whole or not at all ---


def test_a_second_run_is_refused_and_changes_nothing(tmp_path, discs):
    target = tmp_path / "out"
    write_layout(Discs(discs), str(target))
    before = {p: p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert refusal(Discs(discs[:1]), target) == f"{target}: not empty; give a new folder, nothing is overwritten"
    assert {p: p.read_bytes() for p in target.rglob("*") if p.is_file()} == before


def test_an_empty_folder_may_be_given(tmp_path, discs):
    (tmp_path / "out").mkdir()
    write_layout(Discs(discs), str(tmp_path / "out"))
    assert (tmp_path / "out" / "FileList.csv").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_file_in_the_place_is_kept(tmp_path, discs):
    (tmp_path / "out").write_text("mine")
    assert "not empty" in refusal(Discs(discs), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("fault", [echosdk.DataError("row 3: bad"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_run_that_ends_early_leaves_nothing_behind(tmp_path, discs, fault):
    def stop():
        raise fault

    discs[2] = evolve(discs[2], load=stop)
    with pytest.raises(type(fault)):
        write_layout(Discs(discs), str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_the_target_is_not_there_before_all_of_it_is(tmp_path, discs):
    seen = []

    def look():
        seen.append((tmp_path / "out").exists())
        return disc(5, 16, 16, 0)

    discs[3] = evolve(discs[3], load=look)
    write_layout(Discs(discs), str(tmp_path / "out"))
    assert seen == [False]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, discs):
    (tmp_path / "file").write_text("")
    text = refusal(Discs(discs), tmp_path / "file" / "out")
    assert text.startswith(f"{tmp_path}/file/out: cannot be written: ")


# --- what does not fit ---


def test_the_only_numeric_label_is_the_ejection_fraction_unless_one_is_named(tmp_path, discs):
    two = (EF, echosdk.Label(name="age", unit="y", low=0, high=120))
    aged = [evolve(each, labels={"simulated_EF": 50.5, "age": 71.0}) for each in discs]
    source = Discs(aged, two)
    text = "ef_label: say which label goes to the column EF; choose from simulated_EF, age"
    assert refusal(source, tmp_path / "out") == text
    text = "ef_label: no numeric label named 'EF'; choose from simulated_EF, age"
    assert refusal(source, tmp_path / "out", ef_label="EF") == text
    write_layout(source, str(tmp_path / "out"), ef_label="age")
    assert rows(tmp_path / "out")[0]["EF"] == "71.0"
    unlabelled = Discs(discs, (echosdk.Category(name="view", values=("a4c",)),))
    assert "the source has no numeric label" in refusal(unlabelled, tmp_path / "out2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"simulated_EF": float("nan")}}, "simulated_EF is nan; the column EF takes a number from 0 to 100"),
        ({"labels": {"simulated_EF": 101.0}}, "simulated_EF is 101.0; the column EF takes a number from 0 to 100"),
        ({"labels": {}}, "simulated_EF is None; the column EF takes a number from 0 to 100"),
        ({"id": "../out"}, "its id is no file name; give ids without slashes"),
        ({"id": "train-0.avi"}, "another clip has the same name; give each its own id"),
        ({"group": "train-0"}, "patient 'train-0' is in train and in val; put a patient into one split"),
        ({"load": lambda: np.zeros((2, 8, 8), np.float32)}, "frames must be uint8, got float32"),
    ],
    ids=["nan", "out of range", "no label", "path", "same name", "patient in two splits", "float frames"],
)
def test_a_clip_that_does_not_fit_is_named_and_nothing_is_written(tmp_path, discs, changes, message):
    discs[2] = evolve(discs[2], **changes)
    text = refusal(Discs(discs), tmp_path / "out")
    assert text.startswith(f"clip {discs[2].id!r}: {message}")
    assert list(tmp_path.iterdir()) == []


def test_a_tracing_beyond_the_last_frame_is_refused(tmp_path):
    source = TracedDiscs([clip("train", 0, load=lambda: disc(3, 16, 16, 0))])
    text = "clip 'train-0': traced in frame 3, but it has 3 frames; number them from 0"
    assert refusal(source, tmp_path / "out") == text


def test_a_source_without_clips_is_refused(tmp_path):
    assert "has no clips" in refusal(Discs([]), tmp_path / "out")
    assert not Path(tmp_path, "out").exists()


# --- tracings ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": (0, -1)}, r"tracing: frames must be two frame numbers from 0, got \(0, -1\)"),
        ({"volumes": (90.0, float("nan"))}, r"tracing: volumes must be two positive numbers of mL"),
        (
            {"lines": ([[1, 2, 3]], [[1, 2, 3]])},
            r"tracing: lines must be two arrays n x 4 .*got shapes \[\(1, 3\), \(1, 3\)\]",
        ),
        ({"lines": ([[1, 2, 3, 4]], [[1, 2, 3, np.inf]])}, "tracing: lines must be finite numbers"),
    ],
)
def test_a_tracing_is_checked(changes, message):
    line = [[1.0, 2.0, 3.0, 4.0]]
    with pytest.raises(ValueError, match=message):
        Tracing(**{"frames": (0, 3), "volumes": (90.0, 40.0), "lines": (line, line), **changes})
