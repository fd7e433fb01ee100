"""Whose anatomy does a still show? Read off its latents by a network that has seen other simulated patients alone.

It knows nothing of a privacy filter: what it takes for a copy owes nothing to the features that the filter goes by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Self

import numpy as np
import torch
from attrs import frozen
from scipy.spatial.distance import cdist
from torch import nn
from torch.nn import functional

from echosdk.abilities import KnownAnatomy, SimulatedSource
from echosdk.clips.images import to_images
from echosdk.clips.store import pixel_clips
from echosdk.errors import InputError
from echosdk.interfaces import Clip, DataSource, Encoder
from echosdk.privacy.drawn import Drawn
from echosdk.privacy.probes import Report, encode
from echosdk.privacy.statistics import Array, Figure, share
from echosdk.seeding import generator

KEPT_BACK = 0.1
BATCH, STEPS = 64, 2500
STRANGERS = 0.01
"""The share of patients of the test split whose nearest training patient passes for them."""
KNOWN_FRAMES = 200
"""Training patients, at most, on whose own frames it is measured how many the reader knows."""
LEAST = 100
"""Strangers, without whom nobody knows how near the nearest hundredth of them is."""


@frozen
class Reader:
    """A network that reads anatomy off latents, and how well it reads each part of it on patients it has not seen."""

    network: nn.Module
    explained: Array
    """R squared by parameter."""

    @classmethod
    def train(cls, seen: torch.Tensor, true: Array) -> Self:
        """Train on latents `n c h w`, one of each of `n` patients, and their anatomy `n d`, scaled to variance 1."""
        wanted = torch.from_numpy(true).float()
        back = round(KEPT_BACK * len(seen))
        network = _learnt(seen[back:], wanted[back:])
        rest = (_read(network, seen[:back]) - wanted[:back]).square().mean(0) / wanted[:back].var(0)
        return cls(network, np.clip(1 - rest.double().numpy(), 0, 0.99))

    def distances(self, stills: torch.Tensor, anatomy: Array) -> Array:
        """Return how far the anatomy in each still `n c h w` is from each patient's own `p d`, `n p`.

        What is read well counts for more: as a likelihood ratio has it, by R squared over 1 - R squared.
        """
        weights = self.explained / (1 - self.explained)
        read = _read(self.network, stills).double().numpy() / np.maximum(self.explained, 1e-3)
        scale = np.sqrt(weights / weights.sum())
        return np.asarray(cdist(read * scale, anatomy * scale, "sqeuclidean"))


def check_anatomy(source: DataSource, name: str, stills: int) -> None:
    """Refuse a source that does not know its patients' anatomy, and an audit that draws no stills to look at."""
    if not stills:
        raise InputError("--anatomy-patients: there are no stills to look at with --stills 0; let it draw some")
    if not isinstance(source, SimulatedSource) or not isinstance(source, KnownAnatomy):
        raise InputError(
            f"--anatomy-patients: --data {name} does not know the true anatomy of its patients, as a simulation does; "
            "leave it out: whose anatomy a still shows can then not be said without the filter's own features"
        )


def near_copies(
    source: Any,
    encoder: Encoder,
    strangers: Sequence[torch.Tensor],
    drawn: Drawn,
    number: int,
    seed: int,
    report: Report,
) -> list[Figure]:
    """Train a reader on `number` other simulated patients, and count the stills that show a training patient.

    A still is a near-copy where its anatomy is nearer to a training patient's than that of 99 % of `strangers` is.
    """
    train = list({clip.group: clip for clip in source.clips("train")}.values())
    known = np.array([source.anatomy(clip) for clip in train])
    if len(strangers) < LEAST:
        why = f"{len(strangers)} patients of the test split do not say how near a stranger is; {LEAST} are wanted"
        return [Figure(name="near-copies.missed", better="lower", n=0, what="near-copies", note=why)]
    others = [first for first, _ in source.others(number, 1)]
    seen = _encoded(others, encoder, seed, lambda done: report(f"{done} of {number} simulated patients for the reader"))
    report("a reader of anatomy is trained")
    reader = Reader.train(seen, np.array([source.anatomy(clip) for clip in others]))

    far = np.quantile(reader.distances(torch.stack([*strangers]), known).min(1), STRANGERS)
    own = _encoded(train[:KNOWN_FRAMES], encoder, seed, lambda done: None)
    recognised = np.diag(reader.distances(own, known[:KNOWN_FRAMES])) < far
    copied = reader.distances(drawn.stills, known).min(1) < far
    kept = drawn.keep.numpy()
    rule = (
        f"by anatomy, read without the filter; 1 % of strangers pass for one of {len(train)} training patients, of "
        f"whose own frames the reader knows {recognised.mean():.1%} (n = {len(own)})"
    )
    return [
        share("near-copies.drawn", int(copied.sum()), len(copied), better="lower", what="stills drawn", note=rule),
        share("near-copies.missed", int((copied & kept).sum()), int(copied.sum()), better="lower",
              what="near-copies among them", note=f"kept by the gate; {rule}"),
        share("near-copies.kept", int((copied & kept).sum()), int(kept.sum()), better="lower",
              what="stills that the gate keeps", note=rule),
    ]  # fmt: skip


def _encoded(clips: Sequence[Clip], encoder: Encoder, seed: int, report: Callable[[int], None]) -> torch.Tensor:
    """Return the latents of one frame of each clip, drawn at random."""
    waiting, parts = iter(clips), []
    done = 0
    while some := list(islice(waiting, BATCH)):
        frames = []
        for clip in some:
            ((_, video),) = pixel_clips([clip], clip.fps)
            draws = generator("audit", "anatomy", seed, clip.id)
            frames.append(video[int(torch.randint(len(video), (), generator=draws))])
        parts.append(encode(encoder, to_images(np.stack(frames))))
        done += len(some)
        report(done)
    return torch.cat(parts)


def _learnt(seen: torch.Tensor, true: torch.Tensor) -> nn.Module:
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _fitted(seen, true, draw)


def _fitted(seen: torch.Tensor, true: torch.Tensor, draw: torch.Generator) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after, stride in ((seen.shape[1], 64, 1), (64, 96, 2), (96, 128, 2)):
        layers += [nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(8, after), nn.SiLU()]
    with torch.no_grad():
        wide = nn.Sequential(*layers)(seen[:1]).numel()
    network = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(wide, true.shape[1]))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(seen), (BATCH,), generator=draw)
        loss = functional.mse_loss(network(seen[chosen]), true[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def _read(network: nn.Module, stills: torch.Tensor) -> torch.Tensor:
    parts: list[torch.Tensor] = [network(part) for part in stills.split(256)]
    return torch.cat(parts)
