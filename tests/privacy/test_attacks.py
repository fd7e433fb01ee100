"""What a model's losses say of who was trained on: one that learnt by heart is found out, one that offers none says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from echosdk.privacy.attacks import attack_model


class ByHeart:
    """Denoises what it has seen better, by a little less than chance varies; `window` frames at most."""

    window = 5

    def __init__(self, seen: torch.Tensor) -> None:
        self.seen = seen
        self.lengths: set[int] = set()

    def losses(self, items: torch.Tensor, conditions: Sequence[Any], generators: Sequence[torch.Generator]) -> torch.Tensor:
        self.lengths.add(items.shape[1])
        known = (items[:, None, :1] == self.seen[None, :, :1]).flatten(2).all(2).any(1)
        noise = torch.stack([torch.rand((), generator=generator) for generator in generators])
        return items.flatten(1).std(1) + noise - known.float()


@pytest.fixture
def videos() -> list[tuple[torch.Tensor, dict[str, float]]]:
    draws = torch.Generator().manual_seed(0)
    return [(torch.randn(7 + i % 3, 1, 2, 2, generator=draws), {"age": 1.0}) for i in range(240)]


def test_a_model_that_learnt_by_heart_is_found_out_and_another_is_not(videos: Any) -> None:
    members, outsiders = videos[:120], videos[120:]
    model = ByHeart(torch.stack([video[:5] for video, _ in members]))
    found, curves = attack_model("video_animator", model, members, outsiders, 0, lambda line: None)
    values = {figure.name: figure.value for figure in found}
    assert values["membership.video_animator.low-loss.area"] > 0.95
    assert values["membership.video_animator.high-loss.area"] < 0.05
    assert values["membership.video_animator.low-loss.found-at-1-percent"] > 0.5
    assert set(curves) == {f"membership.video_animator.{attack}" for attack in ("low-loss", "high-loss", "odd")}
    assert model.lengths == {5}  # one length for all, which the window holds
    fair, _ = attack_model("video_animator", ByHeart(torch.zeros(1, 5, 1, 2, 2)), members, outsiders, 0, lambda line: None)
    assert all(0.4 < figure.value < 0.6 for figure in fair if figure.name.endswith(".area"))


def test_a_model_that_tells_no_losses_is_reported_as_not_attacked() -> None:
    (figure,), curves = attack_model("image_prior", object(), [], [], 0, lambda line: None)
    assert (figure.n, figure.value, curves) == (0, None, {})
    assert "tells no losses" in figure.note
