"""Nearest records in one space of features, by 1 - Pearson correlation, in pieces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray

ROWS, COLUMNS = 512, 8192


@frozen(kw_only=True, eq=False)
class Records:
    """Standardised features `n d` and the owner of each: a patient, or a synthetic video."""

    features: torch.Tensor
    owners: NDArray[np.int64]

    @classmethod
    def of(cls, features: torch.Tensor, owners: Sequence[int] | NDArray[np.int64]) -> Records:
        """Give each row mean 0 and length 1, so that a product of rows is their correlation."""
        rows = features.double().flatten(1)
        rows = rows - rows.mean(1, keepdim=True)
        return cls(features=rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12), owners=np.asarray(owners, np.int64))

    def __len__(self) -> int:
        return len(self.owners)

    def of_owners(self, owners: NDArray[np.int64]) -> Records:
        """Return only the records of some owners."""
        chosen = np.flatnonzero(np.isin(self.owners, owners))
        return Records(features=self.features[torch.from_numpy(chosen)], owners=self.owners[chosen])

    def owners_first(self) -> Records:
        """Return only the first record of each owner."""
        _, first = np.unique(self.owners, return_index=True)
        return Records(features=self.features[torch.from_numpy(first)], owners=self.owners[first])


@frozen(kw_only=True, eq=False)
class Nearest:
    """For each record: how far its nearest is, which one that is, and how far the nearest of another owner."""

    distance: NDArray[np.float64]
    index: NDArray[np.int64]
    other: NDArray[np.float64]


def nearest(records: Records, among: Records, *, not_own: bool = False, not_itself: bool = False) -> Nearest:
    """Find each record's nearest `among` others, and the nearest one that belongs to another than that nearest's owner.

    For the records of one set among themselves: with `not_own` the record's own owner is left out, with `not_itself`
    only the record.
    """
    n = len(records)
    first = torch.full((n,), torch.inf, dtype=torch.float64)
    index = torch.zeros(n, dtype=torch.int64)
    second = torch.full((n,), torch.inf, dtype=torch.float64)
    own, others = torch.from_numpy(records.owners), torch.from_numpy(among.owners)

    def blocks(start: int) -> list[tuple[int, torch.Tensor]]:
        rows = slice(start, start + ROWS)
        found = []
        for column in range(0, len(among), COLUMNS):
            block = 1 - records.features[rows] @ among.features[column : column + COLUMNS].T
            if not_own:
                block[own[rows, None] == others[None, column : column + COLUMNS]] = torch.inf
            if not_itself:
                here = torch.arange(start, start + len(block))[:, None]
                block[here == torch.arange(column, column + block.shape[1])[None]] = torch.inf
            found.append((column, block))
        return found

    for start in range(0, n, ROWS):
        rows = slice(start, start + ROWS)
        for column, block in blocks(start):
            value, place = block.min(1)
            nearer = value < first[rows]
            index[rows] = torch.where(nearer, place + column, index[rows])
            first[rows] = torch.where(nearer, value, first[rows])
        for column, block in blocks(start):
            block[others[index[rows]][:, None] == others[None, column : column + COLUMNS]] = torch.inf
            second[rows] = torch.minimum(second[rows], block.amin(1))
    return Nearest(distance=first.clamp(min=0).numpy(), index=index.numpy(), other=second.clamp(min=0).numpy())


def smallest_by_owner(
    values: NDArray[np.float64], owners: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the owners, and for each the row of its smallest value."""
    order = np.lexsort((values, owners))
    found, first = np.unique(owners[order], return_index=True)
    return found, order[first]
