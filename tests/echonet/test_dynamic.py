"""The EchoNet-Dynamic layout is read as it lies, and every fault in it is named by file and row."""

import hashlib
import pickle
from pathlib import Path

import fsspec
import numpy as np
import pytest
from echosdk_echonet import EchoNetDynamic

import echosdk
from echosdk.clips import encode_video

HEADER = "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"
ROWS = (
    "A1,52.991,30.5,64.9,16,24,50,6,TRAIN",
    "A2.avi,30.0,60.0,86.0,16,24,29.97,6,train",
    "B1,61.25,40.0,100.0,16,24,50,6,Val",
    "C1,12.5,40.0,46.0,16,24,50,6,TEST",
)


def frames_of(name):
    seed = int.from_bytes(name.encode(), "big") % 2**32
    low = np.random.default_rng(seed).integers(0, 255, (6, 2, 3), dtype=np.uint8)
    return low.repeat(8, axis=1).repeat(8, axis=2)


def make(location, rows=ROWS, header=HEADER, videos=("A1", "A2", "B1", "C1")):
    fs, path = fsspec.core.url_to_fs(str(location))
    fs.makedirs(f"{path}/Videos", exist_ok=True)
    for name in videos:
        fs.pipe_file(f"{path}/Videos/{name}.avi", encode_video(frames_of(name), 25, "avi"))
    fs.pipe_file(f"{path}/FileList.csv", "".join(line + "\n" for line in (header, *rows)).encode())
    return str(location)


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "data")


def clips(location, split="train"):
    return list(EchoNetDynamic(location=location).clips(split))


def refusal(location):
    """Return the one line with which a source is refused, before any video is read."""
    with pytest.raises(echosdk.DataError) as caught:
        clips(location)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(location, "DIR")


def replaced(number, row):
    """The rows with the one that a spreadsheet numbers so replaced."""
    return tuple(row if at == number else old for at, old in enumerate(ROWS, start=2))


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_clips_of_each_split_come_in_the_order_of_the_list(tmp_path, kind):
    location = make(tmp_path / "data" if kind == "folder" else f"memory://{tmp_path.name}/data")
    source = EchoNetDynamic(location=location)
    assert [clip.id for clip in source.clips("train")] == ["A1", "A2"]  # with and without .avi; TRAIN and train
    assert [clip.id for clip in source.clips("val")] == ["B1"]
    assert [clip.id for clip in source.clips("test")] == ["C1"]
    clip = next(source.clips("train"))
    assert clip.frames.shape == (6, 16, 24)
    assert clip.frames.dtype == np.uint8
    assert np.abs(clip.frames.astype(int) - frames_of("A1")).mean() < 2


def test_the_source_keeps_the_contract(folder):
    source = EchoNetDynamic(location=folder)
    assert isinstance(source, echosdk.DataSource)
    assert source.labels == (echosdk.Label(name="EF", unit="%", low=0, high=100),)


def test_a_label_keeps_all_its_digits(folder):
    assert [clip.labels for clip in clips(folder)] == [{"EF": 52.991}, {"EF": 30.0}]


def test_the_list_says_the_frame_rate_and_the_video_where_it_does_not(tmp_path):
    location = make(tmp_path, replaced(3, "A2,30.0,60.0,86.0,16,24,,6,TRAIN"))
    assert [clip.fps for clip in clips(location)] == [50, 25]
    location = make(tmp_path, ("A1,50,TRAIN",), "FileName,EF,Split")
    assert [clip.fps for clip in clips(location)] == [25]


def test_sizes_and_counts_come_from_the_video_not_from_wrong_columns(tmp_path):
    """Published lists have frame count and size from the wrong axes."""
    (clip,) = clips(make(tmp_path, ("A1,50,0,0,6,16,50,24,TRAIN",)))
    assert clip.frames.shape == (6, 16, 24)


def test_each_video_is_a_patient_unless_the_list_names_patients(tmp_path):
    assert [clip.group for clip in clips(make(tmp_path))] == ["A1", "A2"]
    with_patients = [f"{row},{patient}" for row, patient in zip(ROWS, ("p1", "p1", "p2", "p3"), strict=True)]
    assert [clip.group for clip in clips(make(tmp_path, with_patients, HEADER + ",Patient"))] == ["p1", "p1"]


def test_videos_are_read_only_when_asked_for(folder):
    for video in Path(folder, "Videos").iterdir():
        video.write_bytes(b"")
    source = EchoNetDynamic(location=folder)
    assert len([clip for split in ("train", "val", "test") for clip in source.clips(split)]) == 4


def test_building_opens_nothing():
    EchoNetDynamic(location="/nowhere/at/all")


def test_a_clip_can_be_sent_to_another_process(folder):
    clip = pickle.loads(pickle.dumps(clips(folder)[0]))
    assert clip.frames.shape == (6, 16, 24)


def test_a_byte_order_mark_and_empty_lines_do_no_harm(tmp_path):
    location = make(tmp_path, ("", *ROWS[:2], "", *ROWS[2:]), "\ufeff" + HEADER)
    assert [clip.id for clip in clips(location)] == ["A1", "A2"]


def test_reading_twice_changes_nothing(folder):
    def digests():
        return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in Path(folder).rglob("*") if p.is_file()}

    before = digests()
    runs = [[(c.id, c.fps, c.split, c.frames.tobytes()) for c in clips(folder)] for _ in range(2)]
    assert runs[0] == runs[1]
    assert digests() == before


# --- fingerprint ---


def test_the_fingerprint_changes_when_the_data_does(tmp_path):
    def fingerprint():
        return EchoNetDynamic(location=str(tmp_path)).fingerprint()

    make(tmp_path)
    first = fingerprint()
    assert first == fingerprint()
    assert len(first) == 64
    make(tmp_path, replaced(2, "A1,52.992,30.5,64.9,16,24,50,6,TRAIN"))
    second = fingerprint()
    make(tmp_path)
    video = tmp_path / "Videos" / "A1.avi"
    video.write_bytes(video.read_bytes() + b"x")
    third = fingerprint()
    video.rename(tmp_path / "Videos" / "unlisted.avi")
    make(tmp_path, videos=("A1",))
    fourth = fingerprint()
    assert len({first, second, third, fourth}) == 4


# --- what is wrong with the list ---


def test_a_missing_list_is_named(tmp_path):
    assert refusal(str(tmp_path / "nowhere")) == "DIR/FileList.csv: no such file; check the path"


def test_a_missing_folder_of_videos_is_named(folder):
    Path(folder, "Videos").rename(Path(folder, "videos"))
    assert refusal(folder) == "DIR/Videos: no such folder; give the one that holds FileList.csv and Videos"


def test_missing_columns_are_named(tmp_path):
    location = make(tmp_path, ("A1,50",), "FileName,EFF")
    assert refusal(location) == f"DIR/FileList.csv: row 1: no column EF, Split; the columns must be {HEADER}"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00binary\x00\xd8"], ids=["empty", "binary"])
def test_a_list_that_is_no_table_is_refused(folder, content):
    Path(folder, "FileList.csv").write_bytes(content)
    assert refusal(folder) in (
        f"DIR/FileList.csv: row 1: no column FileName, EF, Split; the columns must be {HEADER}",
        "DIR/FileList.csv: not a CSV file in UTF-8; save it as one",
    )


def test_a_list_without_rows_is_refused(tmp_path):
    assert refusal(make(tmp_path, ())) == "DIR/FileList.csv: the list has no rows; list at least one video"


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    location = make(tmp_path, ("A1,50,TRAIN,60",), "FileName,EF,Split,EF")
    assert refusal(location) == "DIR/FileList.csv: row 1: column 'EF' is there twice; remove one of them"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("A2,nan,0,0,16,24,50,6,TRAIN", "EF is 'nan'; give a number from 0 to 100"),
        ("A2,,0,0,16,24,50,6,TRAIN", "EF is ''; give a number from 0 to 100"),
        ("A2,100.5,0,0,16,24,50,6,TRAIN", "EF is '100.5'; give a number from 0 to 100"),
        ("A2,-1,0,0,16,24,50,6,TRAIN", "EF is '-1'; give a number from 0 to 100"),
        ("A2,high,0,0,16,24,50,6,TRAIN", "EF is 'high'; give a number from 0 to 100"),
        ("A2,50,0,0,16,24,50,6,HOLDOUT", "unknown split 'HOLDOUT'; choose from TRAIN, VAL, TEST"),
        ("A2,50,0,0,16,24,0,6,TRAIN", "FPS is '0'; give a number from 1 to 1000, or leave it empty"),
        ("A2,50,0,0,16,24,nan,6,TRAIN", "FPS is 'nan'; give a number from 1 to 1000, or leave it empty"),
        ("A2,50,0,0,16,24,inf,6,TRAIN", "FPS is 'inf'; give a number from 1 to 1000, or leave it empty"),
        ("A2,50,0,0,16,24,1e-300,6,TRAIN", "FPS is '1e-300'; give a number from 1 to 1000, or leave it empty"),
        ("A2,50,0,0,16,24,1e300,6,TRAIN", "FPS is '1e300'; give a number from 1 to 1000, or leave it empty"),
        ("A2,5_0,0,0,16,24,50,6,TRAIN", "EF is '5_0'; give a number from 0 to 100"),
        ("A2,٥٠,0,0,16,24,50,6,TRAIN", "EF is '٥٠'; give a number from 0 to 100"),
        ("A1.avi,50,0,0,16,24,50,6,TRAIN", "'A1' is in row 2 too; remove one of them"),
        ("A1,50,0,0,16,24,50,6,VAL", "'A1' is in row 2 too; remove one of them"),
        ("A9,50,0,0,16,24,50,6,TRAIN", "no video DIR/Videos/A9.avi; add it, or remove the row"),
        ("A2,50,TRAIN", "3 cells under 9 columns; correct the row"),
        ("../A2,50,0,0,16,24,50,6,TRAIN", "FileName '../A2' is no name of a file in Videos; give the bare name"),
        ("/etc/A2,50,0,0,16,24,50,6,TRAIN", "FileName '/etc/A2' is no name of a file in Videos; give the bare name"),
        ("x\\A2,50,0,0,16,24,50,6,TRAIN", r"FileName 'x\\A2' is no name of a file in Videos; give the bare name"),
        ("C:A2,50,0,0,16,24,50,6,TRAIN", "FileName 'C:A2' is no name of a file in Videos; give the bare name"),
        ("...avi,50,0,0,16,24,50,6,TRAIN", "FileName '...avi' is no name of a file in Videos; give the bare name"),
        (".avi,50,0,0,16,24,50,6,TRAIN", "FileName '.avi' is no name of a file in Videos; give the bare name"),
    ],
)
def test_a_wrong_cell_is_named_by_file_and_row(tmp_path, row, message):
    assert refusal(make(tmp_path, replaced(3, row))) == f"DIR/FileList.csv: row 3: {message}"


def test_the_row_is_the_one_that_a_spreadsheet_shows(tmp_path):
    """Quoted line breaks and empty lines count as a spreadsheet counts them."""
    header = HEADER + ",Remark"
    rows = (ROWS[0] + ',"two\nlines"', "", "A2,nan,0,0,16,24,50,6,TRAIN,none")
    assert refusal(make(tmp_path, rows, header)).startswith("DIR/FileList.csv: row 4: EF is 'nan'")


def test_a_patient_in_two_splits_names_both_rows(tmp_path):
    rows = [f"{row},{patient}" for row, patient in zip(ROWS, ("p1", "p2", "p1", "p3"), strict=True)]
    assert refusal(make(tmp_path, rows, HEADER + ",Patient")) == (
        "DIR/FileList.csv: row 4: patient 'p1' is in val, but in row 2 in train; "
        "put all videos of a patient into one split"
    )


@pytest.mark.parametrize("patient", ["", " "], ids=["empty", "blank"])
def test_an_empty_patient_is_refused(tmp_path, patient):
    rows = [f"{row},{patient}" for row in ROWS]
    assert refusal(make(tmp_path, rows, HEADER + ",Patient")) == (
        "DIR/FileList.csv: row 2: Patient is empty; give one, or remove the column if no patient has two videos"
    )


def test_a_fault_in_any_split_is_found_before_the_first_clip(tmp_path):
    location = make(tmp_path, replaced(5, "C1,nan,0,0,16,24,50,6,TEST"))
    assert refusal(location).startswith("DIR/FileList.csv: row 5: EF is 'nan'")


# --- what is wrong with a video ---


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: b"", "the file is empty; copy it again"),
        (lambda data: data[: len(data) // 2], r"the video is cut short (\d+ of \d+ bytes); copy it again"),
        (lambda data: b"no video\n" * 99, "not a video that can be read; give an .avi, .mp4 or .mkv file"),
    ],
    ids=["empty", "truncated", "text"],
)
def test_a_bad_video_is_named_by_file_and_row_when_it_is_read(folder, spoil, message):
    video = Path(folder, "Videos", "A2.avi")
    data = video.read_bytes()
    video.write_bytes(spoil(data))
    good, bad = clips(folder)
    assert good.frames.shape == (6, 16, 24)
    with pytest.raises(echosdk.DataError) as caught:
        _ = bad.frames
    text = str(caught.value).replace(folder, "DIR")
    message = message.replace(r"\d+", str(len(data) // 2), 1).replace(r"\d+", str(len(data)))
    assert text == f"DIR/FileList.csv: row 3: DIR/Videos/A2.avi: {message}"


def test_a_bad_video_without_a_listed_frame_rate_is_named_too(tmp_path):
    location = make(tmp_path, replaced(3, "A2,30,60,86,16,24,,6,TRAIN"))
    (tmp_path / "Videos" / "A2.avi").write_bytes(b"")
    assert refusal(location) == "DIR/FileList.csv: row 3: DIR/Videos/A2.avi: the file is empty; copy it again"


# --- the plugin ---


def test_the_plugin_offers_the_source_by_name(folder):
    import echosdk_echonet

    component, other = echosdk_echonet.echosdk_data_sources()
    assert (component.name, other.name) == ("echonet-dynamic", "echonet-pediatric")
    assert component.build(location=folder).fingerprint()
