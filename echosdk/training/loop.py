"""The one training loop: every component that learns goes through it.

An example is a pure function of its own generator, seeded by (run seed, step, place in the batch): which clip, which
frames, which noise. So a batch is the same in one process or in eight, and a run that was stopped goes on as if it had
not been: a checkpoint holds weights, optimisers and step, and needs no sampler state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState, is_initialized
from attrs import frozen
from torch import nn
from torch._functorch import config as functorch_config
from torch.utils.data import default_collate
from tqdm import tqdm

from echosdk.devices import device_name
from echosdk.errors import TrainingError
from echosdk.interfaces import Run
from echosdk.seeding import generator, seed_of
from echosdk.training.learner import WHAT_TO_DO, Best, Learner, parts_of, restore, save
from echosdk.training.recipe import Recipe
from echosdk.training.watch import Watch

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
class Stopping:
    """Look at the loss on these examples every `every` steps; the weights that had the smallest stay.

    A training ends when it has not fallen `patience` times in a row; with None it goes on to its last step. What is
    looked at is not trained on, and no figure of what was chosen by it is taken from it.
    """

    example: Example
    every: int
    patience: int | None = None


@frozen(kw_only=True)
class Trained:
    """What came of a training: the mean of the last losses, where they are known; how long it took, and on what."""

    steps: int
    train_loss: float | None
    val_loss: float | None
    seconds: float
    device: str

    def facts(self) -> dict[str, Any]:
        """Return the figures for a bundle's provenance."""
        losses = {"train_loss": self.train_loss, "val_loss": self.val_loss}
        known = {name: loss for name, loss in losses.items() if loss is not None}
        return {"steps": self.steps, "seconds": round(self.seconds), "device": self.device, **known}


def train(
    network: nn.Module,
    loss: Loss,
    example: Example,
    recipe: Recipe,
    run: Run,
    *,
    validation: Example | None = None,
    adversary: Adversary | None = None,
    stopping: Stopping | None = None,
    pictures: Callable[[], torch.Tensor] | None = None,
) -> Trained:
    """Train `network` in place; on return it holds the moving average where the recipe keeps one.

    Checkpoints go to `run.folder`; a rerun resumes from the last one. Ctrl-C writes one before it is passed on.
    Progress is a bar on stderr with `run.progress`, else a line to `run.report` now and then; the last one always.
    `pictures` returns images `n k H W` that show what the network has learnt; it is called with the moving average in
    place. Raises `TrainingError` where the loss, or that on what stops it, is no longer a number.
    """
    run.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    switches = run.switches
    accelerator = _accelerator(run)
    parts = parts_of(recipe.batch_size, accelerator, switches.accumulate)
    learners = [Learner.of(each, recipe) for each in (network, *([adversary.network] if adversary else []))]
    average = _average(network, recipe)
    for learner in learners:
        learner.network.to(accelerator.device)
    checkpoint = run.folder / "checkpoint.pt"
    best = Best() if stopping else None
    start, recent = restore(checkpoint, learners, average, accelerator.scaler, best)
    if average is not None:
        average.to(accelerator.device)
    if switches.checkpoint_gradients and not _checkpoint_gradients(network, True):
        run.report("gradient checkpointing: this network has none; activations are kept")
    own, *others = [learner.prepared(accelerator, switches.compile) for learner in learners]
    watch = Watch(run, start) if accelerator.is_main_process else None

    began = said = time.monotonic()
    for learner in learners:
        learner.network.train()
    if start:
        run.report(f"resumed at step {start} of {recipe.steps}")
    value: torch.Tensor
    last = _is_over(best, stopping) or start == recipe.steps
    done, whole = start, True  # steps that the weights have seen; whether they have seen all of each
    buffers = _buffers(learners)
    bar = tqdm(
        total=recipe.steps,
        initial=start,
        desc=run.folder.name,
        unit="step",
        leave=False,
        dynamic_ncols=True,
        disable=not (run.progress and accelerator.is_main_process),
    )
    steps = range(start, start if _is_over(best, stopping) else recipe.steps)
    batches = _ahead(example, run.seed, ((step, part.places) for step in steps for part in parts))
    patched = ExitStack()
    if switches.compile and adversary:  # which may run backward through a part of the network twice
        patched.enter_context(functorch_config.patch(donated_buffer=False))
    try:
        for step in steps:
            torch.manual_seed(seed_of(run.seed, step, "network"))  # for dropout
            rate = recipe.learning_rate * _factor(step, recipe)
            opponent = adversary if adversary is not None and step >= adversary.start else None
            mean, made = 0.0, []
            own.begin(rate)
            for part in parts:
                batch = _moved(next(batches), accelerator.device)
                with own.gathering(part, accelerator):
                    with accelerator.autocast():
                        if opponent:
                            opponent.network.requires_grad_(False)
                            value, of_part = opponent.against(own.network, batch)
                            opponent.network.requires_grad_(True)
                            made.append(of_part)
                        else:
                            value = loss(own.network, batch)
                    mean += part.share * _finite(value, "loss", step, run, checkpoint)
                    accelerator.backward(value * part.share)
            own.clip(recipe, accelerator)
            recent = [*recent[-99:], mean]
            whole = False
            own.optimizer.step()
            if average is not None:
                average.step(network.parameters())
            if opponent:
                (other,) = others
                other.begin(rate)
                for part, of_part in zip(parts, made, strict=True):
                    with other.gathering(part, accelerator):
                        with accelerator.autocast():
                            value = opponent.loss(other.network, of_part)
                        _finite(value, "adversary's loss", step, run, checkpoint)
                        accelerator.backward(value * part.share)
                other.clip(recipe, accelerator)
                other.optimizer.step()
            if best and stopping and _now(step + 1, stopping.every):
                with _as_it_would_be(network, average):
                    held_back = _over_processes(
                        _validate(network, loss, stopping.example, recipe, run, accelerator), accelerator
                    )
                    _finite(torch.tensor(held_back), "loss on what is held back", step, run, checkpoint)
                    best.look(held_back, step + 1, network)
            done, whole = step + 1, True
            buffers = _buffers(learners)
            over = _is_over(best, stopping)
            if (over or done % recipe.checkpoint_every == 0) and accelerator.is_main_process:
                save(checkpoint, done, learners, average, recent, accelerator.scaler, best)
            last = over or done == recipe.steps
            if watch:
                watch.step(done, mean, rate)
            if not last and _now(done, switches.validate_every):
                so_far = _over_processes(sum(recent) / len(recent), accelerator)
                if watch:
                    with _as_it_would_be(network, average):
                        held_out = (
                            _validate(network, loss, validation, recipe, run, accelerator) if validation else None
                        )
                    watch.row(done, so_far, rate, held_out)
            if watch and pictures and _now(done, switches.pictures_every):
                with _as_it_would_be(network, average):
                    watch.picture(done, pictures())
            bar.set_postfix_str(f"loss {sum(recent) / len(recent):.4f}", refresh=False)
            bar.update()
            if last or (not run.progress and time.monotonic() - said > LOG_EVERY_SECONDS):
                said = time.monotonic()
                if last:
                    bar.close()  # what is said next has a line of its own
                speed = (done - start) / (said - began)
                left = (recipe.steps - done) / speed
                run.report(
                    f"step {done}/{recipe.steps}  loss {sum(recent) / len(recent):.4f}  "
                    f"{speed:.2f} steps/s  {left / 60:.0f} min left"
                )
            if over:
                break
    except KeyboardInterrupt:
        if accelerator.is_main_process and whole:
            for buffer, before in buffers:  # a step that was broken off may have run the network
                buffer.copy_(before)
            save(checkpoint, done, learners, average, recent, accelerator.scaler, best)
        raise
    finally:
        patched.close()
        batches.close()
        bar.close()
        if watch and not last:  # else there is a last row to come
            watch.close()
        if switches.checkpoint_gradients:
            _checkpoint_gradients(network, False)
    if average is not None:
        average.copy_to(network.parameters())
    if best and best.network:
        network.load_state_dict(best.network)
        run.report(f"the weights of step {best.step} stay: loss {best.loss:.4f} on what was held back")
    network.eval()
    val_loss = _validate(network, loss, validation, recipe, run, accelerator) if validation else None
    train_loss = _over_processes(sum(recent) / len(recent), accelerator) if recent else None
    if watch:
        watch.row(done, train_loss, recipe.learning_rate * _factor(done - 1, recipe), val_loss)
        watch.close()
    return Trained(
        steps=done,
        train_loss=train_loss,
        val_loss=val_loss,
        seconds=time.monotonic() - began,
        device=device_name(str(accelerator.device)),
    )


def _accelerator(run: Run) -> Accelerator:
    """Make an accelerator for this run, whatever the precision and the device of those before it in this process were.

    Accelerate keeps both for the life of a process and refuses others; it has no public way to forget them.
    """
    if is_initialized():
        AcceleratorState._reset_state(reset_partial_state=PartialState().num_processes == 1)
    if run.device.startswith("cuda:"):
        torch.cuda.set_device(run.device)  # it takes the current one
    return Accelerator(mixed_precision=_PRECISION[run.dtype], cpu=run.device == "cpu")


_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def _is_over(best: Best | None, stopping: Stopping | None) -> bool:
    if best is None or stopping is None or stopping.patience is None:
        return False
    return best.looks >= stopping.patience


def _now(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _over_processes(value: float, accelerator: Accelerator) -> float:
    """Return the mean over the processes; all of them must ask."""
    if accelerator.num_processes == 1:
        return value
    return float(accelerator.reduce(torch.tensor(value, device=accelerator.device), "mean"))


def _buffers(learners: Sequence[Learner]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the buffers of the networks (running statistics), each with a copy."""
    return [(buffer, buffer.detach().clone()) for learner in learners for buffer in learner.network.buffers()]


@contextmanager
def _as_it_would_be(network: nn.Module, average: Any) -> Iterator[None]:
    """Have the network as it would be if the training ended here; then as it was."""
    if average is not None:
        average.store(network.parameters())
    try:
        if average is not None:
            average.copy_to(network.parameters())
        network.eval()
        with torch.no_grad():
            yield
    finally:
        network.train()
        if average is not None:
            average.restore(network.parameters())


def _checkpoint_gradients(network: nn.Module, wanted: bool) -> bool:
    """Switch gradient checkpointing on or off wherever a network offers it as diffusers' do; say whether any does."""
    able: list[Any] = [
        module for module in network.modules() if getattr(module, "_supports_gradient_checkpointing", False)
    ]
    for module in able:
        module.enable_gradient_checkpointing() if wanted else module.disable_gradient_checkpointing()
    return bool(able)


def _ahead(
    example: Example, seed: int, wanted: Iterable[tuple[int, range]]
) -> Generator[Mapping[str, Any], None, None]:
    """Yield the batch of each step and its places, in order; the next one is drawn while this one is learnt from."""
    with ThreadPoolExecutor(1) as pool:
        coming: Future[Mapping[str, Any]] | None = None
        for step, places in wanted:
            drawn, coming = coming, pool.submit(_batch, example, seed, step, places)
            if drawn:
                yield drawn.result()
        if coming:
            yield coming.result()


def _batch(example: Example, seed: int, step: int, places: range) -> Mapping[str, Any]:
    batch: Mapping[str, Any] = default_collate([example(generator(seed, step, place)) for place in places])
    return batch


def _moved(batch: Mapping[str, Any], device: torch.device) -> Mapping[str, Any]:
    return {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}


def _factor(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    if recipe.decay == "constant":
        return 1.0
    if recipe.decay == "step":
        return float(recipe.decay_factor ** (step // recipe.decay_every))
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def _finite(value: torch.Tensor, what: str, step: int, run: Run, checkpoint: Path) -> float:
    number = float(value.detach())
    if not math.isfinite(number):
        raise TrainingError(
            f"{run.folder.name}: the {what} is {number} at step {step}; the last good checkpoint is "
            f"{checkpoint if checkpoint.is_file() else 'none yet'}. {WHAT_TO_DO}"
        )
    return number


def _average(network: nn.Module, recipe: Recipe) -> Any:
    if not recipe.ema_decay:
        return None
    from diffusers.training_utils import EMAModel

    return EMAModel(network.parameters(), decay=recipe.ema_decay, foreach=True)


@torch.no_grad()
def _validate(
    network: nn.Module, loss: Loss, validation: Example, recipe: Recipe, run: Run, accelerator: Accelerator
) -> float:
    values = []
    for step in range(VALIDATION_BATCHES):
        batch = _batch(validation, seed_of(run.seed, "validation"), step, range(recipe.batch_size))
        batch = _moved(batch, accelerator.device)
        with accelerator.autocast():
            values.append(float(loss(network, batch)))
    return sum(values) / len(values)


VALIDATION_BATCHES = 8
