"""What is asked of a privacy filter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from echosdk.interfaces import PrivacyFilter, References, TrainingData, Verdict
from echosdk.testing.data import patients, references, training_data
from echosdk.testing.fixtures import Fitted

TRAIN, HOLDOUT, STRANGERS = 0, 10, 20
"""Seeds: no two draw the same patients."""


class FilterContract:
    """Subclass it, and return a new filter from `build`.

    `shape` is that of one item that it is shown: latents `c h w`, or images `k H W` where its space is "image".
    `tolerance` is how much a distance may differ, as a share of itself, between one batch and another, and `saved`
    between what was trained and what was saved.
    """

    shape = (4, 16, 16)
    tolerance = 1e-4
    saved = 0.05

    def build(self) -> PrivacyFilter:
        """Return a new filter, neither trained nor calibrated."""
        raise NotImplementedError(f"{type(self).__name__}: build() is to return a new filter")

    def data(self) -> TrainingData:
        """Return the clips of latents that it is trained on, if it learns."""
        return training_data(self.shape)

    @pytest.fixture
    def train(self) -> References:
        """Several frames of each training patient."""
        return references(24, self.shape, TRAIN)

    @pytest.fixture
    def calibrated(self, trained: Callable[[], Any], train: References) -> Any:
        """Return a filter that is ready to judge."""
        return _calibrate(trained(), train, self.shape)

    @pytest.fixture
    def strangers(self) -> torch.Tensor:
        """One frame each of patients that the filter has never seen."""
        return references(120, self.shape, STRANGERS, frames=1).items

    def test_it_says_what_it_wants_to_see(self) -> None:
        assert self.build().space in ("latent", "image")

    def test_a_verdict_has_a_finite_distance_and_an_answer_for_each_item(
        self, calibrated: Any, strangers: torch.Tensor
    ) -> None:
        verdict = calibrated.judge(strangers)
        assert isinstance(verdict, Verdict)
        assert verdict.keep.dtype == torch.bool
        assert verdict.keep.shape == verdict.distance.shape == (len(strangers),)
        assert torch.isfinite(verdict.distance).all()
        assert isinstance(verdict.tau, int | float)
        assert math.isfinite(verdict.tau)

    def test_what_is_kept_is_at_least_tau_away(self, calibrated: Any, strangers: torch.Tensor) -> None:
        verdict = calibrated.judge(strangers)
        assert torch.equal(verdict.keep, verdict.distance >= float(verdict.tau))

    def test_copies_of_any_reference_are_rejected(self, calibrated: Any, train: References) -> None:
        kept = calibrated.judge(train.items.clone()).keep
        assert not kept.any(), f"{int(kept.sum())} of {len(kept)} copies of training references are kept"

    def test_most_strangers_are_kept(self, calibrated: Any, strangers: torch.Tensor) -> None:
        kept = calibrated.judge(strangers).keep
        assert kept.float().mean() > 0.5, f"{int(kept.sum())} of {len(kept)} strangers are kept"

    def test_an_item_is_judged_by_itself(self, calibrated: Any, strangers: torch.Tensor) -> None:
        together = calibrated.judge(strangers).distance
        parts = torch.cat([calibrated.judge(part).distance for part in strangers.split(2)])
        torch.testing.assert_close(together, parts, rtol=self.tolerance, atol=self.tolerance * 1e-3)

    def test_the_same_items_get_the_same_answer_again(self, calibrated: Any, strangers: torch.Tensor) -> None:
        first, second = (calibrated.judge(strangers.clone()) for _ in range(2))
        assert torch.equal(first.distance, second.distance)
        assert torch.equal(first.keep, second.keep)

    def test_nothing_that_it_is_shown_is_changed(self, trained: Any, strangers: torch.Tensor) -> None:
        train, shown = references(24, self.shape, TRAIN), strangers.clone()
        _calibrate(trained(), train, self.shape).judge(shown)
        assert torch.equal(shown, strangers), "judge() changed the stills"
        assert torch.equal(train.items, references(24, self.shape, TRAIN).items), "calibrate() changed the references"

    def test_one_item_is_judged_and_so_are_none(self, calibrated: Any, strangers: torch.Tensor) -> None:
        for number in (1, 0):
            verdict = calibrated.judge(strangers[:number])
            assert verdict.keep.shape == verdict.distance.shape == (number,)

    def test_the_same_references_calibrate_it_alike(self, trained: Callable[[], Any], strangers: torch.Tensor) -> None:
        both = (_calibrate(trained(), references(24, self.shape, TRAIN), self.shape) for _ in range(2))
        first, second = (one.judge(strangers.clone()) for one in both)
        assert float(first.tau) == pytest.approx(float(second.tau), rel=self.tolerance)
        torch.testing.assert_close(first.distance, second.distance, rtol=self.tolerance, atol=self.tolerance * 1e-3)

    def test_what_was_saved_judges_as_what_was_trained(
        self, fitted: Fitted, calibrated: Any, train: References, strangers: torch.Tensor
    ) -> None:
        expected = _calibrate(fitted.component, train, self.shape).judge(strangers).distance
        torch.testing.assert_close(calibrated.judge(strangers).distance, expected, rtol=self.saved, atol=1e-3)


def _calibrate(component: Any, train: References, shape: tuple[int, int, int]) -> Any:
    held_out = patients(80, shape, HOLDOUT)[:, 0].contiguous()
    holdout = References(items=held_out, groups=[f"held-out-{i}" for i in range(len(held_out))])
    component.calibrate(train, holdout, torch.Generator().manual_seed(0))
    return component
