"""The downstream validator: predictions and their figures."""

from __future__ import annotations

from typing import Any

import echosdk_ef.regressor as module
import numpy as np
import pytest
import torch
from echosdk_ef import EFRegressor

from echosdk import Registry


def tiny(**parameters: Any) -> EFRegressor:
    return EFRegressor(**{"architecture": "small", "widths": (4, 8), "num_frames": 8, "period": 2} | parameters)


@pytest.fixture
def fitted(training_of: Any, data_of: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    frames = np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
    data = data_of(("a", frames), ("b", frames[::-1]))
    data.train[1].labels["EF"] = 70.0
    regressor = tiny()
    torch.manual_seed(0)
    training_of(module, regressor, data)
    return regressor, data


def test_a_videos_prediction_is_the_mean_over_its_clips(fitted: Any) -> None:
    regressor, data = fitted
    frames = data.train[0].read()
    with torch.no_grad():
        clips = [regressor._network(regressor._cut(frames, start)[None]) for start in range(0, 20 - 15 + 1, 2)]
    expected = float(torch.cat(clips).mean()) * regressor._scale[1] + regressor._scale[0]
    assert regressor.predict(data.train[0])["EF"] == pytest.approx(expected, abs=1e-3)


def test_a_video_shorter_than_the_clip_is_filled_with_black(fitted: Any) -> None:
    regressor, data = fitted
    cut = regressor._cut(data.train[0].read(0, 5), 0)
    assert cut.shape == (1, 8, 16, 16)
    torch.testing.assert_close(cut[:, 3:], torch.full((1, 5, 16, 16), -regressor._mean / regressor._std))


def test_the_score_is_error_over_the_test_clips(fitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    regressor, data = fitted
    predicted = iter([{"EF": 53.0}, {"EF": 66.0}])
    monkeypatch.setattr(type(regressor), "predict", lambda self, clip: next(predicted))
    score = regressor.score(data.train)  # 50 and 70
    assert score == {"n": 2, "mae": 3.5, "rmse": pytest.approx(12.5**0.5), "r2": pytest.approx(1 - 25 / 200)}


def test_a_prediction_does_not_depend_on_other_videos(fitted: Any) -> None:
    regressor, data = fitted
    first = regressor.predict(data.train[0])
    regressor.predict(data.train[1])
    assert regressor.predict(data.train[0]) == first


def test_a_prediction_is_made_where_the_network_is(fitted: Any) -> None:
    """After a training on a GPU it is still there, and the frames are not."""
    regressor, data = fitted
    seen = []

    class Elsewhere(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1, device="meta"))

        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            seen.append(clips.device.type)
            return torch.zeros(len(clips), 1)

    regressor._network = Elsewhere()
    assert regressor.predict(data.train[0])["EF"] == pytest.approx(regressor._scale[0])
    assert seen == ["meta"]


def test_a_fitted_network_is_scored_where_it_was_trained(
    training_of: Any, data_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = []
    monkeypatch.setattr(torch.nn.Module, "cpu", lambda self: moved.append(self))
    frames = np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
    data = data_of(("a", frames), ("b", frames[::-1]))
    data.train[1].labels["EF"] = 70.0
    training_of(module, tiny(), data)
    assert not moved


def test_the_label_is_fixed_once_it_is_trained(registry: Registry) -> None:
    assert "label" in registry.component("downstream_validator", "ef-regressor").shape


def test_a_clips_features_are_what_the_last_layer_sees(fitted: Any) -> None:
    regressor, data = fitted
    features = regressor.embed_clip(data.train[0])
    assert features.shape == (8,)
    with torch.no_grad():
        first = regressor._network(regressor._cut(data.train[0].read(), 0)[None])
    assert regressor._network.fc(features).item() == pytest.approx(first.item(), abs=1e-5)
