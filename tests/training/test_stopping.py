"""A training that stops early: on examples of its own, with the best weights, interrupted or not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import nn

from echosdk import Run, TrainingError
from echosdk.training import Recipe, Stopping, Trained, train
from echosdk.training.loop import VALIDATION_BATCHES
from echosdk.training.watch import read_curve

RECIPE = Recipe(steps=40, batch_size=2, learning_rate=0.01, optimizer="sgd", max_grad_norm=0.0, checkpoint_every=5)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def toward(target: float) -> Any:
    def example(generator: torch.Generator) -> Mapping[str, Any]:
        return {"x": torch.randn(1, generator=generator), "target": torch.tensor(target)}

    return example


def loss(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
    return (network(batch["x"])[:, 0] - batch["target"]).square().mean()


def stopped(folder: Path, own_loss: Any = loss, recipe: Recipe = RECIPE) -> tuple[Trained, dict[str, torch.Tensor], list[str]]:
    """Learn to say 3; what is held back is best at 1, which is passed on the way."""
    made, lines = network(), list[str]()
    run = Run(folder=folder, seed=5, report=lines.append)
    stopping = Stopping(example=toward(1.0), every=1, patience=4)
    done = train(made, own_loss, toward(3.0), recipe, run, validation=toward(3.0), stopping=stopping)
    return done, made.state_dict(), lines


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_it_stops_after_its_patience_and_keeps_the_best_weights(decay: float, tmp_path: Path) -> None:
    done, weights, lines = stopped(tmp_path / "early", recipe=evolve(RECIPE, ema_decay=decay))
    best = done.steps - 4
    assert 0 < best < 30
    assert lines[-1].startswith(f"the weights of step {best} stay: loss ")
    whole = network()
    short = evolve(RECIPE, ema_decay=decay, steps=best)
    train(whole, loss, toward(3.0), short, Run(folder=tmp_path / "short", seed=5))
    assert all(torch.equal(weights[name], value) for name, value in whole.state_dict().items())
    assert read_curve(tmp_path / "early")[-1][0] == done.steps


def test_a_run_that_has_stopped_is_not_gone_on_with(tmp_path: Path) -> None:
    done, weights, _ = stopped(tmp_path)

    def no_step(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        assert not network.training, "a step was made"
        return loss(network, batch)

    again, same, _ = stopped(tmp_path, no_step)
    assert again.steps == done.steps
    assert all(torch.equal(weights[name], value) for name, value in same.items())


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_loss_on_what_is_held_back_that_is_no_number_stops_it(broken: float, tmp_path: Path) -> None:
    """It would else be waited out as a loss that does not fall, and the last weights be kept for the best."""
    looks = 0

    def breaks(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        nonlocal looks
        looks += not network.training and float(batch["target"][0]) == 1.0
        return loss(network, batch) * (broken if looks > 6 * VALIDATION_BATCHES else 1.0)

    with pytest.raises(TrainingError) as error:
        stopped(tmp_path / "filter", breaks)
    checkpoint = tmp_path / "filter" / "checkpoint.pt"
    assert str(error.value) == (
        f"filter: the loss on what is held back is {broken} at step 6; the last good checkpoint is {checkpoint}. "
        "Use float32, or a lower recipe.learning_rate: that is another recipe, and begins at step 0"
    )
    assert torch.load(checkpoint, weights_only=True)["step"] == 5


@pytest.mark.parametrize("at", [1, 8, 9])
def test_interrupted_it_stops_where_it_would_have(at: int, tmp_path: Path) -> None:
    calls = 0

    def stops(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        nonlocal calls
        calls += network.training
        if network.training and calls == at:
            raise KeyboardInterrupt
        return loss(network, batch)

    with pytest.raises(KeyboardInterrupt):
        stopped(tmp_path / "stopped", stops)
    done, weights, _ = stopped(tmp_path / "stopped")
    whole, same, _ = stopped(tmp_path / "whole")
    assert done.steps == whole.steps
    assert all(torch.equal(weights[name], value) for name, value in same.items())
