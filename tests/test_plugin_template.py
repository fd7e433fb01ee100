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
from echosdk.interfaces import CONTRACTS as VERSIONS
from echosdk.plugin_template import CONTRACTS, write_plugin
from echosdk.testing import CONTRACTS as CLASSES

ROOT = Path(__file__).parents[1]
ONE_OF_A_KIND = ("published_layout", "feature_extractor")  # each reads one particular file of somebody's
KINDS = [kind for kind in VERSIONS if kind not in ONE_OF_A_KIND]

# One process for all: each distribution's tests as `pytest` runs them in its folder.
DRIVER = """
import os, sys
import pytest

for place in sys.argv[1:]:
    os.chdir(place)
    sys.path.insert(0, place)
    print(f"{os.path.basename(place)}: {pytest.main(['-q', '-p', 'no:cacheprovider']).value}", flush=True)
"""


def test_every_kind_has_a_template_and_its_tests_inherit_the_kinds_contract() -> None:
    assert {*CONTRACTS} == {*KINDS}
    assert {kind: contract.__name__ for kind, contract in CLASSES.items()} == CONTRACTS


def test_what_is_written_for_each_kind_is_offered_and_keeps_its_contract(run_echosdk: Any, tmp_path: Path) -> None:
    places = []
    for kind in KINDS:
        name = f"my-{kind.replace('_', '-')}2"
        module = name.replace("-", "_")
        told = run_echosdk("plugins", "new", kind, name, "--to", str(tmp_path))
        assert told.status == 0
        place = tmp_path / name
        written = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
        assert written == {"pyproject.toml", "README.md", f"{module}.py", "tests/conftest.py", f"tests/test_{module}.py"}
        assert all(str(place / path) in told.out for path in written)
        points = tomllib.loads((place / "pyproject.toml").read_text())["project"]["entry-points"]["echosdk"]
        assert points == {name: module}
        assert not [path for path in written if "$" in (place / path).read_text()]
        places.append(place)
    ran = subprocess.run(
        [sys.executable, "-c", DRIVER, *map(str, places)], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [line for line in ran.stdout.splitlines() if line.startswith("my-")] == [f"{p.name}: 0" for p in places], ran.stdout
    passed = [int(line.split()[0]) for line in ran.stdout.splitlines() if " passed in " in line]
    asked = [sum(name.startswith("test_") for name in vars(CLASSES[kind])) for kind in KINDS]
    assert all(ran >= inherited + 1 for ran, inherited in zip(passed, asked, strict=True))


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("privacy_filters", "mine", "no kind of component named 'privacy_filters'; did you mean 'privacy_filter'? choose from data_source, downstream_validator, encoder, image_prior, privacy_filter, stitcher, video_animator"),
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
