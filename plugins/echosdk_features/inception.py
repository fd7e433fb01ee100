"""Inception-v3 as it was published for FID (Heusel et al. 2017) and the inception score (Salimans et al. 2016).

The blocks are torchvision's. The published network differs from theirs in three things: an average pool leaves its
padding out of the mean, the last block pools by the maximum, and there are 1,008 classes. Images are resized as the
first version of TensorFlow did, with pixels at their corners.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import define, field
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

import echosdk

SIDE = 299
CLASSES = 1008
BATCH = 16
AVERAGED = ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7b")
FILE = (
    "weights-inception-2015-12-05-6726825d.pth of torch-fidelity's release v0.2.0, or pytorch-fid's file of that date"
)

Pool = Callable[[torch.Tensor], torch.Tensor]


def make_network() -> Any:
    """Return the network, without weights; its tensors are named as in the published file."""
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, num_classes=CLASSES, aux_logits=False, init_weights=False)
    average: Pool = partial(functional.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
    for name in AVERAGED:
        _pool_with(getattr(network, name), average)
    _pool_with(network.Mixed_7c, partial(functional.max_pool2d, kernel_size=3, stride=1, padding=1))
    return network


def _pool_with(block: Any, pool: Pool) -> None:
    """Let a block's last branch pool in another way."""
    branches = block._forward
    block._forward = lambda x: [*branches(x)[:-1], block.branch_pool(pool(x))]


def convert(content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the network's tensors from a state dict."""
    wanted = {
        name: tuple(value.shape) for name, value in make_network().state_dict().items() if "num_batches" not in name
    }
    for name, shape in wanted.items():
        if content[name].shape != shape:
            raise ValueError(f"{name} is of shape {content[name].shape}, not {shape}")
    return {name: content[name] for name in wanted}


@define
class Inception:
    """The 2,048 means before the last layer, and the probabilities of its classes."""

    title = "Inception"
    lengths = ()
    names = {"Fréchet distance": "FID", "kernel distance": "KID"}  # noqa: RUF012
    weights = echosdk.PretrainedWeights(
        name="inception",
        what="Inception-v3 of FID and IS",
        convert=convert,
        get=FILE,
        file_sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    )
    _network: Any = field(init=False, default=None, repr=False)
    _last: Any = field(init=False, default=None, repr=False)
    _device: str = field(init=False, default="cpu")

    def load(self, weights: Path, device: str) -> None:
        self._device, self._network = device, make_network()
        self._network.load_state_dict(load_file(weights), strict=False)  # batches are not counted; `convert` checked
        self._network.to(device).requires_grad_(False).eval()
        self._last, self._network.fc = self._network.fc, nn.Identity()

    @torch.no_grad()
    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._network(_prepared(part).to(self._device)).cpu() for part in images.split(BATCH)])

    @torch.no_grad()
    def classify(self, images: torch.Tensor) -> torch.Tensor:
        """Return the inception score's probabilities `n 1008`, of the last layer without its bias, as published."""
        logits: torch.Tensor = self.embed(images).to(self._device) @ self._last.weight.T
        return logits.double().softmax(1).cpu()


def _prepared(images: torch.Tensor) -> torch.Tensor:
    """Resize images to 299x299, as whole grey levels, and scale them as the network was trained."""
    levels = ((images.float() + 1) * 127.5).round().clamp(0, 255).expand(-1, 3, -1, -1)
    rows, columns = (_at_corners(side) for side in levels.shape[-2:])
    return (rows @ levels @ columns.T - 128) / 128


def _at_corners(before: int) -> torch.Tensor:
    """Return the matrix `299 before` that resizes one axis linearly, pixel i lying at i."""
    place = torch.arange(SIDE) * (before / SIDE)
    low = place.floor().long()
    matrix = torch.zeros(SIDE, before)
    row, share = torch.arange(SIDE), (place - low).float()
    matrix[row, low] += 1 - share
    matrix[row, (low + 1).clamp(max=before - 1)] += share
    return matrix
