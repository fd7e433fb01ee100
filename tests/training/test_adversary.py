"""The loop with a second network: both are resumed, each learns from its own loss only, and late."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from echosdk import Run, TrainingError
from echosdk.training import Adversary, Recipe, train

RECIPE = Recipe(steps=9, batch_size=3, learning_rate=0.05, warmup_steps=2, checkpoint_every=4, ema_decay=0.9)


def example(generator: torch.Generator) -> Mapping[str, Any]:
    return {"x": torch.randn(3, generator=generator)}


class Pair:
    """A network that copies its input, an adversary, and what was seen of both."""

    def __init__(self, start: int) -> None:
        torch.manual_seed(0)
        self.network, self.critic = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.2), nn.Linear(4, 1))
        self.seen: list[str] = []
        self.stop_at: int | None = None
        self.broken = 1.0
        self.adversary = Adversary(network=self.critic, start=start, against=self.against, loss=self.judge)

    def plain(self, network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        self.seen.append("plain")
        return (network(batch["x"]) - batch["x"]).square().mean()

    def against(self, network: nn.Module, batch: Mapping[str, Any]) -> tuple[torch.Tensor, Any]:
        self.seen.append("against")
        assert not any(parameter.requires_grad for parameter in self.critic.parameters())
        made = network(batch["x"])
        return (made - batch["x"]).square().mean() - self.critic(made).mean(), (batch["x"], made.detach())

    def judge(self, network: nn.Module, both: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        self.seen.append("judge")
        if self.seen.count("judge") - 1 == self.stop_at:
            raise KeyboardInterrupt
        real, made = both
        return (network(made).mean() - network(real).mean()) * self.broken

    def train(self, folder: Path) -> dict[str, torch.Tensor]:
        run = Run(folder=folder, seed=5)
        train(self.network, self.plain, example, RECIPE, run, validation=example, adversary=self.adversary)
        both = {"network": self.network, "critic": self.critic}
        return {f"{name}.{key}": value for name, each in both.items() for key, value in each.state_dict().items()}


def test_it_joins_in_late_and_validation_keeps_the_plain_loss(tmp_path: Path) -> None:
    pair = Pair(start=6)
    pair.train(tmp_path)
    assert pair.seen == ["plain"] * 6 + ["against", "judge"] * 3 + ["plain"] * 8


def test_it_learns_and_changes_what_the_first_network_learns(tmp_path: Path) -> None:
    first = {f"critic.{key}": value.clone() for key, value in Pair(0).critic.state_dict().items()}
    alone, opposed = Pair(100).train(tmp_path / "alone"), Pair(3).train(tmp_path / "opposed")
    assert all(torch.equal(alone[key], first[key]) for key in first)
    assert not any(torch.equal(opposed[key], first[key]) for key in ("critic.0.weight", "critic.2.weight"))
    assert not torch.equal(alone["network.weight"], opposed["network.weight"])


@pytest.mark.parametrize("stop_at", [0, 1, 2, 4])
def test_a_run_interrupted_between_the_two_ends_in_the_weights_of_one_that_was_not(
    stop_at: int, tmp_path: Path
) -> None:
    stopped = Pair(3)
    stopped.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        stopped.train(tmp_path / "stopped")
    resumed, whole = Pair(3).train(tmp_path / "stopped"), Pair(3).train(tmp_path / "whole")
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_its_loss_stops_the_run_too_where_it_is_no_number(tmp_path: Path) -> None:
    pair = Pair(5)
    pair.broken = float("inf")
    with pytest.raises(TrainingError) as error:
        pair.train(tmp_path / "encoder")
    assert str(error.value).startswith("encoder: the adversary's loss is ")
    assert f" at step 5; the last good checkpoint is {tmp_path / 'encoder' / 'checkpoint.pt'}. " in str(error.value)
