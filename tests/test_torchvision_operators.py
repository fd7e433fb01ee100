"""`import torchvision` works beside a torch that cannot load its compiled operators."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("torchvision")

NO_LIBRARY = """
import torch

def load_library(path):
    raise OSError(f"{path}: undefined symbol")

torch.ops.load_library = load_library
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter in which no compiled library of operators can be loaded."""
    return subprocess.run([sys.executable, "-c", NO_LIBRARY + code], capture_output=True, text=True, check=False)


def test_without_it_the_import_fails_where_the_library_cannot_be_loaded():
    """If this does not fail, the workaround is no longer needed: remove it."""
    assert "operator torchvision::nms does not exist" in run("import torchvision").stderr


def test_with_it_the_import_works_and_twice_is_once():
    done = run(
        "from echosdk.torchvision_operators import define_missing_operators\n"
        "define_missing_operators()\n"
        "define_missing_operators()\n"
        "import torchvision\n"
        "print(torchvision.models.resnet18().fc.out_features)\n"
    )
    assert (done.stdout, done.returncode) == ("1000\n", 0), done.stderr


def test_an_operator_that_is_missing_still_fails_when_it_is_called():
    done = run(
        "from echosdk.torchvision_operators import define_missing_operators\n"
        "define_missing_operators()\n"
        "import torchvision\n"
        "torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)\n"
    )
    assert done.returncode == 1
    assert "Couldn't load custom C++ ops" in done.stderr


def test_every_plugin_loads_without_the_library():
    done = run("import echosdk\nprint([str(problem) for problem in echosdk.Registry.discover().problems])")
    assert done.stdout == "[]\n", done.stderr


def test_a_plugin_is_imported_by_itself_without_the_library():
    done = run("import echosdk_reid, torchvision\nprint(torchvision.models.resnet18().fc.out_features)")
    assert (done.stdout, done.returncode) == ("1000\n", 0), done.stderr


def test_until_torchvision_is_looked_for_torch_is_not_loaded():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, echosdk\nprint('torch' in sys.modules)"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "False\n", done.stderr
