"""A third party's filter, the one that the how-to shows, takes the place of the default one: nothing else is trained."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from attrs import frozen

from echosdk import Registry
from echosdk.bundle import Bundle
from echosdk.generation.dataset import verify
from echosdk.generation.files import Folder
from echosdk.generation.generate import Options, generate
from echosdk.plugin_template import CONTRACTS
from echosdk.privacy.gate import Gate

ROOT = Path(__file__).parents[1]
HOW_TO = ROOT / "docs" / "how-to" / "swap-the-filter.md"
EXAMPLE = ROOT / "docs" / "examples" / "echosdk-maxcorr"
USED = ("privacy_filter=max-correlation",)


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    """The module of the example."""
    spec = importlib.util.spec_from_file_location("max_correlation", EXAMPLE / "max_correlation.py")
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


def test_the_how_to_shows_the_whole_example(code_blocks: Callable[[Path, str], list[str]]):
    assert code_blocks(HOW_TO, "python") == [(EXAMPLE / "max_correlation.py").read_text()]
    assert code_blocks(HOW_TO, "toml") == [(EXAMPLE / "pyproject.toml").read_text()]
    assert len((EXAMPLE / "max_correlation.py").read_text().splitlines()) < 40


def test_its_entry_point_names_its_module(plugin):
    points = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]["echosdk"]
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


@frozen
class Installed:
    """Where distributions are installed, and an empty folder outside of the checkout to work in."""

    packages: Path
    empty: Path

    def run(self, *arguments: str, also: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a module of Python there; `also` is another place with installed distributions."""
        path = os.pathsep.join(str(place) for place in (self.packages, also) if place)
        return subprocess.run(
            [sys.executable, "-m", *arguments], cwd=self.empty, env={**os.environ, "PYTHONPATH": path},
            capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheels of echosdk and of the example, built and installed."""
    pytest.importorskip("build", reason="builds wheels: pip install 'echosdk[dev]'")
    pytest.importorskip("hatchling", reason="builds wheels: pip install 'echosdk[dev]'")
    folder = tmp_path_factory.mktemp("third-party")
    wheels, packages, empty = (folder / name for name in ("wheels", "packages", "empty"))
    empty.mkdir()
    for project in (ROOT, shutil.copytree(EXAMPLE, folder / "example")):
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(project)]
        done = subprocess.run(build, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(packages), *map(str, wheels.iterdir())], check=True)
    return Installed(packages, empty)


def test_the_wheels_are_used_and_not_the_checkout(installed):
    (installed.empty / "where.py").write_text("import echosdk, max_correlation\nprint(echosdk.__file__)\nprint(max_correlation.__file__)\n")
    files = installed.run("where").stdout.splitlines()
    assert len(files) == 2
    assert all(Path(file).is_relative_to(installed.packages) for file in files)


def test_once_installed_it_is_listed_and_a_dataset_is_generated_with_it(installed):
    listed = installed.run("echosdk", "plugins", "list")
    assert "problems:" not in listed.stdout
    (line,) = (line for line in listed.stdout.splitlines() if "max-correlation" in line)
    assert "(echosdk-maxcorr 0.1.0)" in line
    made = installed.run(
        "echosdk", "generate", "--plugin-set", "default", "--use", "privacy_filter=max-correlation",
        "--num-videos", "1", "--frames", "4", "--out", "demo",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert (installed.empty / "demo" / "preview.html").is_file()
    card = (installed.empty / "demo" / "README.md").read_text()
    assert "max-correlation" in card


def test_the_wheel_carries_the_templates_of_new_plugins(installed):
    (installed.empty / "write_all.py").write_text(
        "from pathlib import Path\nfrom echosdk.plugin_template import CONTRACTS, write_plugin\n"
        "for kind in CONTRACTS:\n    write_plugin(kind, f'a-{kind}'.replace('_', '-'), Path('written'))\n"
    )
    written = installed.run("write_all")
    assert written.returncode == 0, written.stderr
    assert len([*(installed.empty / "written").iterdir()]) == len(CONTRACTS)


def test_a_users_program_is_checked_against_the_installed_types_and_its_mistakes_are_found(installed, tmp_path):
    pytest.importorskip("mypy", reason="checks types: pip install 'echosdk[dev]'")
    assert (installed.packages / "echosdk" / "py.typed").is_file()  # without it mypy would look elsewhere
    for name in ("program.py", "wrong.py"):
        shutil.copy(ROOT / "tests" / "api" / name, installed.empty)
    if (ROOT / ".mypy_cache").is_dir():  # torch's types take half a minute
        shutil.copytree(ROOT / ".mypy_cache", tmp_path / "cache")
    checked = installed.run(
        "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache"),
        "--hide-error-context", "program.py", "wrong.py",
    )  # fmt: skip
    found = {line.partition(": error: ")[0] for line in checked.stdout.splitlines() if ": error: " in line}
    lines = (installed.empty / "wrong.py").read_text().splitlines()
    assert found == {f"wrong.py:{number}" for number, line in enumerate(lines, start=1) if line.endswith("# wrong")}, checked


def test_its_own_tests_pass_where_it_is_installed(installed):
    tests = shutil.copytree(EXAMPLE / "tests", installed.empty / "tests")
    ran = installed.run("pytest", "-q", "-p", "no:cacheprovider", str(tests))
    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout


FILTER = """
import echosdk

@echosdk.hookimpl
def echosdk_privacy_filters():
    yield echosdk.Component(name={name!r}, build=dict, summary=""{more})
"""


def install(folder: Path, name: str, source: str) -> None:
    """Write a distribution of one module as an installer leaves it."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[echosdk]\n{name} = {name}\n")


def test_what_is_wrong_with_a_distribution_is_listed_by_its_name_and_the_others_work(installed, tmp_path):
    install(tmp_path, "twin", FILTER.format(name="max-correlation", more=""))
    install(tmp_path, "raising", "raise RuntimeError('no licence')")
    install(tmp_path, "misspelt", FILTER.format(name="other", more="").replace("_filters", "_filter"))
    install(tmp_path, "ahead", FILTER.format(name="ahead", more=", contract=2"))
    listed = installed.run("echosdk", "plugins", "list", also=tmp_path)
    assert listed.returncode == 0
    problems = sorted(line.strip() for line in listed.stdout.partition("\nproblems:\n")[2].splitlines())
    assert len(problems) == 4
    assert problems[0].startswith("ahead (ahead 1.5): 'ahead' was written for version 2 of the privacy filter contract")
    assert problems[1].startswith(
        "misspelt (misspelt 1.5): implements the hook 'echosdk_privacy_filter', which does not exist; "
        "did you mean 'echosdk_privacy_filters'?"
    )
    assert problems[2] == "raising (raising 1.5): failed to load: RuntimeError: no licence"
    assert problems[3] == (
        "twin (twin 1.5): offers the component 'max-correlation', which max-correlation (echosdk-maxcorr 0.1.0) offers too"
    )
    for name, says in (
        ("max-correlation", "is offered by max-correlation (echosdk-maxcorr 0.1.0) and twin (twin 1.5); uninstall one"),
        ("ahead", "ahead (ahead 1.5): 'ahead' was written for version 2"),
    ):
        refused = installed.run("echosdk", "generate", "--use", f"privacy_filter={name}", "--out", "no", also=tmp_path)
        assert refused.returncode == 2
        assert says in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert not (installed.empty / "no").exists()
