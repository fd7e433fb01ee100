"""Labels of synthetic samples: a function of (key, seed, sample), never of the attempt."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from echosdk.interfaces import Category, Conditions, Label
from echosdk.seeding import generator


def uniform_labels(labels: Sequence[Label | Category], seed: int, sample: int, key: bytes) -> Conditions:
    """Draw each label evenly over its range or its values."""
    drawn: dict[str, float | str] = {}
    for label in labels:
        noise = generator(seed, sample, "label", label.name, key=key)
        if isinstance(label, Category):
            drawn[label.name] = label.values[int(torch.randint(len(label.values), (), generator=noise))]
        else:
            part = torch.rand((), generator=noise, dtype=torch.float64).item()
            drawn[label.name] = label.low + part * (label.high - label.low)
    return drawn
