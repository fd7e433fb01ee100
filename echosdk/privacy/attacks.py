"""Guess who was trained on from the models themselves: what was memorised is denoised better than the rest.

Whoever has no weights cannot do this. It says how much the models hold that a dataset, or weights that leak, may give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from echosdk.abilities import DenoisingLosses
from echosdk.interfaces import Conditions
from echosdk.privacy.records import guesses
from echosdk.privacy.statistics import Array, Figure
from echosdk.seeding import generator

BATCH = 16
SIDES = ("low-loss", "high-loss")

Known = Sequence[tuple[torch.Tensor, Conditions]]
"""What is asked about, one item a patient, with its labels."""


def attack_model(
    kind: str, model: Any, members: Known, outsiders: Known, seed: int, report: Callable[[str], None]
) -> tuple[list[Figure], dict[str, Any]]:
    """Return how well a model's losses tell the patients that it was trained on from others, and the ROC curves."""
    name = f"membership.{kind}"
    if not isinstance(model, DenoisingLosses):
        note = "this component tells no losses (no method `losses`)"
        return [Figure(name=f"{name}.low-loss.area", better="lower", n=0, what="members", note=note)], {}
    report(f"membership: losses of the {kind.replace('_', ' ')} for {len(members)} members, {len(outsiders)} outsiders")
    # All videos are cut to one length that the animator's window holds; a still's first axis is its channels
    longest = min((len(item) for item, _ in (*members, *outsiders)), default=0)
    length = min(longest, getattr(model, "window", longest))

    def losses(known: Known) -> Array:
        return _losses(model, [(item[:length], labels) for item, labels in known], seed)

    return guesses(name, losses(members), losses(outsiders), SIDES, np.random.default_rng([seed, 11]))


def _losses(model: DenoisingLosses, known: Known, seed: int) -> Array:
    """Return every item's loss; all meet the same noise, so that it makes no difference between them."""
    found = []
    for first in range(0, len(known), BATCH):
        part = known[first : first + BATCH]
        items = torch.stack([item for item, _ in part])
        noise = [generator("audit", "losses", seed) for _ in part]
        found.append(model.losses(items, [labels for _, labels in part], noise).double().cpu())
    return torch.cat(found).numpy() if found else np.zeros(0)
