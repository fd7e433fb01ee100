"""Where a training starts from: nothing, the weights of a bundle, or those of a network for other classes."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from echosdk.errors import InputError, TrainingError

Network = TypeVar("Network", bound=nn.Module)
State = dict[str, torch.Tensor]
LAST = "fc."  # what torchvision calls a classifier's last layer
UNREADABLE = (
    RuntimeError, AttributeError, KeyError, ValueError, IndexError, EOFError, OSError, struct.error,
    pickle.UnpicklingError, SafetensorError,
)  # fmt: skip


def starting_from(loaded: nn.Module | None, network: Network) -> Network:
    """Give a new network the weights of one that was loaded before `fit`, if any, so that training goes on from there.

    Raises `TrainingError` where the two are not of one shape.
    """
    if loaded is None:
        return network
    weights, wanted = loaded.state_dict(), network.state_dict()
    other = sorted(
        name
        for name in {*weights, *wanted}
        if name not in weights or name not in wanted or weights[name].shape != wanted[name].shape
    )
    if other:
        raise TrainingError(
            f"the weights to start from are those of another network: {other[0]} differs, one of {len(other)}; "
            "train with the shape parameters of that bundle, or from nothing"
        )
    network.load_state_dict(weights)
    return network


def begin_with_weights(network: nn.Module, start: str, who: str, adapt: Callable[[State], State] = dict) -> None:
    """Give a network the weights in a file, all but the last layer's (`fc`), which are of other classes.

    `start` is safetensors, or a state dict that `torch.load` reads; `adapt` changes what was read to fit. Raises
    `InputError`, in the name of `who`, where there is no such file, or it holds other weights.
    """
    path, where = Path(start).expanduser(), f"{who}: start={start}"
    if not path.is_file():
        raise InputError(f"{where}: no such file")
    try:
        read = load_file if path.suffix == ".safetensors" else partial(torch.load, weights_only=True)
        state = adapt({name: value for name, value in read(path).items() if not name.startswith(LAST)})
        unknown = network.load_state_dict(state, strict=False)
    except UNREADABLE as error:
        raise InputError(f"{where}: holds other weights: {error}") from error
    missing = [name for name in unknown.missing_keys if not name.startswith(LAST)]
    if missing or unknown.unexpected_keys:
        raise InputError(
            f"{where}: holds other weights: {len(missing)} are missing, {len(unknown.unexpected_keys)} unknown"
        )
