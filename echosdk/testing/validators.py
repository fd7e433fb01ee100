"""What is asked of a downstream validator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest

from echosdk.clips.array import ArrayClip
from echosdk.interfaces import Category, DownstreamValidator, TrainingData
from echosdk.testing.data import LABELS, pixel_clips, pixel_data
from echosdk.testing.fixtures import Fitted


class ValidatorContract:
    """Subclass it, and return a new downstream validator from `build`.

    `shape` is that of one frame, `H W` or `H W 3`, `frames` how many a clip has. The clips carry a numeric label `size`
    and a category `side`. `saved` is how much a predicted number may differ, as a share of itself, between what was
    trained and what was saved.
    """

    shape: tuple[int, ...] = (32, 32)
    frames = 16
    saved = 0.05

    def build(self) -> DownstreamValidator:
        """Return a new validator, not trained."""
        raise NotImplementedError(f"{type(self).__name__}: build() is to return a new downstream validator")

    def data(self) -> TrainingData:
        """Return the clips that it is trained on."""
        return pixel_data(self.shape, self.frames)

    @pytest.fixture
    def validator(self, trained: Callable[[], Any]) -> Any:
        """Return a validator that is ready."""
        return trained()

    @pytest.fixture
    def clips(self) -> list[ArrayClip]:
        """Return clips of patients that it has not seen."""
        return list(pixel_clips(6, self.shape, 3, self.frames))

    def test_it_says_what_it_needs_of_a_clip(self, validator: Any) -> None:
        assert isinstance(validator.min_frames, int)
        assert validator.min_frames >= 1
        assert isinstance(validator.fps, int | float)
        assert math.isfinite(validator.fps)
        assert validator.fps > 0

    def test_it_predicts_labels_of_the_data_with_values_that_they_can_have(
        self, validator: Any, clips: list[ArrayClip]
    ) -> None:
        declared = {label.name: label for label in LABELS}
        for clip in clips:
            predicted = validator.predict(clip)
            assert predicted
            for name, value in predicted.items():
                assert name in declared, f"{name!r} is no label of the data"
                label = declared[name]
                if isinstance(label, Category):
                    assert value in label.values
                else:
                    assert math.isfinite(value)

    def test_the_shortest_clip_that_it_takes_is_predicted(self, validator: Any) -> None:
        (clip,) = pixel_clips(1, self.shape, 4, validator.min_frames)
        assert validator.predict(clip)

    def test_a_clip_is_predicted_by_itself(self, validator: Any, clips: list[ArrayClip]) -> None:
        forwards = [validator.predict(clip) for clip in clips]
        backwards = [validator.predict(clip) for clip in reversed(clips)]
        assert forwards == backwards[::-1]

    def test_a_clip_is_not_changed(self, validator: Any, clips: list[ArrayClip]) -> None:
        before = [(dict(clip.labels), clip.frames.copy()) for clip in clips]
        validator.score(clips)
        validator.predict(clips[0])
        for (labels, frames), clip in zip(before, clips, strict=True):
            assert clip.labels == labels
            assert (clip.frames == frames).all()

    def test_a_score_is_of_numbers(self, validator: Any, clips: list[ArrayClip]) -> None:
        score = validator.score(clips)
        assert score
        for name, value in score.items():
            assert isinstance(value, int | float), f"{name} is {type(value).__name__}"
            assert math.isfinite(value), f"{name} is {value}"

    def test_the_order_of_the_clips_changes_no_score(self, validator: Any, clips: list[ArrayClip]) -> None:
        assert validator.score(clips[::-1]) == pytest.approx(dict(validator.score(clips)))

    def test_other_labels_get_another_score(self, validator: Any, clips: list[ArrayClip]) -> None:
        right = [attrs.evolve(clip, labels={**clip.labels, **validator.predict(clip)}) for clip in clips]
        wrong = [attrs.evolve(clip, labels=_others(validator.predict(clip), i)) for i, clip in enumerate(clips)]
        assert dict(validator.score(wrong)) != pytest.approx(_finite(validator.score(right)), nan_ok=True)

    def test_what_was_saved_predicts_as_what_was_trained(
        self, fitted: Fitted, validator: Any, clips: list[ArrayClip]
    ) -> None:
        for clip in clips:
            predicted, expected = validator.predict(clip), fitted.component.predict(clip)
            assert {*predicted} == {*expected}
            for name, value in expected.items():
                assert predicted[name] == (value if isinstance(value, str) else pytest.approx(value, rel=self.saved))


def _others(labels: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return labels that are none of these."""
    declared = {label.name: label for label in LABELS}
    changed: dict[str, Any] = {}
    for name, value in labels.items():
        label = declared.get(name)
        if isinstance(label, Category):
            changed[name] = next(other for other in label.values if other != value)
        else:
            changed[name] = value + 5.0 + number
    return changed


def _finite(score: Mapping[str, float]) -> dict[str, float]:
    """A share of the labels' variance has no value where they do not vary."""
    return {name: value if math.isfinite(value) else math.nan for name, value in score.items()}
