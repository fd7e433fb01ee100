"""Pearson distances between two sets of features: exact, and in memory that depends on neither set's size."""

from __future__ import annotations

import torch

ROWS, COLUMNS = 1024, 8192
BINS = 1 << 16


def standardise(features: torch.Tensor) -> torch.Tensor:
    """Give each row mean 0 and length 1 in double precision, so that a product of rows is their Pearson correlation."""
    features = features.double() - features.double().mean(1, keepdim=True)
    return features / features.norm(dim=1, keepdim=True)


def nearest(
    items: torch.Tensor, references: torch.Tensor, rows: int = ROWS, columns: int = COLUMNS
) -> torch.Tensor:
    """Return the smallest 1 - correlation of each of `n d` items to any of `m d` references; both are standardised.

    Only the n x m block is computed, never more than `rows` x `columns` of it at once.
    """
    found = torch.full((len(items),), torch.inf, dtype=torch.float64)
    for part, here in zip(items.split(rows), found.split(rows), strict=True):
        for others in references.split(columns):
            torch.minimum(here, 1 - (part @ others.T).amax(1), out=here)
    return found


def smallest_of_all_pairs(
    items: torch.Tensor, references: torch.Tensor, rank: int, rows: int = ROWS, columns: int = COLUMNS
) -> float:
    """Return the `rank`-th smallest (from 1) distance of all n x m pairs, to 1e-14, without holding them.

    The pairs are counted in bins, and the bin that holds the wanted one is cut again into as many.
    """
    low, width, before = -1e-6, 2 + 2e-6, 0  # rounding may take a distance a hair outside of 0 to 2
    for _ in range(3):
        counts = torch.zeros(BINS, dtype=torch.int64)
        for part in items.split(rows):
            for others in references.split(columns):
                place = ((1 - part @ others.T - low) / (width / BINS)).floor().long().flatten()
                counts += torch.bincount(place[(place >= 0) & (place < BINS)], minlength=BINS)
        held = int(torch.searchsorted(counts.cumsum(0) + before, rank))
        before += int(counts[:held].sum())
        width /= BINS
        low += held * width
    return low + width / 2
