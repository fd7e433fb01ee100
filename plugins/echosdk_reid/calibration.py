"""Where tau comes from: how near strangers come to the training references, and how near a patient's own frames come.

`conformal`   the k-th smallest, k = ceil(alpha (n + 1)), of n innocents' nearest distances: the share of innocents that
              is rejected then follows Beta(k, n + 1 - k). Where copies are asked for, tau is at least the
              ceil((1 - beta)(n + 1))-th smallest of the copies' distances
`percentile`  the innocents' interpolated percentile: conformal's, without the rank that makes it exact
`published`   the published code's direction: each training reference's nearest held-out item
`all-pairs`   the paper's sentence read literally: of all pairs of a training and a held-out item
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch

from echosdk_reid.distances import nearest, smallest_of_all_pairs

Calibration = Literal["conformal", "percentile", "published", "all-pairs"]
CALIBRATIONS: tuple[Calibration, ...] = get_args(Calibration)


def innocent_tau(calibration: Calibration, alpha: float, train: torch.Tensor, holdout: torch.Tensor) -> float:
    """Return tau by one of the `CALIBRATIONS`, given standardised features `m d` and, one a patient, `n d`."""
    if calibration == "all-pairs":
        return smallest_of_all_pairs(holdout, train, math.ceil(alpha * len(holdout) * len(train)))
    if calibration == "published":
        return torch.quantile(nearest(train, holdout), alpha).item()
    distances = nearest(holdout, train)
    if calibration == "percentile":
        return torch.quantile(distances, alpha).item()
    return distances.sort().values[math.ceil(alpha * (len(distances) + 1)) - 1].item()


def copy_tau(distances: torch.Tensor, share: float) -> float:
    """Return what `share` of copies is nearer than, by rank; infinity where they are too few to say so."""
    rank = math.ceil(share * (len(distances) + 1))
    return distances.sort().values[rank - 1].item() if rank <= len(distances) else math.inf


def copies(
    groups: tuple[str, ...], enrolled: int, apart: int, generator: torch.Generator
) -> list[tuple[list[int], int]]:
    """Choose, for each patient, the frames that stand for references and one other that stands for a copy.

    `groups` names the patient of each frame, a patient's frames in their order in time. Of a patient, `enrolled` frames
    are references, spread evenly, as those of training clips are; fewer where none would be left that is `apart` frames
    from each of them. Such a one, drawn at random, is the copy. A patient whose clip is too short is left out.
    """
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    chosen = []
    for own in rows.values():
        for count in range(min(enrolled, len(own)), 0, -1):
            references = sorted({round(i * (len(own) - 1) / max(1, count - 1)) for i in range(count)})
            free = [i for i in range(len(own)) if min(abs(i - reference) for reference in references) >= apart]
            if free:
                copy = free[int(torch.randint(len(free), (), generator=generator))]
                chosen.append(([own[i] for i in references], own[copy]))
                break
    return chosen
