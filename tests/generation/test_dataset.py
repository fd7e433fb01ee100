"""A dataset on disk: what standard tools read in it, and that it says one thing everywhere."""

from __future__ import annotations

import csv
import io
import json
import pickle
import shutil
import tarfile
from pathlib import Path
from typing import Any

import attrs
import av
import pytest
import torch
import webdataset

import echosdk
from echosdk import DatasetError, Registry
from echosdk.clips.images import to_frames, to_images
from echosdk.clips.video import decode_video, encode_video
from echosdk.generation.card import render_card
from echosdk.generation.files import Folder
from echosdk.generation.generate import generate
from echosdk.generation.redo import merge_again

KEYS = {
    "train": [f"synthetic-{i:08d}" for i in range(7)],
    "val": [f"synthetic-{i:08d}" for i in (7, 8)],
    "test": ["synthetic-00000009"],
}
SHARDS = ["train-000000", "train-000001", "val-000000", "test-000000"]


def members(folder: Path) -> dict[str, bytes]:
    found = {}
    for name in SHARDS:
        with tarfile.open(folder / f"{name}.tar") as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
    return found


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves the closing of its files to Python
def test_plain_webdataset_reads_it(whole: Any) -> None:
    urls = [str(whole.folder / f"{name}.tar") for name in SHARDS]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [key for split in KEYS.values() for key in split]
    for sample in samples:
        assert set(sample) >= {"mp4", "json"}
        assert json.loads(sample["json"])["num_frames"] == 12


def test_plain_tar_reads_it_and_nothing_in_it_depends_on_who_made_it_when(whole: Any) -> None:
    for name in SHARDS:
        with tarfile.open(whole.folder / f"{name}.tar") as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")


def test_every_video_has_the_frames_and_the_rate_that_its_label_file_says(whole: Any) -> None:
    """The published list has counts and sizes from the wrong axes, and a rate that the file does not have."""
    held = members(whole.folder)
    for name, data in held.items():
        if name.endswith(".mp4"):
            about = json.loads(held[name.replace(".mp4", ".json")])
            with av.open(io.BytesIO(data)) as container:
                stream = container.streams.video[0]
                frames = list(container.decode(stream))
            assert len(frames) == about["num_frames"] == 12
            assert float(stream.average_rate) == about["fps"] == 16.0
            assert (frames[0].height, frames[0].width) == (32, 32)


def test_the_index_says_what_the_label_files_say_in_full_precision(whole: Any) -> None:
    """The published list truncates labels: 52.99 becomes 52."""
    held = members(whole.folder)
    rows = list(csv.DictReader((whole.folder / "index.csv").read_text().splitlines()))
    assert [row["key"] for row in rows] == [key for split in KEYS.values() for key in split]
    for row in rows:
        about = json.loads(held[f"{row['key']}.json"])
        label = about["labels"]["simulated_EF"]
        assert float(row["simulated_EF"]) == label
        assert 10 <= label <= 80
        assert label != round(label, 2)
        assert (int(row["num_frames"]), float(row["fps"]), row["split"]) == (12, 16.0, about["split"])
        assert row["key"] in KEYS[row["split"]]
        with tarfile.open(whole.folder / row["shard"]) as tar:
            assert row["file"] in tar.getnames()


def test_the_manifest_counts_what_is_there(whole: Any) -> None:
    manifest = json.loads((whole.folder / "dataset.json").read_text())
    assert manifest == whole.manifest
    assert manifest["counts"]["samples"] == 10
    assert [(s["shard"], s["split"], s["samples"]) for s in manifest["shards"]] == [
        ("train-000000", "train", 4),
        ("train-000001", "train", 3),
        ("val-000000", "val", 2),
        ("test-000000", "test", 1),
    ]
    statistics = manifest["labels"][0]
    assert sum(statistics["histogram"]["counts"]) == 10
    assert manifest["versions"].keys() >= {"echosdk", "torch", "diffusers", "numpy", "av", "python"}
    assert "warning" not in manifest


def test_open_dataset_gives_every_split_its_own_samples(whole: Any) -> None:
    for split, keys in KEYS.items():
        samples = list(echosdk.open_dataset(str(whole.folder), split=split))
        assert [sample["key"] for sample in samples] == keys
        for sample in samples:
            assert sample["video"].shape == (12, 1, 32, 32)
            assert sample["video"].dtype == torch.float32
            assert -1 <= sample["video"].min() < sample["video"].max() <= 1
            assert (sample["split"], sample["fps"], sample["num_frames"]) == (split, 16.0, 12)
    assert len(list(echosdk.open_dataset(str(whole.folder)))) == 10


def test_open_dataset_shuffles_when_asked(whole: Any) -> None:
    keys = [sample["key"] for sample in echosdk.open_dataset(str(whole.folder), shuffle=100)]
    in_order = [key for split in KEYS.values() for key in split]
    assert sorted(keys) == in_order
    assert keys != in_order


def test_loader_workers_share_the_shards_and_can_be_started_anew(whole: Any) -> None:
    dataset = echosdk.open_dataset(str(whole.folder))
    pickle.loads(pickle.dumps(dataset))  # as macOS and Windows send it to workers
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)
    assert sorted(sample["key"] for sample in loader) == [key for split in KEYS.values() for key in split]


def test_a_split_that_is_not_there_is_an_error(whole: Any, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no samples of the split 'nope'"):
        echosdk.open_dataset(str(whole.folder), split="nope")
    with pytest.raises(DatasetError, match="no dataset here"):
        echosdk.open_dataset(str(tmp_path))


@pytest.fixture(scope="module")
def plain(whole: Any, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One sample, its frames as plain arrays. No filter, which judges what a format wrote, and may draw it again."""
    out = tmp_path_factory.mktemp("plain") / "out"
    options = attrs.evolve(whole.options, format="npy", splits={"train": 1}, privacy_filter=False)
    generate(str(out), options=options, registry=registry)
    return next(iter(echosdk.open_dataset(str(out))))


@pytest.mark.parametrize("format_", ["mkv", "avi", "mp4"])
def test_every_format_holds_the_same_sample(
    format_: str, plain: Any, whole: Any, registry: Registry, tmp_path: Path
) -> None:
    options = attrs.evolve(whole.options, format=format_, splits={"train": 1}, privacy_filter=False)
    generate(str(tmp_path / "out"), options=options, registry=registry)
    (sample,) = echosdk.open_dataset(str(tmp_path / "out"))
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        assert tar.getnames() == [f"synthetic-00000000.{e}" for e in sorted(["json", format_])]
    # Frames are those of the plain arrays after this format's own loss, and no other
    encoded, _ = decode_video(encode_video(to_frames(plain["video"]), plain["fps"], format_))
    assert sample["labels"] == plain["labels"]
    assert torch.equal(sample["video"], to_images(encoded))


def test_no_still_is_used_twice(whole: Any, registry: Registry, trained_tiny: Any) -> None:
    """The published code silently reuses hearts across splits."""
    from attrs import define

    from echosdk.generation.generate import make_plan
    from echosdk.generation.pipeline import Pipeline, Tally

    @define
    class Witness:
        stitcher: Any
        stills: list[torch.Tensor]

        def animate(self, animator: Any, stills: torch.Tensor, *rest: Any) -> torch.Tensor:
            self.stills += list(stills)
            made: torch.Tensor = self.stitcher.animate(animator, stills, *rest)
            return made

    plan, bundle = make_plan(whole.options, registry)
    pipeline = Pipeline.load(plan, bundle, registry)
    pipeline.stitcher = witness = Witness(pipeline.stitcher, [])
    made = [one for shard in plan.shards for one in pipeline.make(shard, Tally())]
    assert len(made) == 10
    assert len({still.numpy().tobytes() for still in witness.stills}) == len(witness.stills) >= 10
    assert len({one.video for one in made}) == 10


def test_the_manifest_names_the_versions_and_the_hardware_of_the_makers(
    whole: Any, registry: Registry, tmp_path: Path
) -> None:
    """Shards of a cluster are joined elsewhere: what joins them made no bit of them."""
    out = Path(shutil.copytree(whole.folder, tmp_path / "out"))
    there = json.loads((out / "val-000000.json").read_text())
    assert there["versions"].keys() >= {"echosdk", "torch", "diffusers", "numpy", "av", "python"}
    assert there["hardware"].keys() == {"machine", "processor", "device"}
    assert whole.manifest["versions"] == there["versions"]
    assert whole.manifest["hardware"] == there["hardware"]
    there["versions"] |= {"torch": "0.1", "strangers": "7.0"}
    there["hardware"]["processor"] = "A Processor"
    (out / "val-000000.json").write_text(json.dumps(there))
    manifest = merge_again(Folder.at(str(out)), bundle=str(whole.options.bundle), registry=registry)
    assert manifest["versions"]["torch"] == f"0.1 and {torch.__version__}"
    assert manifest["versions"]["strangers"] == "7.0"
    assert set(manifest["hardware"]["processor"].split(" and ")) == {"A Processor", whole.manifest["hardware"]["processor"]}


def test_the_packages_of_the_components_that_were_used_are_named(whole: Any) -> None:
    from echosdk.generation.made_with import versions
    from echosdk.plugin_set import PluginSet
    from echosdk.registry import Offer, Plugin

    plugin_set = PluginSet.from_plain(whole.manifest["plan"]["plugin_set"], where="plan")
    other = Plugin(name="x", distribution="echosdk-strangers", version="7.1")
    registry = Registry.discover()
    offers = [Offer(kind=o.kind, item=o.item, plugin=other if o.item.name == "pearson-reid" else o.plugin) for o in registry.offers]
    assert versions(plugin_set, Registry(offers))["echosdk-strangers"] == "7.1"
    assert "echosdk-strangers" not in versions(plugin_set, registry)


def test_nothing_says_where_the_data_or_the_caches_lay(whole: Any, trained_tiny: Any) -> None:
    work = str(trained_tiny.folder.with_name("work")).encode()
    for path in whole.folder.iterdir():
        data = path.read_bytes()
        assert work not in data
        assert b"phantom-0" not in data, f"{path} names a real record"


def test_card_and_preview_say_that_a_simulation_is_one(whole: Any) -> None:
    said = "SIMULATION of apical four-chamber videos with a known ejection fraction; stands for no patient"
    assert whole.manifest["trained_on"]["summary"] == said
    assert f"\nWhat that data is: {said}\n" in (whole.folder / "README.md").read_text()
    assert said in (whole.folder / "preview.html").read_text()


def test_a_card_of_an_earlier_bundle_claims_nothing_of_its_data(whole: Any) -> None:
    trained_on = {key: value for key, value in whole.manifest["trained_on"].items() if key != "summary"}
    card = render_card({**whole.manifest, "trained_on": trained_on})
    assert "The models were trained on `phantom`: 12 clips of 12 patients, " in card
    assert " other patients for calibration" in card
    assert "drawn from the range 10 to 80; their mean is " in card
    assert "What that data is" not in card


def test_the_card_says_on_how_many_patients_the_filter_was_calibrated_and_with_what_settings(whole: Any) -> None:
    card = (whole.folder / "README.md").read_text()
    assert "It was calibrated on 2 held-out patients. Its settings: " in card
    for setting in ("`calibration` = percentile", "`min_patients` = 1", "`percentile` = 5.0"):
        assert setting in card
