"""The tutorial on another modality: each of its commands is run, at the scale that it shows."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import echosdk

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "echosdk-cine"
TUTORIAL = ROOT / "docs" / "tutorials" / "another-modality.md"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the example one that is installed, for this process and those that it starts; work in an empty folder."""
    packages = tmp_path / "packages"
    info = packages / "echosdk_cine-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: echosdk-cine\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[echosdk]\ncine-mri = cine_mri\n")
    for name in ("cine_mri.py", "cine_tiny.toml"):
        (packages / name).write_bytes((EXAMPLE / name).read_bytes())
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.syspath_prepend(packages)
    paths = [str(packages), str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    return packages


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves the closing of its files to Python
def test_every_command_of_the_tutorial_runs_and_ends_in_a_whole_dataset(
    installed: Path, code_blocks: Callable[[Path, str], list[str]], run_echosdk: Callable[..., Any]
) -> None:
    lines = "".join(code_blocks(TUTORIAL, "console")).splitlines()
    pip, *commands = [shlex.split(line.removeprefix("$ ")) for line in lines]
    assert (ROOT / pip[-1]).samefile(EXAMPLE)
    statuses = dict.fromkeys(("data", "plugins", "train", "bundle", "generate", "verify"), 0)
    statuses |= dict.fromkeys(
        ("audit", "validate"), 1
    )  # so few patients meet no policy, and show nothing: the page says so
    assert [command[1] for command in commands] == [*statuses]
    ended = {command[1]: run_echosdk(*command[1:]) for command in commands}
    assert {name: each.status for name, each in ended.items()} == statuses, ended
    assert "NOT MET  probe.exact.still: 0.735, " in ended["audit"].out
    assert "verdict: not shown" in ended["validate"].out
    samples = list(echosdk.open_dataset("cine"))
    assert len(samples) == 18
    for sample in samples:
        assert tuple(sample["video"].shape) == (20, 1, 32, 32)
        assert (sample["fps"], {*sample["labels"]}) == (20.0, {"simulated_LVEF", "simulated_wall", "slice"})


def test_the_examples_own_tests_pass(installed: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(EXAMPLE),
         str(EXAMPLE / "tests")],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
