"""What is made of held-out videos is compared with other held-out patients than those that it shows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from echosdk import Registry
from echosdk.clips.array import ArrayClip
from echosdk.clips.images import to_images
from echosdk.evaluation.distances import frechet_distance
from echosdk.evaluation.features import ClipExtractor, pixels
from echosdk.evaluation.in_memory import InMemory
from echosdk.evaluation.seen import Seen, Tools, see

N = 20


class Unchanged:
    """An encoder that keeps an image as it is: a reconstruction is its source."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images

    decode = encode


def means(clip: Any) -> np.ndarray | None:
    """Three numbers of a clip; none of every seventh, as if it were too short."""
    return None if int(clip.id) % 7 == 6 else clip.frames.reshape(len(clip.frames), -1)[:, :3].mean(0, dtype=float)


def clips(seed: int) -> list[ArrayClip]:
    frames = np.random.default_rng(seed).integers(0, 256, (2 * N, 2, 16, 16), dtype=np.uint8)
    return [ArrayClip(id=f"{i}", group=f"{i}", labels={}, frames=video) for i, video in enumerate(frames)]


@pytest.fixture
def measured() -> tuple[dict[str, Any], Seen]:
    tools = Tools(stills=[pixels()], clips=[ClipExtractor("means", means)], encoder=Unchanged())
    splits = {"train": clips(0), "held-out": clips(1)}
    seen = {name: Seen() for name in splits}
    for name, videos in splits.items():
        for clip in videos:
            see(clip, seen[name], tools, 16, 0, read=False)
    found = InMemory(
        wanted=frozenset({"reconstructions"}), bundle=None, plan=SimpleNamespace(fps=16.0), registry=Registry.of(),
        device="cpu", seen=seen, tools=tools, held_out=splits["held-out"][:N], n=N, seed=0, report=lambda line: None,
    ).measure()["reconstructed videos"]  # fmt: skip
    return {(each.name, each.against): each for each in found}, seen["held-out"]


def test_reconstructions_are_compared_with_patients_that_none_is_of(measured: tuple[dict[str, Any], Seen]) -> None:
    found, held_out = measured
    features = pixels().of(to_images(np.stack(held_out.frames)))
    value = found["Fréchet distance (pixels at 16x16)", "held-out"].value
    assert value == pytest.approx(frechet_distance(features[N:], features[:N]))
    videos = [row[0] for row in held_out.clip_features]
    ours, others = (np.stack([row for row in rows if row is not None]) for rows in (videos[:N], videos[N:]))
    figure = found["Fréchet distance (means)", "held-out"]
    assert figure.n == min(len(ours), len(others))
    assert figure.value == pytest.approx(frechet_distance(others, ours[: figure.n]))
