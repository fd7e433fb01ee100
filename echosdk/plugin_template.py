"""Write a distribution that offers one component: working and tested as it is, for its author to change."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path

from echosdk.errors import InputError
from echosdk.registry import choose

PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["echosdk"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points.echosdk]
{name} = "{module}"

[tool.hatch.build.targets.wheel]
only-include = ["{module}.py"]
"""

CONFTEST = """\
pytest_plugins = ["echosdk.testing.fixtures"]
"""

TEST = """\
from {module} import {builder}

from echosdk.testing import {contract}


class Test{builder}({contract}):
    def build(self):
        return {builder}()
"""

FILTER = '''\
"""A privacy filter: it rejects what is nearer to a training reference than two patients usually are."""

import echosdk
import torch
from attrs import define, field
from attrs.validators import ge, le


@define
class {builder}:
    """Euclidean distance of latents. tau is a percentile of the held-out items' own nearest distances."""

    percentile: float = field(default=5.0, validator=[ge(0), le(100)])
    space = "latent"  # or "image": echosdk decodes
    _train: torch.Tensor | None = field(init=False, default=None, repr=False)
    _tau: float = field(init=False, default=float("nan"))

    def calibrate(self, train: echosdk.References, holdout: echosdk.References, generator: torch.Generator) -> None:
        self._train = train.items.flatten(1).double()
        self._tau = torch.quantile(self._nearest(holdout.items), self.percentile / 100).item()

    def judge(self, stills: torch.Tensor) -> echosdk.Verdict:
        distance = self._nearest(stills)
        return echosdk.Verdict(keep=distance >= self._tau, distance=distance, tau=self._tau)

    def _nearest(self, stills: torch.Tensor) -> torch.Tensor:
        rows = stills.flatten(1).double()
        return torch.cdist(rows, self._train, compute_mode="donot_use_mm_for_euclid_dist").amin(1)


@echosdk.hookimpl
def echosdk_privacy_filters():
    yield echosdk.Component(name="{name}", build={builder}, summary="Euclidean distance of latents.", contract=1)
'''

MODULES = {"privacy_filter": (FILTER, "FilterContract")}


def write_plugin(kind: str, name: str, folder: Path) -> list[Path]:
    """Write the distribution NAME under `folder` and return its files.

    Raises `InputError` for a kind without a template, for a name of another form or of a module that is there,
    and where the folder is there already.
    """
    if kind not in MODULES:
        raise InputError(f"no template for the kind {kind!r}; {choose(kind, MODULES)}")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise InputError(f"{name!r}: a name is lower-case words joined by hyphens, as my-filter")
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or importlib.util.find_spec(module):
        raise InputError(f"{name!r}: Python has a module or a word {module!r} already; choose another name")
    place = folder / name
    if place.exists():
        raise InputError(f"{place}: exists; choose another name, or another folder with --to")
    source, contract = MODULES[kind]
    words = {
        "name": name,
        "module": module,
        "builder": "".join(word.capitalize() for word in name.split("-")),
        "contract": contract,
    }
    files = {
        "pyproject.toml": PROJECT,
        f"{module}.py": source,
        "tests/conftest.py": CONFTEST,
        f"tests/test_{module}.py": TEST,
    }
    (place / "tests").mkdir(parents=True)
    for path, text in files.items():
        (place / path).write_text(text.format(**words))
    return [place / path for path in files]
