"""A user's program is checked against echosdk's own types: right as it is, and red where it is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("program.py")

WRONG = """
import echosdk

registry = echosdk.Registry.discover()
registry.names(3)
echosdk.generate("out", option=None)
echosdk.open_dataset("out", split=1)
names: int = registry.names("encoder")
echosdk.Verdict(keep=None)
"""


def test_a_users_program_is_typed_and_its_mistakes_are_found(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="checks types: pip install 'echosdk[dev]'")
    (tmp_path / "wrong.py").write_text(WRONG)
    checked = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"),
            "--no-error-summary", "--hide-error-context", str(PROGRAM), str(tmp_path / "wrong.py"),
        ],
        cwd=ROOT, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert not [line for line in lines if "program.py" in line], checked.stdout
    wrong = {int(line.partition("wrong.py:")[2].partition(":")[0]) for line in lines if "wrong.py:" in line}
    assert wrong == {5, 6, 7, 8, 9}, checked.stdout + checked.stderr


def test_echosdk_says_that_it_is_typed() -> None:
    assert (ROOT / "echosdk" / "py.typed").is_file()
