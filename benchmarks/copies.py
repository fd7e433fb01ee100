"""Whose heart does a still show? Read off its latents by a network that has seen the simulation alone.

It knows nothing of a privacy filter: what it takes for a copy owes nothing to the features that the filter goes by. Its
simulated patients are numbered from `FIRST` on, and are nobody that a bundle is trained or measured on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from attrs import fields, frozen
from echosdk_phantom import Patient, simulate
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from echosdk.clips.images import to_images

Array = NDArray[np.float64]
FIRST = 5_000_000
KEPT_BACK = 0.1
BATCH, STEPS = 64, 2500
STRANGERS = 0.01
"""The share of patients of the test split whose nearest of the memorised passes for theirs."""

RANGES = {f.name: f.metadata["range"] for f in fields(Patient) if "range" in f.metadata}


def anatomy(patients: Sequence[Patient]) -> Array:
    """Return what the simulation draws of each patient, `n d`, scaled to variance 1."""
    drawn = np.array([[getattr(patient, name) for name in RANGES] for patient in patients])
    low, high = np.array(list(RANGES.values())).T
    return np.asarray((drawn - (low + high) / 2) / (high - low) * np.sqrt(12))


@frozen
class Reader:
    """A network that reads anatomy off latents, and how well it reads each part of it on patients it has not seen."""

    network: nn.Module
    explained: Array
    """R squared by parameter."""

    @classmethod
    def train(
        cls, encode: Callable[[torch.Tensor], torch.Tensor], patients: int, report: Callable[[str], None]
    ) -> Self:
        """Train on one frame each of so many simulated patients, of any phase of the heart."""
        everybody = [Patient.draw(0, number) for number in range(FIRST, FIRST + patients)]
        parts = []
        for first in range(0, patients, BATCH):
            frames = [simulate(patient, num_frames=1).frames for patient in everybody[first : first + BATCH]]
            parts.append(encode(to_images(np.concatenate(frames))))
            report(f"reader: {min(first + BATCH, patients)} of {patients} simulated patients")
        seen, true = torch.cat(parts), torch.from_numpy(anatomy(everybody)).float()
        back = round(KEPT_BACK * patients)
        network = _learnt(seen[back:], true[back:])
        rest = (_read(network, seen[:back]) - true[:back]).square().mean(0) / true[:back].var(0)
        return cls(network, np.clip(1 - rest.double().numpy(), 0, 0.99))

    def distances(self, stills: torch.Tensor, patients: Sequence[Patient]) -> Array:
        """Return how far the anatomy in each still is from each patient's own, `n p`.

        What is read well counts for more: as a likelihood ratio has it, by R squared over 1 - R squared.
        """
        weights = self.explained / (1 - self.explained)
        read = _read(self.network, stills).double().numpy() / np.maximum(self.explained, 1e-3)
        away = np.square(read[:, None] - anatomy(patients)[None])
        return np.asarray((away * weights).sum(-1) / weights.sum())


def _learnt(seen: torch.Tensor, true: torch.Tensor) -> nn.Module:
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)
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
    found: Any = torch.cat([network(part) for part in stills.split(256)])
    return found
