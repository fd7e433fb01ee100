"""A network that learns, and the checkpoints of those that learn together."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from attrs import asdict, define, field, frozen
from torch import nn

from echosdk.errors import TrainingError
from echosdk.training.recipe import Recipe

WHAT_TO_DO = "Use float32, or a lower recipe.learning_rate: that is another recipe, and begins at step 0"
"""What may help where a loss or a weight is no longer a number. A checkpoint belongs to its recipe."""


@frozen
class Part:
    """Some of the examples of a batch, which go through the network at once: their places in it.

    `share` is that of this process's examples, `last` whether gradients are then joined with other processes'.
    """

    places: range
    share: float
    last: bool


def share_of(batch_size: int, processes: int, accumulate: int) -> int:
    """Return how many examples of a batch each process has. Raises `TrainingError` where it cannot be cut so."""
    if batch_size % processes:
        raise TrainingError(
            f"recipe.batch_size {batch_size} cannot be shared by {processes} processes; "
            "give a multiple, or start another number of them"
        )
    own = batch_size // processes
    if accumulate > own:
        raise TrainingError(f"a batch of {own} examples a process cannot be cut into {accumulate} parts: --accumulate")
    return own


def parts_of(batch_size: int, accelerator: Accelerator, accumulate: int) -> list[Part]:
    """Cut this process's share of a batch into parts, as even as may be."""
    own = share_of(batch_size, accelerator.num_processes, accumulate)
    first = accelerator.process_index * own
    bounds = [first + own * number // accumulate for number in range(accumulate + 1)]
    return [Part(range(*pair), (pair[1] - pair[0]) / own, pair[1] == bounds[-1]) for pair in pairwise(bounds)]


@frozen
class Learner:
    """A network and its optimiser, both as they are or as Accelerate has wrapped them."""

    network: nn.Module
    optimizer: Any

    @classmethod
    def of(cls, network: nn.Module, recipe: Recipe) -> Learner:
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if recipe.optimizer == "sgd":
            sgd = torch.optim.SGD(parameters, recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay)
            return cls(network, sgd)
        kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
        return cls(network, kind(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay))

    def prepared(self, accelerator: Accelerator, compiled: bool = False) -> Learner:
        network: Any = torch.compile(self.network) if compiled else self.network
        return Learner(*accelerator.prepare(network, self.optimizer))

    def begin(self, rate: float) -> None:
        """Forget the gradients of the step before."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()

    def gathering(self, part: Part, accelerator: Accelerator) -> Any:
        """Keep the gradients of a part to this process, unless it is the last."""
        return nullcontext() if part.last else accelerator.no_sync(self.network)

    def clip(self, recipe: Recipe, accelerator: Accelerator) -> None:
        if recipe.max_grad_norm:
            accelerator.clip_grad_norm_(self.network.parameters(), recipe.max_grad_norm)


@define
class Best:
    """The weights with the smallest loss on what stops a training, its step, and how often it was looked since."""

    loss: float = math.inf
    step: int = 0
    looks: int = 0
    network: dict[str, torch.Tensor] = field(factory=dict)

    def look(self, loss: float, step: int, network: nn.Module) -> None:
        """Compare; a network that is better is kept."""
        self.looks += 1
        if loss < self.loss:
            state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
            self.loss, self.step, self.looks, self.network = loss, step, 0, state


def save(
    path: Path,
    step: int,
    learners: Sequence[Learner],
    average: Any,
    recent: Sequence[float],
    scaler: Any = None,
    best: Best | None = None,
) -> None:
    """Replace the checkpoint, unless a gradient has just broken the weights: the last good one stays.

    Also where writing fails: the new one is on the disk before it has the name.
    """
    for learner in learners:
        for name, tensor in learner.network.state_dict().items():
            if not tensor.isfinite().all():
                raise TrainingError(
                    f"{path.parent.name}: {name} is no longer finite after step {step - 1}; the last good checkpoint "
                    f"is {path if path.is_file() else 'none yet'}. {WHAT_TO_DO}"
                )
    states = [{"network": each.network.state_dict(), "optimizer": each.optimizer.state_dict()} for each in learners]
    state = {
        "step": step,
        **states[0],
        "adversary": states[1] if len(states) > 1 else None,
        "average": average.state_dict() if average is not None else None,
        "scaler": scaler.state_dict() if scaler is not None else None,
        "best": asdict(best) if best else None,
        "recent": list(recent),  # losses: what a rerun that has nothing left to do says of them
    }
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            torch.save(state, file)  # for the owner only: weights may remember what they have seen
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch's writer has no OSError for a disk that is full
        with suppress(OSError):
            partial.unlink()
        there = "that of before stays" if path.is_file() else "there is none yet"
        raise TrainingError(
            f"{path.parent.name}: the checkpoint {path} cannot be written after step {step - 1}, and {there} "
            f"({str(error).splitlines()[0]}); is the disk full?"
        ) from error


def restore(
    path: Path, learners: Sequence[Learner], average: Any, scaler: Any = None, best: Best | None = None
) -> tuple[int, list[float]]:
    """Take up a checkpoint, and return its step and last losses (an earlier version kept none); 0 without one.

    Raises `TrainingError` where it cannot be read.
    """
    if not path.is_file():
        return 0, []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file makes of the reader has no common type
        raise TrainingError(
            f"{path.parent.name}: the checkpoint {path} cannot be read, it is damaged; "
            "remove it, and the same command begins this training at step 0"
        ) from error
    for learner, saved in zip(learners, (state, state.get("adversary")), strict=False):
        learner.network.load_state_dict(saved["network"])
        learner.optimizer.load_state_dict(saved["optimizer"])
    if average is not None:
        average.load_state_dict(state["average"])
    if scaler is not None and state.get("scaler"):
        scaler.load_state_dict(state["scaler"])
    if best is not None and state.get("best"):
        for name, value in state["best"].items():
            setattr(best, name, value)
    return int(state["step"]), list(state.get("recent", []))
