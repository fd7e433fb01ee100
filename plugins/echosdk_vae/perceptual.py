"""LPIPS as a loss, with backbones from where they are; nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import nn

import echosdk
from echosdk.training import lpips_network, weights_path

CACHED = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}


def perceptual_loss(backbone: str) -> nn.Module | None:
    """Return LPIPS with a frozen backbone (see `backbone_weights`), or None where it is `off`."""
    path = backbone_weights(backbone)
    if path is None:
        return None
    return lpips_network(_net(backbone), path)


def backbone_weights(backbone: str) -> Path | None:
    """Find the weights of `alex` or `vgg` as torchvision caches them, or of a file; None where the backbone is `off`.

    `alex` and `vgg` are looked for where `echosdk weights import lpips-alex` puts them, and in torchvision's cache.
    A file holds the convolutions' weights in torchvision's names (`features.0.weight` ...), as safetensors.
    Raises `TrainingError` where the weights are missing: the loss is never changed silently.
    """
    if backbone == "off":
        return None
    net = _net(backbone)
    places = [Path(backbone)]
    if backbone in CACHED:
        places = [weights_path(f"lpips-{net}"), Path(torch.hub.get_dir()) / "checkpoints" / CACHED[backbone]]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise echosdk.TrainingError(
            f"encoder.lpips: no {net} weights at {' or '.join(map(str, places))}. Get them: echosdk weights import "
            f"lpips-{net}; or give a file: --set encoder.lpips=PATH; or leave the term out: --set encoder.lpips=off"
        )
    return path


def _net(backbone: str) -> Literal["alex", "vgg"]:
    return "vgg" if "vgg" in Path(backbone).name else "alex"
