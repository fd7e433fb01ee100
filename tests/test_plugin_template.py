"""`echosdk plugins new` writes a distribution that works as it is, and nothing where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from echosdk import InputError
from echosdk.plugin_template import write_plugin

ROOT = Path(__file__).parents[1]


def test_what_is_written_keeps_the_contract_and_is_offered(run_echosdk: Any, tmp_path: Path) -> None:
    told = run_echosdk("plugins", "new", "privacy_filter", "my-own2", "--to", str(tmp_path))
    assert told.status == 0
    place = tmp_path / "my-own2"
    written = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert written == {"pyproject.toml", "my_own2.py", "tests/conftest.py", "tests/test_my_own2.py"}
    assert all(str(place / name) in told.out for name in written)
    points = tomllib.loads((place / "pyproject.toml").read_text())["project"]["entry-points"]["echosdk"]
    assert points == {"my-own2": "my_own2"}

    (place / "offered.py").write_text("import echosdk, my_own2\nprint(echosdk.Registry.of(my_own2).names('privacy_filter'))\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), str(ROOT)])}
    for command, says in ((["offered"], "['my-own2']"), (["pytest", "-q", "-p", "no:cacheprovider"], "10 passed")):
        ran = subprocess.run(
            [sys.executable, "-m", *command], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert says in ran.stdout


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("privacy_filters", "mine", "no template for the kind 'privacy_filters'; did you mean 'privacy_filter'? choose from privacy_filter"),
        ("privacy_filter", "My_Filter", "'My_Filter': a name is lower-case words joined by hyphens, as my-filter"),
        ("privacy_filter", "torch", "'torch': Python has a module or a word 'torch' already; choose another name"),
        ("privacy_filter", "class", "'class': Python has a module or a word 'class' already; choose another name"),
        ("privacy_filter", "there", "exists; choose another name, or another folder with --to"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused_and_nothing_is_there(kind: str, name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError) as error:
        write_plugin(kind, name, tmp_path)
    assert str(error.value).endswith(says)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
