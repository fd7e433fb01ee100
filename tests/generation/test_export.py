"""A dataset in other formats: plain videos with a list, a data source's layout, a gallery; and nothing half-written."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echosdk import Registry
from echosdk.clips import decode_video
from echosdk.export.gallery import render_gallery
from echosdk.export.samples import samples
from echosdk.generation.files import Folder
from echosdk.plugin_set import open_source

COUNTS = {"train": 7, "val": 2, "test": 1}


def test_a_folder_holds_every_video_byte_for_byte_with_its_labels_and_the_card(
    whole: Any, run_echosdk: Callable[..., Any], tmp_path: Path
) -> None:
    told = run_echosdk("export", str(whole.folder), str(tmp_path / "plain"), "--to", "folder", "--json")
    assert (told.status, json.loads(told.out)["videos"]) == (0, COUNTS)
    with open(tmp_path / "plain" / "videos.csv", newline="") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    held = {sample.key: sample for sample in samples(Folder.at(str(whole.folder)), whole.manifest)}
    assert {*rows} == {*held}
    for key, sample in held.items():
        row = rows[key]
        assert (tmp_path / "plain" / row["file"]).read_bytes() == sample.video
        assert row["split"] == sample.about["split"]
        assert float(row["simulated_EF"]) == sample.about["labels"]["simulated_EF"]
    assert (tmp_path / "plain" / "README.md").read_bytes() == (whole.folder / "README.md").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain"]


def test_in_a_layout_the_data_source_reads_the_same_frames_and_labels(
    whole: Any, registry: Registry, run_echosdk: Callable[..., Any], tmp_path: Path
) -> None:
    place = tmp_path / "layout"
    told = run_echosdk("export", str(whole.folder), str(place), "--to", "echonet-dynamic")
    assert (told.status, told.out) == (0, f"{place}: 10 videos (train 7, val 2, test 1)\n")
    assert (place / "README.md").read_bytes() == (whole.folder / "README.md").read_bytes()
    read = {clip.id: clip for clip in open_source(registry, f"echonet-dynamic:{place}").clips("train")}
    for sample in samples(Folder.at(str(whole.folder)), whole.manifest, "train"):
        clip = read[sample.key]
        assert clip.labels["EF"] == pytest.approx(sample.about["labels"]["simulated_EF"])
        there = decode_video(sample.video, grey=True)[0].astype(int)
        assert np.abs(clip.frames.astype(int) - there).mean() < 4  # Motion JPEG


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("there", "--to", "folder"), "there: not empty; give a new folder, nothing is overwritten"),
        (("new", "--to", "foldr"), "--to foldr: no such format; did you mean 'folder'? choose from "),
        (("new", "--to", "phantom"), "--to phantom: this data source can be read, not written"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(
    arguments: tuple[str, ...], says: str, whole: Any, run_echosdk: Callable[..., Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("there/mine.txt").touch()
    ended = run_echosdk("export", str(whole.folder), *arguments)
    assert ended.status == 2
    assert ended.err.startswith(f"echosdk: {says}")
    assert sorted(str(path) for path in Path().rglob("*")) == ["there", "there/mine.txt"]


def test_a_shard_that_was_changed_is_not_exported(whole: Any, run_echosdk: Callable[..., Any], tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(whole.folder, tmp_path / "damaged"))
    shard = damaged / "val-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\1")
    ended = run_echosdk("export", str(damaged), str(tmp_path / "plain"), "--to", "folder")
    assert ended.status == 2
    says = f"val-000000.tar: its bytes are not those that were written; copy it again, or run: echosdk repair {damaged}\n"
    assert ended.err.endswith(says)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged"]


def test_a_gallery_has_every_video_or_as_many_as_are_asked_for(
    whole: Any, run_echosdk: Callable[..., Any], tmp_path: Path
) -> None:
    page = tmp_path / "all.html"
    told = run_echosdk("view", str(whole.folder), "--page", str(page))
    assert (told.status, told.out) == (0, f"gallery: {page}\n")
    assert page.read_text().count("<video ") == 10
    few = render_gallery(str(whole.folder), 3)
    assert few.count("<video ") == 3
    assert "3 of 10 shown" in few


def test_many_videos_do_not_all_play_at_once(whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "autoplay" in render_gallery(str(whole.folder), 10).partition("<video ")[2].partition(">")[0]
    monkeypatch.setattr("echosdk.report.preview.MAX_VIDEOS", 9)
    page = render_gallery(str(whole.folder), 10)
    assert "autoplay" not in page.partition("<video ")[2].partition(">")[0]
    assert "Play all" in page


def test_the_doctor_finds_this_machine_fit_and_a_broken_plugin_not(
    run_echosdk: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = run_echosdk("doctor", "--json")
    found = {each["what"]: each for each in json.loads(told.out)["findings"]}
    assert told.status == 0, told.out
    assert {"python", "libraries", "devices", "plugins", "weights", "bundle phantom"} < {*found}
    assert {each["says"] for what, each in found.items() if what.startswith("video ")} == {"is written and read"}
    info = tmp_path / "broken-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[echosdk]\nbroken = no_such_module_of_it\n")
    monkeypatch.syspath_prepend(tmp_path)
    ended = run_echosdk("doctor")
    assert ended.status == 1
    assert "WRONG  broken (broken 1.5): failed to load: ModuleNotFoundError" in ended.out
