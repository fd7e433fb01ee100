"""The one training loop: every component that learns goes through it.

An example is a pure function of its own generator, seeded by (run seed, step, place in the batch): which clip, which
frames, which noise. So a batch is the same in one process or in eight, and a run that was stopped goes on as if it had
not been: a checkpoint holds weights, optimiser and step, and needs no sampler state.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
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
class Trained:
    """What came of a training: the last mean losses, none where all steps were done before, and the seconds it took."""

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
    optimizer = _optimizer(network, recipe)
    average = _average(network, recipe)
    network.to(accelerator.device)
    checkpoint = run.folder / "checkpoint.pt"
    start = _restore(checkpoint, network, optimizer, average)
    if average is not None:
        average.to(accelerator.device)
    wrapped, optimizer = accelerator.prepare(network, optimizer)
    share = recipe.batch_size // accelerator.num_processes
    first = accelerator.process_index * share

    began = said = time.monotonic()
    recent: list[float] = []
    network.train()
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
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * _factor(step, recipe)
            with accelerator.autocast():
                value = loss(wrapped, batch)
            recent = [*recent[-99:], float(value.detach())]
            if not math.isfinite(recent[-1]):
                raise TrainingError(
                    f"{run.folder.name}: the loss is {recent[-1]} at step {step}; the last good checkpoint is "
                    f"{checkpoint if checkpoint.is_file() else 'none yet'}. Lower recipe.learning_rate or use float32"
                )
            optimizer.zero_grad()
            accelerator.backward(value)
            if recipe.max_grad_norm:
                accelerator.clip_grad_norm_(wrapped.parameters(), recipe.max_grad_norm)
            whole = False
            optimizer.step()
            if average is not None:
                average.step(network.parameters())
            done, whole = step + 1, True
            if (step + 1) % recipe.checkpoint_every == 0 and accelerator.is_main_process:
                _save(checkpoint, step + 1, network, optimizer, average)
            bar.set_postfix_str(f"loss {sum(recent) / len(recent):.4f}", refresh=False)
            bar.update()
            last = step + 1 == recipe.steps
            if last or (not run.progress and time.monotonic() - said > LOG_EVERY_SECONDS):
                said = time.monotonic()
                if last:
                    bar.close()  # what is said next has a line of its own
                rate = (step + 1 - start) / (said - began)
                left = (recipe.steps - step - 1) / rate
                run.report(
                    f"step {step + 1}/{recipe.steps}  loss {sum(recent) / len(recent):.4f}  "
                    f"{rate:.2f} steps/s  {left / 60:.0f} min left"
                )
    except KeyboardInterrupt:
        if accelerator.is_main_process and whole:
            _save(checkpoint, done, network, optimizer, average)
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


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)


def _average(network: nn.Module, recipe: Recipe) -> Any:
    from diffusers.training_utils import EMAModel

    return EMAModel(network.parameters(), decay=recipe.ema_decay) if recipe.ema_decay else None


def _save(path: Path, step: int, network: nn.Module, optimizer: Any, average: Any) -> None:
    state = {
        "step": step,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.state_dict() if average is not None else None,
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.chmod(0o600)  # weights may remember what they have seen
    os.replace(partial, path)


def _restore(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: Any) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    if average is not None:
        average.load_state_dict(state["average"])
    return int(state["step"])


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
