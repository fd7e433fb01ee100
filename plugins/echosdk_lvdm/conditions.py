"""Labels in their own units to the numbers that the network sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen

import echosdk


@frozen(kw_only=True)
class Scaling:
    """One number of the network's context: of a numeric label (value - offset) / scale, of a category 1 or 0."""

    name: str
    offset: float = 0.0
    scale: float = 1.0
    value: str | None = None

    def __call__(self, conditions: echosdk.Conditions) -> float:
        label = conditions[self.name]
        return float(label == self.value) if self.value is not None else (float(label) - self.offset) / self.scale


def scalings_of(labels: Sequence[echosdk.Label | echosdk.Category]) -> tuple[Scaling, ...]:
    """Scale percentages by 100 (the paper's LVEF / 100) and other numbers from their range to 0.5..1.5.

    A token of zeros is the condition that was dropped, so no label's number is 0 and no category's numbers all are. 0 %
    is the exception, as in the paper: it cannot be told from a dropped condition.
    """
    found = []
    for label in labels:
        if isinstance(label, echosdk.Category):
            found += [Scaling(name=label.name, value=value) for value in label.values]
        elif label.unit == "%":
            found.append(Scaling(name=label.name, scale=100.0))
        else:
            found.append(
                Scaling(name=label.name, offset=1.5 * label.low - 0.5 * label.high, scale=label.high - label.low)
            )
    return tuple(found)


def context(scalings: Sequence[Scaling], conditions: Sequence[echosdk.Conditions]) -> torch.Tensor:
    """Return one token an item: `b 1 d`, float32."""
    return torch.tensor([[[scaling(item) for scaling in scalings]] for item in conditions], dtype=torch.float32)
