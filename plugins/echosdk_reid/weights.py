"""Weights of torchvision's ResNet-50 from which the re-identification network may start."""

from __future__ import annotations

import pickle
import struct
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

import echosdk

UNREADABLE = (
    RuntimeError, AttributeError, KeyError, ValueError, IndexError, EOFError, OSError, struct.error,
    pickle.UnpicklingError, SafetensorError,
)  # fmt: skip


def begin_with_weights(model: nn.Module, start: str) -> None:
    """Give a ResNet-50 of any number of input channels the weights in a file: safetensors, or what `torch.load` reads.

    All but the last layer's, which are of other classes. The first layer's see red, green and blue: latent channel i
    gets those of colour i mod 3, and all are scaled by 3 / channels, so that its answers keep their size. Raises
    `InputError` where there is no such file, or it holds other weights.
    """
    path = Path(start).expanduser()
    if not path.is_file():
        raise echosdk.InputError(f"pearson-reid: start={start}: no such file")
    try:
        read = load_file if path.suffix == ".safetensors" else partial(torch.load, weights_only=True)
        state = {name: value for name, value in read(path).items() if not name.startswith("fc.")}
        channels = model.get_parameter("conv1.weight").shape[1]
        state["conv1.weight"] = state["conv1.weight"][:, torch.arange(channels) % 3] * (3 / channels)
        unknown = model.load_state_dict(state, strict=False)
    except UNREADABLE as error:
        raise echosdk.InputError(f"pearson-reid: start={start}: holds other weights: {error}") from error
    missing = [name for name in unknown.missing_keys if not name.startswith("fc.")]
    if missing or unknown.unexpected_keys:
        raise echosdk.InputError(
            f"pearson-reid: start={start}: holds other weights: {len(missing)} are missing and "
            f"{len(unknown.unexpected_keys)} unknown of resnet50"
        )
