"""Fresh stills of the bundle's prior, before and after the gate: what the filter changes, and what it doesn't."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from attrs import field, frozen

from echosdk.generation.labels import uniform_labels
from echosdk.interfaces import Category, ImagePrior, Label
from echosdk.privacy.gate import Gate
from echosdk.privacy.statistics import Figure, share
from echosdk.seeding import generator

BATCH = 32


@frozen(kw_only=True, eq=False)
class Drawn:
    """Stills `n c h w` and which of them the gate keeps; they are no dataset's, and are not kept."""

    stills: torch.Tensor = field(repr=False)
    keep: torch.Tensor = field(repr=False)

    def figures(self) -> list[Figure]:
        """Return the share of stills that the gate rejects: neither way is better by itself."""
        rejected = int((~self.keep).sum())
        return [share("stills.rejected", rejected, len(self.keep), better="neither", what="stills drawn for the audit")]

    def sets(self) -> dict[str, torch.Tensor]:
        """Return all stills, and those that are kept."""
        return {"before": self.stills, "after": self.stills[self.keep]}


def draw(
    prior: ImagePrior,
    gate: Gate,
    labels: Any,
    number: int,
    seed: int,
    report: Callable[[str], None],
) -> Drawn:
    """Draw stills with noise of the audit's own, and ask the gate about them."""
    kinds: list[Label | Category] = list(labels)
    parts = []
    for first in range(0, number, BATCH):
        numbers = range(first, min(first + BATCH, number))
        noise = [generator("audit", "draw", seed, sample) for sample in numbers]
        conditions = [uniform_labels(kinds, seed, sample, b"audit") for sample in numbers]
        parts.append(prior.sample(noise, conditions).float().cpu())
        report(f"{numbers.stop} of {number} stills drawn")
    stills = torch.cat(parts)
    return Drawn(stills=stills, keep=gate.judge_stills(stills).keep)
