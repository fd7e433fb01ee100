"""Feature extractors that plugins offer: those whose weights are present are used, and of the others it is said."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from scipy import stats

from echosdk.abilities import Classifies
from echosdk.clips.images import to_images
from echosdk.errors import EchoError
from echosdk.evaluation.features import ClipExtractor, Features, StillExtractor, unusable
from echosdk.evaluation.intervals import HALVES, Z, half_sample_error
from echosdk.evaluation.measurement import Floor, Measured, NotComputed
from echosdk.feature_extractor import FeatureExtractor
from echosdk.interfaces import StoredClip
from echosdk.registry import Registry
from echosdk.seeding import generator
from echosdk.training.weights import weights_path

HALVINGS = 20
PARTS = 10


def pretrained(registry: Registry, device: str, seed: int) -> Iterator[StillExtractor | ClipExtractor | NotComputed]:
    """Yield every extractor on offer, loaded, or why it is not used."""
    for name in registry.names("feature_extractor"):
        extractor: FeatureExtractor = registry.build("feature_extractor", name, {})
        path = weights_path(extractor.weights.name)
        missing = unusable(_figures(extractor), extractor.weights)
        if missing:
            yield missing
            continue
        try:
            extractor.load(path, device)
        except (EchoError, RuntimeError, KeyError, ValueError, OSError) as error:
            yield NotComputed(name=_figures(extractor), why=f"{path.name} cannot be used: {error}")
            continue
        if extractor.lengths:
            for length in extractor.lengths:
                yield ClipExtractor(
                    f"{extractor.title}; {length} frames",
                    partial(_of_clip, extractor, length, seed),
                    extractor.names,
                    length,
                )
        else:
            classes = partial(_classes, extractor) if isinstance(extractor, Classifies) else None
            yield StillExtractor(extractor.title, partial(_of_stills, extractor), extractor.names, classes)


def inception_score(probabilities: Features) -> float:
    """Return exp of the mean divergence of each image's classes `n c` from those of all (Salimans et al. 2016).

    Over all n at once; `score_of_parts` is as it is often published.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = probabilities * (np.log(probabilities) - np.log(probabilities.mean(0)))
    divergence = np.where(probabilities > 0, terms, 0.0).sum(1)
    return float(np.exp(divergence.mean()))


def score_of_parts(probabilities: Features, seed: int = 0) -> Features:
    """Return the inception score of each of ten random parts of `n c`, whose mean Salimans et al. publish."""
    order = np.random.default_rng(seed).permutation(len(probabilities))
    return np.array([inception_score(probabilities[rows]) for rows in np.array_split(order, PARTS)])


def measure_score(real: Features, made: Features, *, title: str, against: str, seed: int = 0) -> list[Measured]:
    """Return the inception score of `made` (`n c`), with that of n real images as its floor: over all and by tenths.

    A score grows with the number of images, so the mean over ten parts is that of sets of a tenth.
    """
    n, rng = len(made), np.random.default_rng(seed)
    value = inception_score(made)
    error = half_sample_error(lambda first, _second: inception_score(first), made, made, seed)
    theirs = [real[rng.permutation(len(real))[:n]] for _ in range(HALVINGS)]

    def measured(name: str, value: float, reach: float, interval: str, floors: list[float]) -> Measured:
        low, high = np.quantile(floors, (0.025, 0.975))
        return Measured(
            name=f"{name} ({title})",
            direction="higher",
            n=n,
            value=value,
            low=max(1.0, value - reach),
            high=value + reach,
            interval=interval,
            against=against,
            floor=Floor(value=float(np.mean(floors)), low=float(low), high=float(high), n=n),
        )

    found = [measured("IS", value, Z * error, HALVES, [inception_score(each) for each in theirs])]
    if n >= 2 * PARTS:
        parts = score_of_parts(made, seed)
        spread = float(parts.std(ddof=1))
        reach = float(stats.t.ppf(0.975, PARTS - 1)) * spread / PARTS**0.5
        how = f"Student's, of {PARTS} parts, whose standard deviation is {spread:.3g}"
        floors = [float(score_of_parts(each, seed).mean()) for each in theirs]
        found.append(measured(f"IS, mean of {PARTS} parts", float(parts.mean()), reach, how, floors))
    return found


def _figures(extractor: FeatureExtractor) -> str:
    """Name what is computed in its features, as published."""
    names = [*extractor.names.values()] or ["distances of sets"]
    if isinstance(extractor, Classifies):
        names.append("IS")
    at = f" at {' and '.join(map(str, extractor.lengths))} frames" if extractor.lengths else ""
    return f"{', '.join(names)}{at} ({extractor.title})"


def _of_clip(extractor: FeatureExtractor, length: int, seed: int, clip: StoredClip) -> Features | None:
    """Return the features of so many frames from a place that is drawn for each clip."""
    if clip.num_frames < length:
        return None
    start = int(torch.randint(clip.num_frames - length + 1, (), generator=generator(seed, f"clip {length}", clip.id)))
    images = to_images(clip.read(start, start + length))
    return extractor.embed(images[None])[0].double().numpy()


def _of_stills(extractor: FeatureExtractor, images: torch.Tensor) -> Features:
    return extractor.embed(images).double().numpy()


def _classes(extractor: Classifies, images: torch.Tensor) -> Features:
    return extractor.classify(images).double().numpy()
