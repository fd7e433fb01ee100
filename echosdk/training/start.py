"""Where a training starts from: nothing, or the weights of a bundle."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from echosdk.errors import TrainingError

Network = TypeVar("Network", bound=nn.Module)


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
