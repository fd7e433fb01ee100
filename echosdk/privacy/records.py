"""What a dataset's samples say of the training patients: nearest records, attacks, coverage, duplicates.

All are proxies in one space of features each. They can show that something was copied, never that nothing was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from echosdk.privacy.neighbours import Nearest, Records, nearest, smallest_by_owner
from echosdk.privacy.statistics import Array, Figure, area_figure, curve, found_at, median, share

SMALL_RATE_WANTS = 10_000
PROXY = "a proxy: it can't show that no record was copied"
STRANGERS_QUANTILE = 0.01


def look(
    space: str, samples: Records, train: Records, outsiders: Records, seed: int
) -> tuple[list[Figure], dict[str, Any]]:
    """Return every figure of one space, and the ROC curves of the attacks; owners are videos and patients."""
    random = np.random.default_rng([seed, 7])
    to_train = nearest(samples, train)
    figures = [
        _nearer(space, samples, train, outsiders, random),
        *_ratios(space, samples, train, outsiders, to_train),
        *_authentic(space, samples, train, to_train),
        *_coverage(space, samples, train, to_train),
        _duplicates(space, samples, train, random),
    ]
    attacks, curves = _membership(space, samples, train, outsiders, random)
    return figures + attacks, curves


def compare(prefix: str, space: str, samples: Records, train: Records, outsiders: Records, seed: int) -> list[Figure]:
    """Return only the figures of nearest records, under another name: of stills before and after the filter, say."""
    random = np.random.default_rng([seed, 7])
    if not len(samples):
        return []
    to_train = nearest(samples, train)
    figures = [
        _nearer(space, samples, train, outsiders, random),
        _ratios(space, samples, train, outsiders, to_train)[0],
        *_authentic(space, samples, train, to_train),
    ]
    return [
        attrs.evolve(figure, name=figure.name.replace("records.", f"{prefix}.", 1), what="stills") for figure in figures
    ]


def _nearer(space: str, samples: Records, train: Records, outsiders: Records, random: np.random.Generator) -> Figure:
    """The share of samples that are nearer to training patients than to as many others (the DCR share)."""
    name, patients = f"records.{space}.nearer-to-training", np.unique(train.owners)
    others = np.unique(outsiders.owners)
    if not len(others):
        return share(name, 0, 0, better="lower", what="synthetic videos", note="the source has no test split")
    size = min(len(patients), len(others))
    distances = [
        _by_owner(nearest(samples, side.of_owners(random.choice(owners, size, replace=False))).distance, samples)
        for side, owners in ((train, patients), (outsiders, others))
    ]
    ours, theirs = distances
    note = f"against {size} patients on each side; 0.5 is no nearer; {PROXY}"
    return share(name, int((ours < theirs).sum()), len(ours), better="lower", what="synthetic videos", note=note)


def _ratios(
    space: str, samples: Records, train: Records, outsiders: Records, to_train: Nearest
) -> tuple[Figure, Figure]:
    """The distance to the nearest record over that to another patient's nearest (NNDR), and the same of outsiders."""
    note = f"outsiders' own beside it say what is usual; {PROXY}"
    ours = _ratio(to_train, samples)
    theirs = _ratio(nearest(outsiders, train), outsiders) if len(outsiders) else np.zeros(0)
    name = f"records.{space}.second-neighbour-ratio"
    return (
        median(name, ours, better="higher", what="synthetic videos", note=note),
        median(f"{name}-of-outsiders", theirs, better="neither", what="patients of the test split"),
    )


def _ratio(found: Nearest, records: Records) -> Array:
    _, rows = smallest_by_owner(found.distance, records.owners)
    usable = np.isfinite(found.other[rows])  # infinite where there is but one patient
    ratio: Array = found.distance[rows][usable] / np.maximum(found.other[rows][usable], 1e-12)
    return ratio


def _authentic(space: str, samples: Records, train: Records, to_train: Nearest) -> tuple[Figure, Figure]:
    """The share of samples farther from their nearest record than that record is from its own nearest (authenticity).

    As it is defined, that is any other record; where a patient has several it may be his own, which is near, and hardly
    a sample is ever nearer. So there is also the share by the record's nearest of another patient.
    """
    videos, rows = smallest_by_owner(to_train.distance, samples.owners)
    source = "Alaa et al., arXiv:2102.08921"
    found = []
    for name, own, note in (
        ("authentic", nearest(train, train, not_itself=True), f"as {source}, define it"),
        ("authentic-of-patients", nearest(train, train, not_own=True), f"after {source}, by another patient's nearest"),
    ):
        authentic = to_train.distance[rows] > own.distance[to_train.index[rows]]
        found.append(
            share(f"records.{space}.{name}", int(authentic.sum()), len(videos), better="higher",
                  what="synthetic videos", note=f"{note}; {PROXY}")
        )  # fmt: skip
    return found[0], found[1]


def nearest_counts(samples: Records, train: Records) -> dict[str, int]:
    """Return how many training patients are the nearest of no video, of 1, of 2, of 3 to 5, and of more."""
    to_train = nearest(samples, train)
    videos, rows = smallest_by_owner(to_train.distance, samples.owners)
    _, counts = np.unique(train.owners[to_train.index[rows]], return_counts=True)
    of_each = np.concatenate([counts, np.zeros(len(np.unique(train.owners)) - len(counts), int)])
    bins = {"0": (0, 0), "1": (1, 1), "2": (2, 2), "3 to 5": (3, 5), "6 and more": (6, len(videos))}
    return {name: int(((of_each >= low) & (of_each <= high)).sum()) for name, (low, high) in bins.items()}


def _coverage(space: str, samples: Records, train: Records, to_train: Nearest) -> tuple[Figure, Figure]:
    """How many training patients are some video's nearest, and what share of videos the most frequent one has."""
    videos, rows = smallest_by_owner(to_train.distance, samples.owners)
    chosen, counts = np.unique(train.owners[to_train.index[rows]], return_counts=True)
    patients = len(np.unique(train.owners))
    return (
        share(f"coverage.{space}.patients", len(chosen), patients, better="higher", what="training patients",
              note=f"nearest to at least one of {len(videos)} videos; patients taken for independent"),
        share(f"coverage.{space}.most-on-one", int(counts.max()), len(videos), better="lower", what="synthetic videos",
              note="those that share the most frequent nearest patient; videos taken for independent"),
    )  # fmt: skip


def _duplicates(space: str, samples: Records, train: Records, random: np.random.Generator) -> Figure:
    """The share of videos nearer to another video than nearly all of as many training patients are to each other."""
    one_each = [side.owners_first() for side in (samples, train)]
    size = min(map(len, one_each))
    name, what = f"duplicates.{space}", "synthetic videos"
    if size < 2:
        return share(name, 0, 0, better="lower", what=what, note="wants two videos and two patients")
    ours, real = (
        nearest(chosen, chosen, not_own=True).distance
        for chosen in (side.of_owners(random.choice(side.owners, size, replace=False)) for side in one_each)
    )
    limit = np.quantile(real, STRANGERS_QUANTILE)
    note = f"{STRANGERS_QUANTILE:.0%} where samples differ as {size} patients do; changes no verdict of the gate"
    return share(name, int((ours < limit).sum()), size, better="lower", what=what, note=note)


def _membership(
    space: str, samples: Records, train: Records, outsiders: Records, random: np.random.Generator
) -> tuple[list[Figure], dict[str, Any]]:
    """Guess who was trained on, from the published videos alone: who is near to one, who is far, who is either."""
    members = _by_owner(nearest(train, samples).distance, train)
    others = _by_owner(nearest(outsiders, samples).distance, outsiders) if len(outsiders) else np.zeros(0)
    return guesses(f"membership.{space}", members, others, ("near", "far"), random)


def guesses(
    name: str, members: Array, others: Array, sides: tuple[str, str], random: np.random.Generator
) -> tuple[list[Figure], dict[str, Any]]:
    """Return how well a score tells members from others, from three sides: who is low, who is high, who is either."""
    middle = float(np.median(np.concatenate([members, others]))) if len(members) + len(others) else 0.0
    attacks: dict[str, Callable[[Array], Array]] = {
        sides[0]: lambda score: -score,
        sides[1]: lambda score: score,
        "odd": lambda score: np.abs(score - middle),
    }
    figures, curves = [], {}
    for attack, of in attacks.items():
        ours, theirs = of(members), of(others)
        figures.append(area_figure(f"{name}.{attack}.area", ours, theirs, random))
        figures.append(found_at(f"{name}.{attack}.found-at-1-percent", ours, theirs, 0.01))
        if len(others) >= SMALL_RATE_WANTS:
            figures.append(found_at(f"{name}.{attack}.found-at-0.1-percent", ours, theirs, 0.001))
        curves[f"{name}.{attack}"] = curve(ours, theirs)
    return figures, curves


def _by_owner(distances: NDArray[np.float64], records: Records) -> Array:
    """Return each owner's smallest distance, owners in their order."""
    _, rows = smallest_by_owner(distances, records.owners)
    found: Array = distances[rows]
    return found


def latent_records(latents: torch.Tensor, owners: Any) -> Records:
    """Return latents `n c h w` as records: the space that belongs to no filter."""
    return Records.of(latents.flatten(1), owners)
