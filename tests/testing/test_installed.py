"""`echosdk plugins check` asks the contract tests of what is installed, and says what came of each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from echosdk.plugin_template import write_plugin

ROOT = Path(__file__).parents[2]

TOGETHER = """
import echosdk
from attrs import define
from echosdk.training import Recipe
from my_filter import MyFilter

class TooKind(MyFilter):
    def judge(self, stills):
        verdict = super().judge(stills)
        return echosdk.Verdict(keep=verdict.distance >= 0, distance=verdict.distance, tau=verdict.tau)

@define
class NeverTrained:
    recipe: Recipe = Recipe(steps=100_000)
    def to(self, device, dtype): pass
    def sample(self, generators, conditions): pass
    def fit(self, data, run):
        raise echosdk.TrainingError(f"no weights, after {self.recipe.steps} steps of {self.recipe.batch_size}")
    def save(self, public, private): pass
    def load(self, public, private): pass

@define
class Folder:
    location: str

@echosdk.hookimpl
def echosdk_privacy_filters():
    yield echosdk.Component(name="sound", build=MyFilter, summary="")
    yield echosdk.Component(name="too-kind", build=TooKind, summary="")

@echosdk.hookimpl
def echosdk_image_priors():
    yield echosdk.Component(name="never-trained", build=NeverTrained, summary="")

@echosdk.hookimpl
def echosdk_data_sources():
    yield echosdk.Component(name="folder", build=Folder, summary="")

@echosdk.hookimpl
def echosdk_encoder():
    yield
"""


@frozen
class Installer:
    """Leaves modules where an installer does: found by this process, and by those that it starts."""

    place: Path

    def __call__(self, distribution: str, **plugins: str) -> None:
        for name, source in plugins.items():
            (self.place / f"{name}.py").write_text(source)
        info = self.place / f"{distribution}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text("[echosdk]\n" + "".join(f"{name} = {name}\n" for name in plugins))


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installer:
    monkeypatch.syspath_prepend(tmp_path)
    paths = [str(tmp_path), str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    return Installer(tmp_path)


def test_what_an_installed_package_offers_is_checked_and_what_fails_is_named(
    install: Installer, run_echosdk: Callable[..., Any], tmp_path: Path
) -> None:
    _, _, module, *_ = write_plugin("privacy_filter", "my-filter", tmp_path / "written")
    (tmp_path / "my_filter.py").write_text(module.read_text())
    install("together", the_plugin=TOGETHER)
    ended = run_echosdk("plugins", "check", "together", "--json", "--set", "privacy_filter.percentile=10")
    assert ended.status == 1, ended.err
    assert ended.err.splitlines() == [  # in the order of their hooks
        "image_prior never-trained: 1 of 3", "privacy_filter sound: 2 of 3", "privacy_filter too-kind: 3 of 3",
    ]  # fmt: skip
    told = json.loads(ended.out)
    assert (told["ok"], told["package"]) == (False, "together")
    checks = {(each["name"], each["test"]): each for each in told["checks"]}
    of_sound = {each["outcome"] for each in told["checks"] if each["name"] == "sound"}
    assert of_sound == {"passed"}
    failed = {key: each["message"] for key, each in checks.items() if each["outcome"] == "failed"}
    assert {*failed} == {
        ("the_plugin", "it_loads_without_a_problem"),
        ("never-trained", "it_is_trained_and_loads_what_it_saved"),
        ("too-kind", "what_is_kept_is_at_least_tau_away"),
        ("too-kind", "copies_of_any_reference_are_rejected"),
    }
    assert "implements the hook 'echosdk_encoder', which does not exist" in failed["the_plugin", "it_loads_without_a_problem"]
    assert "no weights, after 2 steps of 4" in failed["never-trained", "it_is_trained_and_loads_what_it_saved"]
    assert failed["too-kind", "copies_of_any_reference_are_rejected"].startswith("120 of 120 copies of training references are kept")
    folder = checks["folder", "it_is_built"]
    assert folder["outcome"] == "skipped"
    assert folder["message"] == "it has parameters without a default: --set data_source.location=..."


def test_a_package_that_keeps_its_contracts_is_status_0_and_a_table_of_sentences(
    install: Installer, run_echosdk: Callable[..., Any], tmp_path: Path
) -> None:
    _, _, module, *_ = write_plugin("stitcher", "my-stitcher", tmp_path / "written")
    install("mine", my_stitcher=module.read_text())
    ended = run_echosdk("plugins", "check", "my_stitcher")
    assert ended.status == 0, ended.out
    head, *rows = ended.out.splitlines()
    assert head.split(maxsplit=3) == ["kind", "name", "result", "what is asked"]
    assert "stitcher  my-stitcher  passed  motion goes on where windows meet" in rows
    assert rows[-1] == f"my_stitcher: passed {len(rows) - 2}"
    assert ended.err == "stitcher my-stitcher: 1 of 1\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("vea",), "no plugin or distribution named 'vea' is installed; did you mean 'vae'? choose from "),
        (("vae", "--set", "encoders.blocks=[8]"), "--set encoders.blocks=[8]: no kind named 'encoders'; did you mean 'encoder'? "),
        (("vae", "--set", "encoder.block=[8]"), "--set encoder.block=[8]: no encoder of this package has 'block'; did you mean 'blocks'? "),
        (("vae", "--plugin-set", "none-such"), "no plugin set named 'none-such'; "),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_an_error_of_one_line(
    arguments: tuple[str, ...], says: str, run_echosdk: Callable[..., Any]
) -> None:
    ended = run_echosdk("plugins", "check", *arguments)
    assert ended.status == 2
    assert ended.err.startswith(f"echosdk: {says}")
    assert len(ended.err.splitlines()) == 1


def test_parameters_come_from_a_plugin_set_and_recipes_are_cut(
    registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from echosdk.plugin_set import PluginSet
    from echosdk.testing import installed

    seen: list[str] = []
    monkeypatch.setattr(installed, "_run", lambda module, offers, report: seen.append(module) or [])
    tiny = PluginSet.find("default-tiny", registry)
    installed.check_package(registry, "lidm", plugin_set=tiny, set_=["image_prior.recipe.steps=3"])
    (module,) = seen
    assert "testing.PriorContract" in module
    assert "'blocks': [8, 8]" in module
    assert "'steps': 3, 'batch_size': 4, 'learning_rate': 0.001" in module
