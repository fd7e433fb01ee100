"""The tutorial on one film: each of its commands, on a film made here in place of the real one, and what refuses it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echosdk.clips import write_video
from echosdk.generation.dataset import NO_FILTER

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "echosdk-embryo"
TUTORIAL = ROOT / "docs" / "tutorials" / "one-film.md"
TRAINED = ("encoder", "image_prior", "video_animator", "downstream_validator")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the example one that is installed; work in an empty folder."""
    packages = tmp_path / "packages"
    info = packages / "echosdk_embryo-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: echosdk-embryo\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[echosdk]\nembryo-film = embryo_film\n")
    for name in ("embryo_film.py", "embryo_small.toml"):
        (packages / name).write_bytes((EXAMPLE / name).read_bytes())
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.syspath_prepend(packages)
    monkeypatch.delitem(sys.modules, "embryo_film", raising=False)
    paths = [str(packages), str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    return packages


@pytest.fixture
def film(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `heartcv` that raises when it is imported, with a film of a disc that beats."""
    package = installed / "heartcv"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('vuba')\n")
    y, x = np.mgrid[:64, :64] - 32
    radius = 16 + 4 * np.sin(np.arange(600) / 4)
    frames = np.where(np.hypot(y, x) < radius[:, None, None], 160, 20).astype(np.uint8)
    write_video(str(package / "data" / "sample.avi"), frames, 30.0)
    monkeypatch.delitem(sys.modules, "heartcv", raising=False)
    return package


def test_without_the_film_one_line_says_how_to_get_it(installed: Path, run_echosdk: Callable[..., Any]) -> None:
    if find_spec("heartcv"):
        pytest.skip("heartcv is installed")
    ended = run_echosdk("data", "show", "embryo-film")
    assert ended.status == 2
    assert ended.err == ("echosdk: the film of the package heartcv is not here; run: pip install --no-deps heartcv\n")


def test_every_command_of_the_tutorial_ends_as_it_says_and_no_dataset_passes_the_gate(
    film: Path, code_blocks: Callable[[Path, str], list[str]], run_echosdk: Callable[..., Any]
) -> None:
    """With fewer steps, shorter clips and smaller frames than on the page, which are options here."""
    lines = "".join(code_blocks(TUTORIAL, "console")).splitlines()
    calls = [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ ")]
    said = [line for line in lines if not line.startswith("$ ")]
    (*_, heartcv), (*_, example), *commands = calls
    assert (heartcv, (ROOT / example).resolve()) == ("heartcv", EXAMPLE)
    assert [command[1] for command in commands] == ["data", "train", "train", "generate", "generate"]
    refused = []
    for _, *arguments in commands:
        if arguments[0] == "train":
            arguments += [word for kind in TRAINED for word in ("--set", f"{kind}.recipe.steps=2")]
        if arguments[0] == "generate":
            arguments += ["--frames", "12"]
        ended = run_echosdk(*(word.replace("animals=true", "animals=true&size=32") for word in arguments))
        assert ended.status in (0, 2), ended.err
        refused += [line for line in ended.err.splitlines() if line.startswith("echosdk: ")]
    assert refused == said
    assert not Path("embryo").exists()
    assert Path("look/README.md").read_text().startswith(f"**{NO_FILTER}**\n")


def test_the_examples_own_tests_pass_on_any_film(film: Path) -> None:
    ended = own_tests()
    assert ended.returncode == 0, ended.stdout
    assert "skipped" not in ended.stdout


def test_the_examples_own_tests_pass_on_the_real_film(installed: Path) -> None:
    if not find_spec("heartcv"):
        pytest.skip("the film is not installed: pip install --no-deps heartcv")
    ended = own_tests()
    assert ended.returncode == 0, ended.stdout
    assert "skipped" not in ended.stdout


def own_tests() -> subprocess.CompletedProcess[str]:
    """Run the example's tests as its author does."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-c", os.devnull,
         "--rootdir", str(EXAMPLE), str(EXAMPLE / "tests")],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
