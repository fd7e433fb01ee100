"""Labels of synthetic samples: a function of (key, seed, sample), never of the attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from echosdk.generation.plan import Plan
from echosdk.interfaces import Category, Conditions, Label
from echosdk.seeding import generator


def draw_labels(labels: Sequence[Label | Category], plan: Plan, sample: int, key: bytes) -> Conditions:
    """Draw a sample's labels as the plan says."""
    if plan.labels == "empirical":
        return empirical_labels(plan.label_bins, plan.seed, sample, key)
    return uniform_labels(labels, plan.seed, sample, key)


def empirical_labels(bins: Sequence[Mapping[str, Any]], seed: int, sample: int, key: bytes) -> Conditions:
    """Draw a bin as often as there are patients in it, and each number evenly within the bin."""
    patients = torch.tensor([one["patients"] for one in bins]).cumsum(0)
    noise = generator(seed, sample, "label bin", key=key)
    place = torch.randint(int(patients[-1]), (), generator=noise)
    chosen = bins[int(torch.searchsorted(patients, place, right=True))]["of"]
    return {
        name: held
        if isinstance(held, str)
        else _within(held[0], held[1], generator(seed, sample, "label", name, key=key))
        for name, held in chosen.items()
    }


def _within(low: float, high: float, noise: torch.Generator) -> float:
    return low + torch.rand((), generator=noise, dtype=torch.float64).item() * (high - low)


def uniform_labels(labels: Sequence[Label | Category], seed: int, sample: int, key: bytes) -> Conditions:
    """Draw each label evenly over its range or its values."""
    drawn: dict[str, float | str] = {}
    for label in labels:
        noise = generator(seed, sample, "label", label.name, key=key)
        if isinstance(label, Category):
            drawn[label.name] = label.values[int(torch.randint(len(label.values), (), generator=noise))]
        else:
            drawn[label.name] = _within(label.low, label.high, noise)
    return drawn
