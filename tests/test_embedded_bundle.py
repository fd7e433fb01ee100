"""The bundle that the package carries: whole, small, quick to sample, and of simulated patients only."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict

from echosdk import Registry
from echosdk.bundle import Bundle, library_versions
from echosdk.generation.generate import Options, make_plan
from echosdk.generation.pipeline import Pipeline
from echosdk.interfaces import KINDS
from echosdk.noise_key import NOISE_KEY, NOISE_KEY_OF
from echosdk.plugin_set import PluginSet, resolve
from echosdk.registry import default_parameters
from echosdk.training import Recipe

LEARNED = tuple(kind for kind in KINDS if kind != "stitcher")


@pytest.fixture(scope="module")
def bundle(registry: Registry) -> Bundle:
    return Bundle.open("phantom", registry)


@pytest.fixture(scope="module")
def files(bundle: Bundle) -> dict[str, Path]:
    return {path.relative_to(bundle.folder).as_posix(): path for path in bundle.folder.rglob("*") if path.is_file()}


def parameters(folder: Path) -> int:
    """Count a network's parameters by the headers of its safetensors files."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        total += sum(math.prod(tensor["shape"]) for tensor in header.values())
    assert total, f"{folder}: holds no network"
    return total


@pytest.mark.parametrize("kind", LEARNED)
def test_every_stage_is_what_was_trained_and_loads(kind: str, bundle: Bundle, registry: Registry) -> None:
    """Loading compares the digests of the stage's files and of the encoder that it was trained on."""
    bundle.load(kind, bundle.plugin_set.build(registry, kind), bundle.plugin_set.choices[kind].use)


def test_it_holds_what_judging_needs(bundle: Bundle) -> None:
    assert not bundle.stripped
    assert len(bundle.noise_key) == 32
    train, holdout, video = bundle.references()  # compares their digest
    assert len(set(train.groups)) == bundle.manifest.data["train_patients"]
    assert len(set(holdout.groups)) == bundle.manifest.data["val_patients"]
    assert len(video) == len(holdout.items)
    assert not {*train.groups} & {*holdout.groups}


def test_it_says_that_its_filter_was_calibrated_on_few_patients_and_on_copies_too(bundle: Bundle) -> None:
    chosen = bundle.plugin_set.choices["privacy_filter"].parameters
    assert chosen["min_patients"] == bundle.manifest.data["val_patients"] == 150
    assert (chosen["calibration"], chosen["copy_percentile"]) == ("conformal", 95.0)


def test_it_fits_into_a_package(files: dict[str, Path]) -> None:
    assert sum(path.stat().st_size for path in files.values()) <= 40 * 2**20


def test_its_gate_opens_for_videos_of_the_length_that_it_makes(bundle: Bundle, registry: Registry) -> None:
    """Held-out clips are as long as a window, or no video could be judged."""
    plan, _ = make_plan(Options(bundle="phantom"), registry)
    gate = Pipeline.load(plan, bundle, registry).gate
    assert gate is not None
    tau = gate.thresholds(plan.num_frames)
    assert 0 < tau["video"] <= tau["still"] < 2


def test_its_networks_are_small_enough_for_a_laptop(bundle: Bundle) -> None:
    assert parameters(bundle.folder / "private" / "privacy_filter") <= 8e6
    assert parameters(bundle.folder / "video_animator") <= 10e6


def test_its_animator_sees_two_seconds_at_once(bundle: Bundle) -> None:
    assert bundle.plugin_set.choices["video_animator"].parameters["window"] / bundle.manifest.fps >= 2


@pytest.mark.parametrize("kind", ["image_prior", "video_animator"])
def test_it_is_sampled_in_at_most_twenty_multistep_steps(kind: str, bundle: Bundle) -> None:
    chosen = bundle.plugin_set.choices[kind].parameters
    assert chosen["num_inference_steps"] <= 20
    assert chosen["sampler"] == "dpmsolver++"


def test_it_holds_weights_and_facts_and_nothing_that_was_left_behind(files: dict[str, Path]) -> None:
    """No pickle, and none of `.stage-*`, `.partial` or a lock."""
    for name in files:
        top, _, rest = name.partition("/")
        assert top in ("bundle.json", "private", *LEARNED), name
        assert name in (f"private/{NOISE_KEY}", f"private/{NOISE_KEY_OF}") or re.fullmatch(r"[a-z_/]+\.(json|safetensors)", name), name
        assert top != "private" or rest.partition("/")[0] in (NOISE_KEY, NOISE_KEY_OF, "references.safetensors", *LEARNED), name


def test_it_says_what_it_was_trained_on_and_how(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.data["source"] == "phantom"
    assert re.fullmatch("[0-9a-f]{64}", manifest.data["fingerprint"])
    assert manifest.data["train_clips"] > manifest.data["val_clips"] > 0
    assert "SIMULATION" in manifest.data.get("summary", "SIMULATION")  # the first one was trained before there was one
    assert [label.name for label in manifest.labels] == ["simulated_EF"]
    assert manifest.versions.keys() == library_versions().keys()
    assert set(manifest.stages) == set(LEARNED)
    for kind, stage in manifest.stages.items():
        choice, facts = stage.provenance["choice"], stage.provenance["facts"]
        assert choice["use"] == bundle.plugin_set.choices[kind].use
        assert facts["steps"] > 0
        assert math.isfinite(facts.get("train_loss", 0.0))  # unknown where a rerun found all steps done


def test_it_was_trained_by_the_recipe_beside_it(bundle: Bundle, registry: Registry) -> None:
    """But for how often a checkpoint was written, of which nothing is learnt."""
    recipe = resolve(registry, PluginSet.find(str(bundle.folder.parent / "recipe.toml"), registry))
    for kind, stage in bundle.manifest.stages.items():
        choice = recipe.choices[kind]
        known = default_parameters(registry.component(kind, choice.use)) | stage.provenance["choice"]["parameters"]
        for name in registry.component(kind, choice.use).shape:
            values = [json.loads(json.dumps(known[name])), choice.parameters[name]]
            if name == "recipe":
                values = [{**asdict(Recipe()), **value, "checkpoint_every": 0} for value in values]
            assert json.loads(json.dumps(values[1])) == values[0], f"{kind}.{name}"


def test_it_does_not_say_where_it_was_trained(files: dict[str, Path]) -> None:
    for name, path in files.items():
        if path.suffix == ".json":
            assert not re.search(r'"(/|~|[A-Z]:\\|file:)', path.read_text()), name
