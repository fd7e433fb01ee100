"""LPIPS (Zhang et al. 2018) with a backbone's weights from a file: a loss, and a measure."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import nn


def lpips_network(net: Literal["alex", "vgg"], path: Path) -> nn.Module:
    """Return LPIPS 0.1, frozen, with the convolutions of a file in torchvision's names (`features.0.weight` ...)."""
    import lpips
    from safetensors.torch import load_file

    weights = (
        load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision by its old arguments
        network: nn.Module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    backbone = network.net
    assert isinstance(backbone, nn.Module)
    for name, parameter in backbone.named_parameters():  # slice1.0.weight: the numbers are those of `features`
        parameter.data.copy_(weights[f"features.{name.split('.', 1)[1]}"])
    return network.requires_grad_(False).eval()
