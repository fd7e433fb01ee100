"""A third party's filter, the one that the how-to shows, takes the place of the default one: nothing else is trained."""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from echosdk import Registry
from echosdk.bundle import Bundle
from echosdk.generation.dataset import verify
from echosdk.generation.files import Folder
from echosdk.generation.generate import Options, generate
from echosdk.privacy.gate import Gate

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to" / "swap-the-filter.md"
USED = ("privacy_filter=max-correlation",)


@pytest.fixture(scope="module")
def plugin(code_blocks: Callable[[Path, str], list[str]], tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The module that the how-to says is all of it."""
    (source,) = code_blocks(HOW_TO, "python")
    path = tmp_path_factory.mktemp("plugin") / "max_correlation.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("max_correlation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def both(registry, plugin) -> Registry:
    return registry.with_modules(plugin)


def test_it_is_offered_beside_the_default_one(both):
    assert both.names("privacy_filter") == ["max-correlation", "pearson-reid", "pixel-correlation"]
    assert not both.problems


def test_its_entry_point_names_the_module_of_the_how_to(plugin, code_blocks):
    (text,) = code_blocks(HOW_TO, "toml")
    points = tomllib.loads(text)["project"]["entry-points"]["echosdk"]
    assert points == {"max-correlation": plugin.__name__}


def test_installing_it_changes_nothing(both, registry):
    from echosdk.plugin_set import PluginSet, resolve

    default = PluginSet.find("default", registry)
    assert resolve(both, default).to_plain() == resolve(registry, default).to_plain()


def test_a_dataset_is_generated_with_it(both, tiny_bundle, tmp_path):
    out = tmp_path / "out"
    options = Options(plugin_set="default-tiny", bundle=str(tiny_bundle), use=USED, num_videos=4, num_frames=8)
    manifest = generate(str(out), options=options, workers=1, registry=both)
    assert manifest is not None
    assert manifest["counts"]["samples"] == 4
    assert manifest["plan"]["plugin_set"]["privacy_filter"] == {"use": "max-correlation", "percentile": 5.0}
    assert verify(Folder.at(str(out))) == []


def test_it_was_asked_about_every_still_and_video(both, plugin, tiny_bundle, tmp_path, monkeypatch):
    asked = []
    judge = plugin.MaxCorrelation.judge

    def told(self, stills):
        asked.append(len(stills))
        return judge(self, stills)

    monkeypatch.setattr(plugin.MaxCorrelation, "judge", told)
    options = Options(plugin_set="default-tiny", bundle=str(tiny_bundle), use=USED, num_videos=4, num_frames=8)
    generate(str(tmp_path / "out"), options=options, workers=1, registry=both)
    assert sum(asked) >= 4 + 4 * 8


def test_the_gate_rejects_copies_of_training_references_with_it(both, tiny_bundle):
    bundle = Bundle.open(str(tiny_bundle))
    train, holdout, videos = bundle.references()
    gate = Gate("max-correlation", both.build("privacy_filter", "max-correlation", {}), encoder=None)
    gate.calibrate(train, holdout, videos, bundle.noise_key)
    copies = gate.judge_stills(train.items)
    assert not copies.keep.any()
    assert copies.distance.abs().max() < 1e-6
    assert gate.judge_stills(torch.randn(16, *train.items.shape[1:])).keep.all()
