"""A small training as one of several processes; run by test_switches.py. Arguments: folder, and parts of a batch.

Without a moving average, so that neither process has to import diffusers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from echosdk import Run, Switches
from echosdk.training import Adversary, Recipe, train

RECIPE = Recipe(steps=6, batch_size=4, learning_rate=0.05, checkpoint_every=3)


def example(generator: torch.Generator) -> Mapping[str, Any]:
    x = torch.randn(3, generator=generator)
    return {"x": x, "y": x.sum()}


def loss(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
    return (network(batch["x"])[:, 0] - batch["y"]).square().mean()


def learn(folder: Path, accumulate: int = 1) -> dict[str, torch.Tensor]:
    """Train a network without batch statistics, and an adversary of it, and return the weights of both."""
    torch.manual_seed(0)
    network, critic = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)), nn.Linear(1, 1)

    def against(network: nn.Module, batch: Mapping[str, Any]) -> tuple[torch.Tensor, Any]:
        made = network(batch["x"])
        plain = (made[:, 0] - batch["y"]).square().mean()
        return plain - 0.1 * critic(made).mean(), (batch["y"][:, None], made.detach())

    def judge(critic: nn.Module, both: Any) -> torch.Tensor:
        real, made = (critic(each) for each in both)
        return (1 - real).square().mean() + (1 + made).square().mean()

    run = Run(folder=folder, seed=5, switches=Switches(accumulate=accumulate, validate_every=1))
    adversary = Adversary(network=critic, start=3, against=against, loss=judge)
    train(network, loss, example, RECIPE, run, validation=example, adversary=adversary)
    return {**network.state_dict(), **{f"critic.{name}": value for name, value in critic.state_dict().items()}}


if __name__ == "__main__":
    learn(Path(sys.argv[1]), int(sys.argv[2]))
