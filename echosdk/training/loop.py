"""The one training loop: every component that learns goes through it.

An example is a pure function of its own generator, seeded by (run seed, step, place in the batch): which clip, which
frames, which noise. So a batch is the same in one process or in eight, and a run that was stopped goes on as if it had
not been: a checkpoint holds weights, optimisers and step, and needs no sampler state.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState, is_initialized
from attrs import frozen
from torch import nn
from torch.utils.data import default_collate
from tqdm import tqdm

from echosdk.errors import TrainingError
from echosdk.interfaces import Run
from echosdk.seeding import generator, seed_of
from echosdk.training.recipe import Recipe

Example = Callable[[torch.Generator], Mapping[str, Any]]
"""Draw one training example, all its randomness from the generator."""

Loss = Callable[[nn.Module, Mapping[str, Any]], torch.Tensor]
"""The mean loss of a collated batch."""

LOG_EVERY_SECONDS = 20.0


@frozen(kw_only=True)
class Adversary:
    """A second network that learns to tell what the first makes from what is real; it joins in at step `start`.

    From then on `against` takes the place of the first network's loss in every step (validation keeps the plain one).
    It returns that loss and what it made of the batch, detached; `loss` is the adversary's own, given that. While
    `against` runs the adversary's weights are frozen. Each network has an optimiser, both by the one recipe.
    """

    network: nn.Module
    start: int
    against: Callable[[nn.Module, Mapping[str, Any]], tuple[torch.Tensor, Any]]
    loss: Callable[[nn.Module, Any], torch.Tensor]


@frozen(kw_only=True)
class Trained:
    """What came of a training: the mean of the last losses, where they are known, and the seconds it took."""

    steps: int
    train_loss: float | None
    val_loss: float | None
    seconds: float

    def facts(self) -> dict[str, Any]:
        """Return the figures for a bundle's provenance."""
        losses = {"train_loss": self.train_loss, "val_loss": self.val_loss}
        known = {name: loss for name, loss in losses.items() if loss is not None}
        return {"steps": self.steps, "seconds": round(self.seconds), **known}


def train(
    network: nn.Module,
    loss: Loss,
    example: Example,
    recipe: Recipe,
    run: Run,
    *,
    validation: Example | None = None,
    adversary: Adversary | None = None,
) -> Trained:
    """Train `network` in place; on return it holds the moving average where the recipe keeps one.

    Checkpoints go to `run.folder`; a rerun resumes from the last one. Ctrl-C writes one before it is passed on.
    Progress is a bar on stderr with `run.progress`, else a line to `run.report` now and then; the last one always.
    Raises `TrainingError` where the loss is no longer a number.
    """
    run.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    accelerator = _accelerator(run)
    if recipe.batch_size % accelerator.num_processes:
        raise TrainingError(
            f"recipe.batch_size {recipe.batch_size} cannot be shared by {accelerator.num_processes} processes"
        )
    learners = [Learner.of(each, recipe) for each in (network, *([adversary.network] if adversary else []))]
    average = _average(network, recipe)
    for learner in learners:
        learner.network.to(accelerator.device)
    checkpoint = run.folder / "checkpoint.pt"
    start, recent = _restore(checkpoint, learners, average)
    if average is not None:
        average.to(accelerator.device)
    own, *others = [learner.prepared(accelerator) for learner in learners]
    share = recipe.batch_size // accelerator.num_processes
    first = accelerator.process_index * share

    began = said = time.monotonic()
    for learner in learners:
        learner.network.train()
    if start:
        run.report(f"resumed at step {start} of {recipe.steps}")
    done, whole = start, True  # steps that the weights have seen; whether they have seen all of each
    bar = tqdm(
        total=recipe.steps,
        initial=start,
        desc=run.folder.name,
        unit="step",
        leave=False,
        dynamic_ncols=True,
        disable=not (run.progress and accelerator.is_main_process),
    )
    try:
        for step in range(start, recipe.steps):
            torch.manual_seed(seed_of(run.seed, step, "network"))  # for dropout
            batch = _batch(example, run.seed, step, range(first, first + share), accelerator.device)
            rate = recipe.learning_rate * _factor(step, recipe)
            opponent = adversary if adversary is not None and step >= adversary.start else None
            with accelerator.autocast():
                if opponent:
                    opponent.network.requires_grad_(False)
                    value, made = opponent.against(own.network, batch)
                    opponent.network.requires_grad_(True)
                else:
                    value = loss(own.network, batch)
            recent = [*recent[-99:], _finite(value, "loss", step, run, checkpoint)]
            own.descend(value, rate, recipe, accelerator)
            whole = False
            own.optimizer.step()
            if average is not None:
                average.step(network.parameters())
            if opponent:
                (other,) = others
                with accelerator.autocast():
                    value = opponent.loss(other.network, made)
                _finite(value, "adversary's loss", step, run, checkpoint)
                other.descend(value, rate, recipe, accelerator)
                other.optimizer.step()
            done, whole = step + 1, True
            if (step + 1) % recipe.checkpoint_every == 0 and accelerator.is_main_process:
                _save(checkpoint, step + 1, learners, average, recent)
            bar.set_postfix_str(f"loss {sum(recent) / len(recent):.4f}", refresh=False)
            bar.update()
            last = step + 1 == recipe.steps
            if last or (not run.progress and time.monotonic() - said > LOG_EVERY_SECONDS):
                said = time.monotonic()
                if last:
                    bar.close()  # what is said next has a line of its own
                speed = (step + 1 - start) / (said - began)
                left = (recipe.steps - step - 1) / speed
                run.report(
                    f"step {step + 1}/{recipe.steps}  loss {sum(recent) / len(recent):.4f}  "
                    f"{speed:.2f} steps/s  {left / 60:.0f} min left"
                )
    except KeyboardInterrupt:
        if accelerator.is_main_process and whole:
            _save(checkpoint, done, learners, average, recent)
        raise
    finally:
        bar.close()
    if average is not None:
        average.copy_to(network.parameters())
    network.eval()
    val_loss = _validate(network, loss, validation, recipe, run, accelerator) if validation else None
    train_loss = sum(recent) / len(recent) if recent else None
    return Trained(steps=recipe.steps, train_loss=train_loss, val_loss=val_loss, seconds=time.monotonic() - began)


def _accelerator(run: Run) -> Accelerator:
    """Make an accelerator for this run, whatever the precision and the device of those before it in this process were.

    Accelerate keeps both for the life of a process and refuses others; it has no public way to forget them.
    """
    if is_initialized():
        AcceleratorState._reset_state(reset_partial_state=PartialState().num_processes == 1)
    return Accelerator(mixed_precision=_PRECISION[run.dtype], cpu=run.device == "cpu")


_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def _batch(example: Example, seed: int, step: int, places: range, device: torch.device) -> Mapping[str, Any]:
    batch = default_collate([example(generator(seed, step, place)) for place in places])
    return {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}


def _factor(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    if recipe.decay == "constant":
        return 1.0
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


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

    def prepared(self, accelerator: Accelerator) -> Learner:
        return Learner(*accelerator.prepare(self.network, self.optimizer))

    def descend(self, value: torch.Tensor, rate: float, recipe: Recipe, accelerator: Accelerator) -> None:
        """Put the gradients of a loss in place for the optimiser's step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        accelerator.backward(value)
        if recipe.max_grad_norm:
            accelerator.clip_grad_norm_(self.network.parameters(), recipe.max_grad_norm)


def _finite(value: torch.Tensor, what: str, step: int, run: Run, checkpoint: Path) -> float:
    number = float(value.detach())
    if not math.isfinite(number):
        raise TrainingError(
            f"{run.folder.name}: the {what} is {number} at step {step}; the last good checkpoint is "
            f"{checkpoint if checkpoint.is_file() else 'none yet'}. Lower recipe.learning_rate or use float32"
        )
    return number


def _average(network: nn.Module, recipe: Recipe) -> Any:
    from diffusers.training_utils import EMAModel

    return EMAModel(network.parameters(), decay=recipe.ema_decay) if recipe.ema_decay else None


def _save(path: Path, step: int, learners: Sequence[Learner], average: Any, recent: Sequence[float]) -> None:
    """Replace the checkpoint, unless a gradient has just broken the weights: the last good one stays."""
    for learner in learners:
        for name, tensor in learner.network.state_dict().items():
            if not tensor.isfinite().all():
                raise TrainingError(
                    f"{path.parent.name}: {name} is no longer finite after step {step - 1}; the last good checkpoint "
                    f"is {path if path.is_file() else 'none yet'}. Lower recipe.learning_rate or use float32"
                )
    states = [{"network": each.network.state_dict(), "optimizer": each.optimizer.state_dict()} for each in learners]
    state = {
        "step": step,
        **states[0],
        "adversary": states[1] if len(states) > 1 else None,
        "average": average.state_dict() if average is not None else None,
        "recent": list(recent),  # losses: what a rerun that has nothing left to do says of them
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.chmod(0o600)  # weights may remember what they have seen
    os.replace(partial, path)


def _restore(path: Path, learners: Sequence[Learner], average: Any) -> tuple[int, list[float]]:
    """Return the step and the last losses (an earlier version kept none) of a checkpoint; 0 where there is none."""
    if not path.is_file():
        return 0, []
    state = torch.load(path, map_location="cpu", weights_only=True)
    for learner, saved in zip(learners, (state, state.get("adversary")), strict=False):
        learner.network.load_state_dict(saved["network"])
        learner.optimizer.load_state_dict(saved["optimizer"])
    if average is not None:
        average.load_state_dict(state["average"])
    return int(state["step"]), list(state.get("recent", []))


@torch.no_grad()
def _validate(
    network: nn.Module, loss: Loss, validation: Example, recipe: Recipe, run: Run, accelerator: Accelerator
) -> float:
    values = []
    for step in range(VALIDATION_BATCHES):
        batch = _batch(validation, seed_of(run.seed, "validation"), step, range(recipe.batch_size), accelerator.device)
        with accelerator.autocast():
            values.append(float(loss(network, batch)))
    return sum(values) / len(values)


VALIDATION_BATCHES = 8
