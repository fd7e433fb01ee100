"""What two sets of images or videos are compared in: pixels, a known network's features, or the bundle's own networks'.

Each extractor says in its name what it is. None needs the network, and what is missing is said, not replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from attrs import field, frozen
from numpy.typing import NDArray
from torch.nn import functional

from echosdk.abilities import ClipEmbedder, Embedding
from echosdk.evaluation.measurement import NotComputed
from echosdk.feature_extractor import PretrainedWeights
from echosdk.interfaces import Encoder, PrivacyFilter, StoredClip
from echosdk.training.perceptual import lpips_network
from echosdk.training.weights import KNOWN, MISSING, OTHER, fault, weights_path

Features = NDArray[Any]

PIXELS_SIDE = 16
BATCH = 32
LPIPS_WEIGHTS = "lpips-alex"
LPIPS_NETWORKS: dict[Literal["alex", "vgg"], str] = {"alex": "AlexNet", "vgg": "VGG16"}


@frozen
class StillExtractor:
    """Features of single frames: `of` maps images `n k H W` to `n d`.

    `names` says what measures are called on them that have a name of their own there; `classes` maps images to the
    probabilities of an inception score, where the network has them.
    """

    name: str
    of: Callable[[torch.Tensor], Features]
    names: Mapping[str, str] = field(factory=dict)
    classes: Callable[[torch.Tensor], Features] | None = None


@frozen
class ClipExtractor:
    """Features of clips: `of` maps one to `d`, or to none where it has fewer than `length` frames."""

    name: str
    of: Callable[[StoredClip], Features | None]
    names: Mapping[str, str] = field(factory=dict)
    length: int = 0


def pixels() -> StillExtractor:
    """Return grey frames made small: what a network adds to is first of all this."""

    def small(images: torch.Tensor) -> Features:
        shrunk = functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), PIXELS_SIDE)
        return shrunk.flatten(1).double().numpy()

    return StillExtractor(f"pixels at {PIXELS_SIDE}x{PIXELS_SIDE}", small)


def alexnet() -> StillExtractor | NotComputed:
    """Return the means of AlexNet's last convolutions, as LPIPS has them, where its weights are present."""
    missing = unusable("Fréchet distance and its like (AlexNet)", KNOWN[LPIPS_WEIGHTS])
    if missing:
        return missing
    network: Any = lpips_network("alex", weights_path(LPIPS_WEIGHTS))

    @torch.no_grad()
    def means(images: torch.Tensor) -> Features:
        parts = [network.net(network.scaling_layer(_colour(part)))[-1].mean((2, 3)) for part in images.split(BATCH)]
        return torch.cat(parts).double().numpy()

    return StillExtractor("AlexNet", means)


def perceptual_distance(
    net: Literal["alex", "vgg"] = "alex",
) -> Callable[[torch.Tensor, torch.Tensor], Features] | NotComputed:
    """Return LPIPS of images and their copies, both `n k H W`, where the network's weights are present."""
    weights = KNOWN[f"lpips-{net}"]
    missing = unusable(f"LPIPS of reconstructions ({LPIPS_NETWORKS[net]})", weights)
    if missing:
        return missing
    network = lpips_network(net, weights_path(weights.name))

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


def unusable(what: str, weights: PretrainedWeights) -> NotComputed | None:
    """Say that weights are missing, or are not those published, and how to get them; None where they are right."""
    wrong = fault(weights)
    if not wrong:
        return None
    path = weights_path(weights.name)
    why = f"the weights {weights.name} are {MISSING}" if wrong == MISSING else f"{path.name} holds {OTHER}"
    return NotComputed(name=what, why=why, remedy=weights.remedy)


def _colour(images: torch.Tensor) -> torch.Tensor:
    return images.expand(-1, 3, -1, -1)
