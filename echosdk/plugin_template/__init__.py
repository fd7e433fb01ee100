"""Write a distribution that offers one component: working and tested as it is, for its author to change.

The module of each kind is `KIND.py.txt` beside this file, with `$name` and `$builder` for the name and the class.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from echosdk.errors import InputError
from echosdk.registry import choose

PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "$name"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["echosdk"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points.echosdk]
$name = "$module"

[tool.hatch.build.targets.wheel]
only-include = ["$module.py"]
"""

README = """\
# $name

$article for echosdk. `$module.py` is all of it, and `tests/` asks of it what echosdk does.

    pip install -e '.[test]'
    pytest
    echosdk plugins show $name
    echosdk plugins check $name
"""

CONFTEST = """\
pytest_plugins = ["echosdk.testing.fixtures"]
"""

TEST = """\
import echosdk
import $module
from echosdk.testing import $contract


class Test$builder($contract):
    def build(self):
        return $module.$builder()
$more

def test_it_is_offered_under_its_name():
    registry = echosdk.Registry.of($module)
    assert registry.component("$kind", "$name").build is $module.$builder
    assert not registry.problems
"""

OTHER_SOURCE = """\

    def build_other(self):
        return $module.$builder(seed=1)
"""

CONTRACTS = {
    "encoder": "EncoderContract",
    "image_prior": "PriorContract",
    "privacy_filter": "FilterContract",
    "video_animator": "AnimatorContract",
    "stitcher": "StitcherContract",
    "downstream_validator": "ValidatorContract",
    "data_source": "SourceContract",
}
"""Which class of `echosdk.testing` the tests of each kind inherit from."""


def write_plugin(kind: str, name: str, folder: Path) -> list[Path]:
    """Write the distribution NAME under `folder` and return its files.

    Raises `InputError` for a kind that there is not, for a name of another form or of a module that is there, and where
    the folder is there already.
    """
    if kind not in CONTRACTS:
        raise InputError(f"no kind of component named {kind!r}; {choose(kind, CONTRACTS)}")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise InputError(f"{name!r}: a name is lower-case words joined by hyphens, as my-filter")
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or importlib.util.find_spec(module):
        raise InputError(f"{name!r}: Python has a module or a word {module!r} already; choose another name")
    place = folder / name
    if place.exists():
        raise InputError(f"{place}: exists; choose another name, or another folder with --to")
    source = files("echosdk.plugin_template").joinpath(f"{kind}.py.txt").read_text()
    texts = {
        "pyproject.toml": PROJECT,
        "README.md": README,
        f"{module}.py": source,
        "tests/conftest.py": CONFTEST,
        f"tests/test_{module}.py": TEST.replace("$more", OTHER_SOURCE if kind == "data_source" else ""),
    }
    words = kind.replace("_", " ")
    filled = {
        "name": name,
        "module": module,
        "builder": "".join(word.capitalize() for word in name.split("-")),
        "contract": CONTRACTS[kind],
        "kind": kind,
        "article": f"An {words}" if words[0] in "aeiou" else f"A {words}",
    }
    (place / "tests").mkdir(parents=True)
    for path, text in texts.items():
        (place / path).write_text(Template(text).substitute(filled))
    return [place / path for path in texts]
