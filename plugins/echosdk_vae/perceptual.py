"""LPIPS as a loss, with backbones from where they are; nothing is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from torch import nn

import echosdk
from echosdk.training import imported_weights, lpips_network

Net = Literal["alex", "vgg"]

CACHED = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}

CONVOLUTIONS: dict[Net, Mapping[int, tuple[int, int, int]]] = {
    "alex": {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)},
    "vgg": {
        0: (64, 3, 3), 2: (64, 64, 3), 5: (128, 64, 3), 7: (128, 128, 3), 10: (256, 128, 3), 12: (256, 256, 3),
        14: (256, 256, 3), 17: (512, 256, 3), 19: (512, 512, 3), 21: (512, 512, 3), 24: (512, 512, 3),
        26: (512, 512, 3), 28: (512, 512, 3),
    },
}  # fmt: skip
"""AlexNet's and VGG16's in torchvision: place in `features`, and channels out, channels in and side of the kernel."""


def perceptual_loss(backbone: str) -> nn.Module | None:
    """Return LPIPS with a frozen backbone (see `backbone_weights`), or None where it is `off`."""
    path = backbone_weights(backbone)
    return lpips_network(_net(path), path) if path else None


def backbone_weights(backbone: str) -> Path | None:
    """Find the weights of `alex` or `vgg` as torchvision caches them, or of a file; None where the backbone is `off`.

    `alex` and `vgg` are looked for where `echosdk weights import lpips-alex` puts them, and in torchvision's cache.
    A file holds the convolutions' weights in torchvision's names (`features.0.weight` ...), as safetensors or as
    torchvision publishes them; which network they are of is seen by their shapes.
    Raises `TrainingError` where the weights are missing: the loss is never changed silently. Raises `InputError` for
    a file that holds something else, as where other weights were put in the place of those imported.
    """
    if backbone == "off":
        return None
    place = Path(torch.hub.get_dir()) / "checkpoints" / CACHED[backbone] if backbone in CACHED else Path(backbone)
    path = imported_weights(f"lpips-{backbone}") if backbone in CACHED else None
    path = path or (place if place.is_file() else None)
    if path is None:
        raise echosdk.TrainingError(
            f"encoder.lpips: no weights at {place}{', nor imported' if backbone in CACHED else ''}. Get them: "
            f"echosdk weights import lpips-{backbone if backbone in CACHED else 'alex'}; or give a file: "
            "--set encoder.lpips=PATH; or leave the term out: --set encoder.lpips=off"
        )
    _net(path)
    return path


def _net(path: Path) -> Net:
    """Tell by its shapes of which network a file's weights are."""
    try:
        shapes = _shapes(path)
    except Exception as error:  # what a damaged file makes of the reader has no common type
        raise echosdk.InputError(
            f"encoder.lpips: {path}: cannot be read as weights; give a safetensors file, or --set encoder.lpips=off"
        ) from error
    for net, convolutions in CONVOLUTIONS.items():
        wanted: dict[str, tuple[int, ...]] = {}
        for place, (out, into, side) in convolutions.items():
            wanted |= {f"features.{place}.weight": (out, into, side, side), f"features.{place}.bias": (out,)}
        if all(shapes.get(name) == shape for name, shape in wanted.items()):
            return net
    raise echosdk.InputError(
        f"encoder.lpips: {path}: holds neither AlexNet's nor VGG16's convolutions (features.0.weight ...); "
        "give a file that does, or --set encoder.lpips=off"
    )


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:  # its header alone
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    state = torch.load(path, map_location="meta", weights_only=True)
    return {name: tuple(tensor.shape) for name, tensor in dict(state).items() if isinstance(tensor, torch.Tensor)}
