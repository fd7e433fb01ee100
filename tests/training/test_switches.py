"""How a training is run changes what it costs and what is seen of it, not what is learnt."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from diffusers import UNet2DModel
from PIL import Image
from torch import nn

from echosdk import Run, Switches, TrainingError
from echosdk.training import Recipe, train, watch
from echosdk.training.watch import read_curve

RECIPE = Recipe(steps=6, batch_size=5, learning_rate=0.05, warmup_steps=2, checkpoint_every=4, ema_decay=0.9)
SCRIPT = Path(__file__).with_name("learn_together.py")


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))


def with_statistics() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))


def example(generator: torch.Generator) -> Mapping[str, Any]:
    x = torch.randn(3, generator=generator)
    return {"x": x, "y": x.sum()}


def loss(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
    return (network(batch["x"])[:, 0] - batch["y"]).square().mean()


def trained(folder: Path, network: nn.Module, own_loss: Any = loss, recipe: Recipe = RECIPE, **switches: Any) -> dict[str, torch.Tensor]:
    run = Run(folder=folder, seed=5, switches=Switches(**switches))
    train(network, own_loss, example, recipe, run, validation=example)
    return {name: value.clone() for name, value in network.state_dict().items()}


def far(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.parametrize("accumulate", [2, 5])
def test_a_batch_in_parts_gives_the_weights_of_the_whole_one(accumulate: int, tmp_path: Path) -> None:
    """Five examples in two parts are two and three, and each example counts alike."""
    sizes: list[int] = []

    def seen(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        sizes.append(len(batch["x"]))
        return loss(network, batch)

    parts = trained(tmp_path / "parts", plain(), seen, accumulate=accumulate)
    assert sizes[:accumulate] == {2: [2, 3], 5: [1] * 5}[accumulate]
    assert far(parts, trained(tmp_path / "whole", plain())) < 1e-5
    assert far(parts, plain().state_dict()) > 1e-2


def test_more_parts_than_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as error:
        trained(tmp_path, plain(), accumulate=6)
    assert str(error.value) == "a batch of 5 examples a process cannot be cut into 6 parts: --accumulate"


@pytest.mark.parametrize("at", [0, 5, 6, 7, 11])
def test_a_run_interrupted_in_any_part_ends_in_the_weights_of_one_that_was_not(at: int, tmp_path: Path) -> None:
    """The first part of a broken step has changed the running statistics already, and they go back."""
    calls = 0

    def stops(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        nonlocal calls
        calls += 1
        value = loss(network, batch)
        if calls == at + 1:
            raise KeyboardInterrupt
        return value

    recipe = evolve(RECIPE, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", with_statistics(), stops, recipe, accumulate=2)
    assert torch.load(tmp_path / "stopped" / "checkpoint.pt", weights_only=True)["step"] == at // 2
    resumed = trained(tmp_path / "stopped", with_statistics(), recipe=recipe, accumulate=2)
    assert far(resumed, trained(tmp_path / "whole", with_statistics(), recipe=recipe, accumulate=2)) == 0


def test_what_is_seen_of_a_run_does_not_change_it(tmp_path: Path) -> None:
    shown = with_statistics()
    run = Run(folder=tmp_path / "seen", seed=5, switches=Switches(validate_every=1, pictures_every=1))
    train(shown, loss, example, RECIPE, run, validation=example, pictures=lambda: torch.rand(1, 1, 8, 8))
    assert far(shown.state_dict(), trained(tmp_path / "unseen", with_statistics(), validate_every=0)) == 0


def test_the_curve_has_a_row_for_every_validation_and_the_last_step(tmp_path: Path) -> None:
    trained(tmp_path, plain(), validate_every=4)
    rows = read_curve(tmp_path)
    assert [row[0] for row in rows] == [4, 6]
    assert (tmp_path / "curve.csv").read_text().splitlines()[0] == "step,train_loss,learning_rate,val_loss"
    assert all(value is not None and value > 0 for row in rows for value in row)
    assert (tmp_path / "curve.csv").stat().st_mode & 0o077 == 0


def test_validation_sees_the_moving_average(tmp_path: Path) -> None:
    """A row's loss is that of a training which ends there."""
    trained(tmp_path / "long", plain(), validate_every=4)
    trained(tmp_path / "short", plain(), recipe=evolve(RECIPE, steps=4), validate_every=0)
    assert read_curve(tmp_path / "long")[0][3] == read_curve(tmp_path / "short")[-1][3]


def test_a_resumed_curve_is_that_of_an_uninterrupted_run(tmp_path: Path) -> None:
    """The rows after the last checkpoint are made again; a line that a crash cut short is forgotten."""
    calls = 0

    def fails(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        nonlocal calls
        calls += network.training
        if calls == 6:
            raise RuntimeError("the power is out")
        return loss(network, batch)

    with pytest.raises(RuntimeError, match="power"):
        trained(tmp_path / "stopped", plain(), fails, validate_every=1)
    with (tmp_path / "stopped" / "curve.csv").open("a") as file:
        file.write("6,0.")
    assert [row[0] for row in read_curve(tmp_path / "stopped")] == [1, 2, 3, 4, 5]
    trained(tmp_path / "stopped", plain(), validate_every=1)
    trained(tmp_path / "whole", plain(), validate_every=1)
    resumed, whole = (read_curve(tmp_path / name) for name in ("stopped", "whole"))
    assert [(row[0], row[2:]) for row in resumed] == [(row[0], row[2:]) for row in whole]


def test_gradient_checkpointing_learns_the_same_and_is_off_again(tmp_path: Path) -> None:
    def network() -> UNet2DModel:
        torch.manual_seed(0)
        return UNet2DModel(
            sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,
        )  # fmt: skip

    on: list[bool] = []

    def image_loss(network: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        on.append(any(getattr(module, "gradient_checkpointing", False) for module in network.modules()))
        return (network(batch["x"], 3).sample - batch["x"]).square().mean()

    def image(generator: torch.Generator) -> Mapping[str, Any]:
        return {"x": torch.randn(1, 8, 8, generator=generator)}

    results = []
    for wanted in (True, False):
        made, recipe = network(), Recipe(steps=2, batch_size=2, learning_rate=1e-2)
        run = Run(folder=tmp_path / str(wanted), switches=Switches(checkpoint_gradients=wanted))
        train(made, image_loss, image, recipe, run)
        results.append(made.state_dict())
        assert not any(getattr(module, "gradient_checkpointing", False) for module in made.modules())
    assert on == [True, True, False, False]
    assert far(*results) < 1e-6


def test_a_network_without_gradient_checkpointing_says_so(tmp_path: Path) -> None:
    lines: list[str] = []
    run = Run(folder=tmp_path, switches=Switches(checkpoint_gradients=True), report=lines.append)
    train(plain(), loss, example, RECIPE, run)
    assert lines[0] == "gradient checkpointing: this network has none; activations are kept"


def test_a_compiled_network_learns_the_same_under_the_same_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    real = torch.compile

    def eager(network: nn.Module) -> Any:
        compiled.append(network)
        return real(network, backend="eager")

    monkeypatch.setattr(torch, "compile", eager)
    network = plain()
    assert far(trained(tmp_path / "compiled", network, compile=True), trained(tmp_path / "plain", plain())) < 1e-6
    assert compiled == [network]


def test_pictures_are_drawn_of_the_average_and_kept_private(tmp_path: Path) -> None:
    network = with_statistics()
    states = []

    def pictures() -> torch.Tensor:
        states.append((network.training, torch.is_grad_enabled(), network[0].weight.clone()))
        return torch.tensor([-1.0, 0.0, 1.0, 9.0])[:, None, None, None].expand(4, 1, 2, 3)

    run = Run(folder=tmp_path / "run", seed=5, switches=Switches(pictures_every=3))
    train(network, loss, example, RECIPE, run, pictures=pictures)
    names = sorted(path.name for path in (tmp_path / "run" / "pictures").iterdir())
    assert names == ["step-00000003.png", "step-00000006.png"]
    path = tmp_path / "run" / "pictures" / names[0]
    with Image.open(path) as image:
        assert (image.mode, image.size) == ("L", (12, 2))
        assert [image.getpixel((3 * i, 1)) for i in range(4)] == [0, 128, 255, 255]
    assert path.stat().st_mode & 0o077 == 0
    assert [state[:2] for state in states] == [(False, False)] * 2
    assert torch.equal(states[1][2], network[0].weight)  # what remains is the average


def test_tensorboard_that_is_not_installed_is_asked_for_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, run_echosdk: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(watch.importlib.util, "find_spec", lambda name: None)
    told = run_echosdk(
        "train", "--plugin-set", "default-tiny", "--data", "phantom", "--tensorboard", "--out", str(tmp_path / "bundle")
    )
    assert told.status == 2
    assert told.err == "echosdk: --tensorboard: its package is not installed: pip install 'echosdk[tensorboard]'\n"
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_is_told_losses_rate_and_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a writer in the place of TensorBoard's, which need not be installed."""
    told: list[Any] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            told.append((Path(folder).name, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, step))

        def add_image(self, name: str, image: Any, step: int, dataformats: str) -> None:
            told.append((name, step, image.shape, dataformats))

        def close(self) -> None:
            told.append("closed")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(watch.importlib.util, "find_spec", lambda name: name)
    run = Run(folder=tmp_path, switches=Switches(tensorboard=True, validate_every=5, pictures_every=6))
    recipe = evolve(RECIPE, steps=10)
    train(plain(), loss, example, recipe, run, validation=example, pictures=lambda: torch.zeros(1, 1, 4, 4))
    assert told == [
        ("tensorboard", 0), ("loss/validation", 5), ("samples", 6, (4, 4), "HW"), ("loss/train", 10), ("learning_rate", 10),
        ("loss/validation", 10), "closed",
    ]  # fmt: skip


def test_two_processes_learn_as_one_with_the_doubled_batch(tmp_path: Path) -> None:
    """The same curve, and the same weights of the network and its adversary, also where each cuts its share in two."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path / "two"), "2"],
            env=os.environ | common | {"RANK": rank, "LOCAL_RANK": rank, "ACCELERATE_USE_CPU": "true"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    ended = [(process.communicate(timeout=300)[1], process.returncode) for process in processes]
    assert [code for _, code in ended] == [0, 0], ended[0][0] + ended[1][0]
    runpy.run_path(str(SCRIPT))["learn"](tmp_path / "one")
    two, one = (read_curve(tmp_path / name) for name in ("two", "one"))
    assert [row[0] for row in two] == [row[0] for row in one] == [1, 2, 3, 4, 5, 6]
    for ours, theirs in zip(two, one, strict=True):
        assert ours[1:] == pytest.approx(theirs[1:], rel=1e-4)
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("two", "one")]
    assert far(*(state["network"] for state in states)) < 1e-5
    assert far(*(state["adversary"]["network"] for state in states)) < 1e-5
