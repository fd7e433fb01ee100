"""`evaluate` measures a dataset with whatever is there, says what is not, and names no patient."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import echosdk
from echosdk import Registry
from echosdk.bundle import Bundle, strip
from echosdk.evaluation.evaluate import Scorecard, evaluate
from echosdk.plugin_set import open_source
from echosdk.training.weights import CONVOLUTIONS

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
    assert names[-1] == "simulated_EF, frames 0 to 8: absolute error in %"
    assert evaluated.measured["labels"][0].floor.n == 30


def test_motion_is_compared_and_seams_are_where_the_stitcher_says(evaluated):
    assert named(evaluated, "motion")[-1] == "motion: at the seams over elsewhere"
    assert "motion: flicker, made over real" in named(evaluated, "motion")


def test_reconstructions_are_of_held_out_patients(evaluated):
    names = ["MSE (vae)", "MAE (vae)", "SSIM (vae)", "PSNR in dB (vae)", "LPIPS, AlexNet (vae)"]
    assert named(evaluated, "reconstruction") == names
    assert {each.against for each in evaluated.measured["reconstruction"]} == {"held-out"}


def test_what_needs_other_networks_is_said_to_be_missing_and_nothing_is_called_fid(evaluated):
    assert [each.name.split()[0] for each in evaluated.not_computed] == ["FID", "FVD"]
    assert not any(word in name for found in evaluated.measured for name in named(evaluated, found)
                   for word in ("FID", "FVD", "KID"))  # fmt: skip


def test_the_result_is_json_and_names_no_patient_and_no_place(evaluated, made):
    text = json.dumps(evaluated.plain(), allow_nan=False)
    assert "phantom-" not in text
    assert str(made.parent) not in text
    assert json.loads(text)["n"] == 15


def test_without_a_bundle_the_pixels_are_measured_and_the_remedy_is_named(made, registry, real):
    card = evaluate(str(made), real, "phantom", registry=registry, videos=3)
    assert set(card.measured) == {"motion"}
    remedies = {each.name: each.remedy for each in card.not_computed}
    assert remedies["labels read again, reconstruction, distances in the bundle's own features"] == "--bundle PATH"
    assert remedies["LPIPS of reconstructions" if "LPIPS of reconstructions" in remedies else
                    "Fréchet distance and its like (AlexNet)"].endswith("echosdk weights import lpips-alex")  # fmt: skip
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


def test_the_command_prints_tables_or_json(made, trained_tiny, run_echosdk):
    words = ("evaluate", str(made), "--data", REAL, "--videos", "14", "--bundle", str(trained_tiny.folder))
    told = run_echosdk(*words, "--device", "cpu")
    assert told.status == 0, told.err
    assert "14 videos against 14 real ones of each split" in told.out
    assert "lower is better" in told.out
    assert "not computed\nFID and IS (Inception): no package is known" in told.out


def test_an_empty_comparison_is_refused(made, registry):
    source = "phantom?patients=1&frames=12&size=32"
    with pytest.raises(echosdk.InputError) as error:
        evaluate(str(made), open_source(registry, source), source, registry=registry)
    assert "phantom?patients=1&frames=12&size=32: 1 training and 0 held-out patients, 18 videos in" in str(error.value)


def test_a_value_that_is_no_number_is_null_in_json():
    card = Scorecard(dataset="d", data="s", bundle=None, n=1, measured={}, not_computed=[])
    object.__setattr__(card, "n", math.inf)
    assert card.plain()["n"] is None
