"""The training loop: resumed, it does what it would have done; it stops on NaN; the average is what stays."""

from __future__ import annotations

import copy
import errno
import os
import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from echosdk import Run, TrainingError
from echosdk.seeding import generator
from echosdk.training import Recipe, loop, train

RECIPE = Recipe(steps=9, batch_size=3, learning_rate=0.05, warmup_steps=2, decay="cosine", checkpoint_every=4)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))


def example(generator: torch.Generator) -> Mapping[str, Any]:
    x = torch.randn(3, generator=generator)
    return {"x": x, "y": x.sum()}


def loss(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
    return (network(batch["x"])[:, 0] - batch["y"]).square().mean()


def run_of(folder: Path) -> Run:
    return Run(folder=folder, seed=5)


def trained(folder: Path, recipe: Recipe = RECIPE) -> dict[str, torch.Tensor]:
    made = network()
    train(made, loss, example, recipe, run_of(folder))
    return made.state_dict()


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def with_average(decay: float) -> Recipe:
    return Recipe(
        steps=9, batch_size=3, learning_rate=0.05, warmup_steps=2, decay="cosine", checkpoint_every=4, ema_decay=decay
    )


def interrupted(folder: Path, recipe: Recipe, step: int, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until Ctrl-C at a step: in the loss, after the optimiser's step, or while a checkpoint is written."""
    calls = 0

    def stops(original: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step + 1:
                raise KeyboardInterrupt
            return original(*arguments)

        return call

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if where == "checkpoint":
            patch.setattr(loop, "save", stops(loop.save))
        if where == "average":
            from diffusers.training_utils import EMAModel

            patch.setattr(EMAModel, "step", stops(EMAModel.step))
        own_loss = stops(loss) if where == "loss" else loss
        train(network(), own_loss, example, recipe, run_of(folder))


@pytest.mark.parametrize("decay", [0.0, 0.9])
@pytest.mark.parametrize(
    ("where", "step"), [("loss", 0), ("loss", 4), ("loss", 7), ("checkpoint", 0), ("checkpoint", 1)]
)
def test_a_run_interrupted_anywhere_ends_in_the_weights_of_one_that_was_not(
    where: str, step: int, decay: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = with_average(decay)
    interrupted(tmp_path / "stopped", recipe, step, where, monkeypatch)
    assert same(trained(tmp_path / "stopped", recipe), trained(tmp_path / "whole", recipe))


def test_a_run_interrupted_between_two_halves_of_a_step_goes_back_to_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path / "stopped", with_average(0.9), 6, "average", monkeypatch)
    assert torch.load(tmp_path / "stopped" / "checkpoint.pt", weights_only=True)["step"] == 4
    assert same(trained(tmp_path / "stopped", with_average(0.9)), trained(tmp_path / "whole", with_average(0.9)))


def test_a_run_interrupted_twice_says_where_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path / "stopped", RECIPE, 2, "loss", monkeypatch)
    interrupted(tmp_path / "stopped", RECIPE, 3, "loss", monkeypatch)
    lines: list[str] = []
    made = network()
    train(made, loss, example, RECIPE, Run(folder=tmp_path / "stopped", seed=5, report=lines.append))
    assert lines[0] == "resumed at step 5 of 9"
    assert same(made.state_dict(), trained(tmp_path / "whole"))


def test_on_a_terminal_a_bar_counts_the_steps_and_takes_the_place_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY_SECONDS", -1.0)  # a line for every step
    interrupted(tmp_path / "encoder-1", RECIPE, 4, "loss", monkeypatch)
    lines: list[str] = []
    with_bar = Run(folder=tmp_path / "encoder-1", seed=5, progress=True, report=lines.append)
    train(network(), loss, example, RECIPE, with_bar)
    drawn = capsys.readouterr().err.split("\r")
    assert any(re.match(r"encoder-1:  44%.* 4/9 \[", each) for each in drawn), drawn  # it goes on where it stopped
    assert [line.split("  ")[0] for line in lines] == ["resumed at step 4 of 9", "step 9/9"]


def test_in_a_log_lines_say_how_far_it_is_and_nothing_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY_SECONDS", -1.0)
    lines: list[str] = []
    train(network(), loss, example, RECIPE, Run(folder=tmp_path, seed=5, report=lines.append))
    assert [line.split("  ")[0] for line in lines] == [f"step {step}/9" for step in range(1, 10)]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("breaks_at", [3, None])
def test_a_bar_is_taken_away_however_the_training_ends(
    breaks_at: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        breaks.step += 1  # type: ignore[attr-defined]
        return loss(network, batch) * (float("nan") if breaks.step == breaks_at else 1.0)  # type: ignore[attr-defined]

    breaks.step = 0  # type: ignore[attr-defined]
    watched = Run(folder=tmp_path / "filter-1", progress=True)
    with pytest.raises(TrainingError) if breaks_at else nullcontext():
        train(network(), breaks, example, RECIPE, watched)
    err = capsys.readouterr().err
    assert "filter-1:" in err
    assert err.endswith("\r")
    assert err.rstrip("\r").rpartition("\r")[2].strip() == ""


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    recipe = Recipe(steps=4, batch_size=3, checkpoint_every=4)
    first_made = network()
    first_facts = train(first_made, loss, example, recipe, run_of(tmp_path)).facts()
    first = first_made.state_dict()

    def no_step(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        raise AssertionError("a step was made")

    again = network()
    facts = train(again, no_step, example, recipe, run_of(tmp_path)).facts()
    assert same(again.state_dict(), first)
    assert facts["train_loss"] == first_facts["train_loss"] > 0


def test_a_checkpoint_of_an_earlier_version_knows_no_losses_and_goes_on(tmp_path: Path) -> None:
    recipe = Recipe(steps=4, batch_size=3, checkpoint_every=4)
    trained(tmp_path, recipe)
    checkpoint = tmp_path / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    del state["recent"]
    torch.save(state, checkpoint)
    assert "train_loss" not in train(network(), loss, example, recipe, run_of(tmp_path)).facts()


def test_another_seed_is_another_training(tmp_path: Path) -> None:
    other = network()
    train(other, loss, example, RECIPE, Run(folder=tmp_path / "other", seed=6))
    assert not same(other.state_dict(), trained(tmp_path / "one"))


@pytest.mark.parametrize("checkpoint_every", [2, 100])
def test_a_loss_that_is_no_number_stops_with_the_step_and_the_last_good_checkpoint(
    tmp_path: Path, checkpoint_every: int
) -> None:
    def breaks(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        breaks.step += 1  # type: ignore[attr-defined]
        return loss(network, batch) * (float("nan") if breaks.step == 6 else 1.0)  # type: ignore[attr-defined]

    breaks.step = 0  # type: ignore[attr-defined]
    recipe = Recipe(steps=9, batch_size=3, checkpoint_every=checkpoint_every)
    with pytest.raises(TrainingError) as error:
        train(network(), breaks, example, recipe, run_of(tmp_path / "filter"))
    checkpoint = tmp_path / "filter" / "checkpoint.pt"
    good = str(checkpoint) if checkpoint_every == 2 else "none yet"
    assert str(error.value) == (
        f"filter: the loss is nan at step 5; the last good checkpoint is {good}. "
        "Use float32, or a lower recipe.learning_rate: that is another recipe, and begins at step 0"
    )
    if checkpoint_every == 2:
        state = torch.load(checkpoint, weights_only=True)
        assert state["step"] == 4
        assert all(torch.isfinite(tensor).all() for tensor in state["network"].values())


def test_weights_that_a_gradient_broke_never_replace_the_last_good_checkpoint(tmp_path: Path) -> None:
    """The loss of that step was a number still: only the next one would not be."""

    class Breaks(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, value: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * float("inf")

    steps = 0

    def breaks(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        nonlocal steps
        steps += 1
        value = loss(network, batch)
        return Breaks.apply(value) if steps == 4 else value

    recipe = Recipe(steps=9, batch_size=3, checkpoint_every=2)
    with pytest.raises(TrainingError) as error:
        train(nn.Sequential(nn.Linear(3, 1)), breaks, example, recipe, run_of(tmp_path / "filter"))
    assert str(error.value) == (
        "filter: 0.weight is no longer finite after step 3; the last good checkpoint is "
        f"{tmp_path / 'filter' / 'checkpoint.pt'}. Use float32, or a lower recipe.learning_rate: that is another recipe, and begins at step 0"
    )
    state = torch.load(tmp_path / "filter" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2
    assert torch.isfinite(state["network"]["0.weight"]).all()


@pytest.mark.parametrize("full", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 341440 vs 341332")])
def test_a_checkpoint_whose_writing_fails_leaves_the_one_before(
    full: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's writer has an error of its own for a disk that is full."""
    real, written = torch.save, 0

    def fills_the_disk(state: Any, file: Any) -> None:
        nonlocal written
        written += 1
        if written < 2:
            return real(state, file)
        with file if hasattr(file, "write") else open(file, "wb") as out:
            out.write(b"PK\x03\x04 some bytes")
            out.flush()
        raise full

    recipe = Recipe(steps=9, batch_size=3, checkpoint_every=2)
    checkpoint = tmp_path / "stopped" / "checkpoint.pt"
    with monkeypatch.context() as patch, pytest.raises(TrainingError, match="cannot be written after step 3, and that of before stays"):
        patch.setattr(torch, "save", fills_the_disk)
        trained(tmp_path / "stopped", recipe)
    assert torch.load(checkpoint, weights_only=True)["step"] == 2
    assert not checkpoint.with_suffix(".partial").exists()
    assert same(trained(tmp_path / "stopped", recipe), trained(tmp_path / "whole", recipe))


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut may leave an empty file in the place of the last good one."""
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    partial = tmp_path / "checkpoint.partial"

    def synced(descriptor: int) -> None:
        if partial.exists() and os.fstat(descriptor).st_ino == partial.stat().st_ino:
            assert torch.load(partial, weights_only=True)["step"] == 4
            done.append("on disk")
        sync(descriptor)

    def replaced(source: Any, target: Any) -> None:
        if Path(source) == partial:
            done.append("named")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    trained(tmp_path, Recipe(steps=4, batch_size=3, checkpoint_every=4))
    assert done == ["on disk", "named"]


@pytest.mark.parametrize("left", [0.0, 0.3, 0.9, None])
def test_a_damaged_checkpoint_is_named_with_what_to_do(left: float | None, tmp_path: Path) -> None:
    folder, recipe = tmp_path / "encoder-1", Recipe(steps=4, batch_size=3, checkpoint_every=4)
    trained(folder, recipe)
    checkpoint = folder / "checkpoint.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(b"junk" if left is None else whole[: int(left * len(whole))])
    with pytest.raises(TrainingError) as error:
        trained(folder, recipe)
    assert str(error.value) == (
        f"encoder-1: the checkpoint {checkpoint} cannot be read, it is damaged; "
        "remove it, and the same command begins this training at step 0"
    )


def test_the_moving_average_is_what_ends_in_the_network(tmp_path: Path) -> None:
    recipe = Recipe(steps=5, batch_size=3, learning_rate=0.05, optimizer="sgd", max_grad_norm=0.0, ema_decay=0.3)
    plain = nn.Linear(3, 1)
    averaged = copy.deepcopy(plain)
    shadow = copy.deepcopy(plain).weight.detach()
    optimizer = torch.optim.SGD(plain.parameters(), 0.05, momentum=0.9)
    for step in range(5):
        drawn = [example(generator(5, step, place)) for place in range(3)]
        batch = {key: torch.stack([one[key] for one in drawn]) for key in ("x", "y")}
        optimizer.zero_grad()
        loss(plain, batch).backward()
        optimizer.step()
        decay = 0.0 if step == 0 else min(0.3, (1 + step) / (10 + step))  # it warms up as (1 + n) / (10 + n)
        shadow = decay * shadow + (1 - decay) * plain.weight.detach()
    train(averaged, loss, example, recipe, run_of(tmp_path))
    torch.testing.assert_close(averaged.weight.detach(), shadow, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(averaged.weight, plain.weight, atol=1e-4)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [loop._factor(step, Recipe(steps=10, warmup_steps=4, decay="cosine")) for step in range(11)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[10] == pytest.approx(0.0)


def test_one_process_trains_in_one_precision_after_another(tmp_path: Path) -> None:
    """Accelerate keeps the first for the life of a process, and refuses another."""
    dtypes = []

    def seen(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        dtypes.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32)
        return loss(network, batch)

    for dtype in ("float32", "bfloat16", "float32"):
        run = Run(folder=tmp_path / str(len(dtypes)), dtype=dtype)  # type: ignore[arg-type]
        train(network(), seen, example, Recipe(steps=1, batch_size=3), run)
    assert dtypes == [torch.float32, torch.bfloat16, torch.float32]


def test_the_network_is_left_ready_for_use(tmp_path: Path) -> None:
    made = network()
    train(made, loss, example, RECIPE, run_of(tmp_path))
    assert not made.training


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", -1e-4),
        ("optimizer", "lion"),
        ("weight_decay", -1.0),
        ("warmup_steps", -1),
        ("decay", "linear"),
        ("max_grad_norm", -1.0),
        ("ema_decay", 1.0),
        ("checkpoint_every", 0),
    ],
)
def test_a_recipe_refuses_values_that_cannot_be(field: str, value: Any) -> None:
    with pytest.raises(ValueError) as error:
        Recipe(**{field: value})
    assert field in str(error.value)
    assert str(value) in str(error.value)


def test_of_several_gpus_the_one_that_is_named_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    loop._accelerator(Run(folder=tmp_path, seed=0, device="cuda:1"))
    loop._accelerator(Run(folder=tmp_path, seed=0, device="cpu"))
    assert chosen == ["cuda:1"]
