"""The downstream validator: predictions and their figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import echosdk_ef.regressor as module
import numpy as np
import pytest
import torch
from attrs import evolve
from echosdk_ef import EFRegressor
from torchvision.models.video.resnet import r2plus1d_18

from echosdk import InputError, Registry, Run, TrainingError
from echosdk.abilities import DataCheck
from echosdk.plugin_set import PluginSet
from echosdk.training import Recipe
from echosdk.training.loop import _factor


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


@pytest.mark.parametrize("every", [1, 4])
def test_a_videos_prediction_is_the_mean_over_its_clips(every: int, fitted: Any) -> None:
    """At every start unless it is told otherwise, as in the paper, whatever the period."""
    regressor, data = fitted
    assert regressor.every == 1
    regressor.every = every
    frames = data.train[0].read()
    with torch.no_grad():
        clips = [regressor._network(regressor._cut(frames, start)[None]) for start in range(0, 20 - 15 + 1, every)]
    expected = float(torch.cat(clips).mean()) * regressor._scale[1] + regressor._scale[0]
    assert regressor.predict(data.train[0])["EF"] == pytest.approx(expected, abs=1e-3)


def test_a_video_shorter_than_the_clip_is_filled_with_the_mean(fitted: Any) -> None:
    """As the original does, which standardises first; the random crop's border is the mean too."""
    regressor, data = fitted
    cut = regressor._cut(data.train[0].read(0, 5), 0)
    assert cut.shape == (1, 8, 16, 16)
    torch.testing.assert_close(cut[:, 3:], torch.zeros(1, 5, 16, 16))


def test_the_score_is_error_over_the_test_clips(fitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    regressor, data = fitted
    predicted = iter([{"EF": 53.0}, {"EF": 66.0}])
    monkeypatch.setattr(type(regressor), "predict", lambda self, clip: next(predicted))
    score = regressor.score(data.train)  # 50 and 70
    assert score == {"n": 2, "mae": 3.5, "rmse": pytest.approx(12.5**0.5), "r2": pytest.approx(1 - 25 / 200)}


def test_mean_and_deviation_are_of_clips_from_all_over_the_list(
    training_of: Any, data_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists are sorted by hospital or by machine."""
    monkeypatch.setattr(module, "CLIPS_FOR_STATISTICS", 2)
    data = data_of(*[(f"{value}", np.full((20, 16, 16), value, np.uint8)) for value in (0, 0, 0, 100)])
    data.train[1].labels["EF"] = 70.0
    regressor = tiny()
    training_of(module, regressor, data)
    assert (regressor._mean, regressor._std) == (50, 50)


@pytest.mark.parametrize(
    ("asked", "values", "says"),
    [
        ("ESV", (50.0, 70.0), "ef-regressor: no numeric label 'ESV'; the data has ['EF']"),
        (
            "", (50.0, float("nan")),
            "ef-regressor: clip1: label 'EF' is nan; leave the clip out, or choose another label: --set "
            "downstream_validator.label=NAME",
        ),
        (
            "EF", (50.0, 50.0),
            "ef-regressor: label 'EF' is 50 in every training clip, so nothing can be learnt from it; choose another: "
            "--set downstream_validator.label=NAME",
        ),
    ],
)  # fmt: skip
def test_data_without_a_label_to_learn_is_refused_before_anything_is_trained(
    asked: str, values: tuple[float, float], says: str, data_of: Any
) -> None:
    data = data_of(*[(name, np.zeros((20, 16, 16), np.uint8)) for name in "ab"])
    for clip, value in zip(data.train, values, strict=True):
        clip.labels["EF"] = value
    regressor = tiny(label=asked)
    assert isinstance(regressor, DataCheck)
    with pytest.raises(TrainingError) as error:
        regressor.check_data(data)
    assert str(error.value) == says


def test_data_with_a_label_to_learn_is_not_refused(data_of: Any) -> None:
    data = data_of(*[(name, np.zeros((20, 16, 16), np.uint8)) for name in "ab"])
    data.train[1].labels["EF"] = 70.0
    tiny().check_data(data)


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


def test_of_all_looks_the_weights_that_are_best_on_validation_stay(data_of: Any, tmp_path: Path) -> None:
    """So the arms of a comparison choose by their own validation videos: other ones, and other weights stay."""
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (20, 16, 16), np.uint8)
    data = data_of(("a", frames), ("b", frames[::-1]))
    data.train[1].labels["EF"] = 70.0
    recipe = Recipe(steps=30, batch_size=4, learning_rate=0.05, optimizer="sgd", max_grad_norm=0.0)
    states, said = {}, {}
    for what, shown in (("alike", data.train), ("else", [evolve(data.train[0], labels={"EF": 20.0}), evolve(data.train[1], labels={"EF": 22.0})])):
        regressor, lines = tiny(look_every=1, recipe=recipe), list[str]()
        torch.manual_seed(0)
        regressor.fit(evolve(data, val=shown), Run(folder=tmp_path / what, seed=3, report=lines.append))
        states[what] = regressor._network.state_dict()
        said[what] = next(int(line.split()[4]) for line in lines if line.startswith("the weights of step"))
    assert said["else"] != said["alike"]
    assert min(said.values()) < 30
    assert any(not torch.equal(value, states["else"][name]) for name, value in states["alike"].items())


def test_the_published_schedule_is_a_tenth_every_fifteen_epochs(registry: Registry) -> None:
    recipe = PluginSet.find("default", registry).build(registry, "downstream_validator").recipe
    assert [_factor(step, recipe) for step in (0, 5_599, 5_600, 11_200)] == pytest.approx([1, 1, 0.1, 0.01])
    assert (recipe.steps, recipe.batch_size) == (16_800, 20)


def test_training_starts_from_torchvisions_weights_where_they_are_given(tmp_path: Path) -> None:
    torch.manual_seed(1)
    published = r2plus1d_18(weights=None)
    torch.save(published.state_dict(), tmp_path / "kinetics.pth")
    regressor = EFRegressor(start=str(tmp_path / "kinetics.pth"))
    regressor.check_training()
    network = module.make_network("r2plus1d-18", (), 55.6)
    regressor._begin_with_weights(network)
    assert torch.equal(network.stem[0].weight, published.stem[0].weight)
    assert network.fc.bias.item() == pytest.approx(55.6)


@pytest.mark.parametrize(
    ("held", "says"), [(None, "no such file"), (b"junk", "holds other weights"), ({"x": torch.zeros(1)}, "holds other weights")]
)
def test_weights_to_start_from_that_cannot_be_had_are_refused(held: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "kinetics.pth"
    if isinstance(held, bytes):
        path.write_bytes(held)
    elif held:
        torch.save(held, path)
    with pytest.raises(InputError, match=says):
        EFRegressor(start=str(path)).check_training()
    with pytest.raises(InputError, match="is for r2plus1d-18, not 'small'"):
        tiny(start=str(path)).check_training()
