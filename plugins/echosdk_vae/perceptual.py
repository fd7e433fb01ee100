"""LPIPS as a loss, with backbones from where they are; nothing is fetched."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import lpips
import torch
from safetensors.torch import load_file
from torch import nn

import echosdk
from echosdk.training import weights_path

CACHED = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}


def perceptual_loss(backbone: str) -> nn.Module | None:
    """Return LPIPS with a frozen backbone (see `backbone_weights`), or None where it is `off`."""
    path = backbone_weights(backbone)
    if path is None:
        return None
    weights = (
        load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision by its old arguments
        loss = lpips.LPIPS(net=_net(backbone), pnet_rand=True, verbose=False)
    for name, parameter in loss.net.named_parameters():  # slice1.0.weight: the numbers are those of `features`
        parameter.data.copy_(weights[f"features.{name.split('.', 1)[1]}"])
    return loss.requires_grad_(False).eval()


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
