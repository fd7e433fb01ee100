"""What is asked of an image prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from echosdk.interfaces import ImagePrior, TrainingData
from echosdk.testing.data import conditions, generators, training_data
from echosdk.testing.fixtures import Fitted

STILLS = 5


class PriorContract:
    """Subclass it, and return a new image prior from `build`.

    `shape` is that of one still, `c h w`; a prior that learns nothing says which stills it draws. `tolerance` is how
    much a still may differ between one batch and another, `saved` between what was trained and what was saved.
    """

    shape = (4, 8, 8)
    tolerance = 1e-4
    saved = 0.05

    def build(self) -> ImagePrior:
        """Return a new prior, not trained."""
        raise NotImplementedError(f"{type(self).__name__}: build() is to return a new image prior")

    def data(self) -> TrainingData:
        """Return the clips that it is trained on."""
        return training_data(self.shape)

    @pytest.fixture
    def prior(self, trained: Callable[[], Any]) -> Any:
        """Return a prior that is ready to draw."""
        return trained()

    def test_it_draws_one_still_for_each_generator(self, prior: Any) -> None:
        for number in (1, STILLS):
            drawn = prior.sample(generators(*range(number)), conditions(number))
            assert tuple(drawn.shape) == (number, *self.shape)
            assert torch.isfinite(drawn).all()

    def test_stills_ask_for_no_gradient(self, prior: Any) -> None:
        assert not prior.sample(generators(0), conditions(1)).requires_grad, "wrap sample() in torch.no_grad()"

    def test_a_still_depends_on_its_own_generator_and_conditions_only(self, prior: Any) -> None:
        wanted = conditions(STILLS)
        together = prior.sample(generators(*range(STILLS)), wanted)
        alone = [prior.sample(generators(seed), [wanted[seed]]) for seed in range(STILLS)]
        torch.testing.assert_close(together, torch.cat(alone), rtol=self.tolerance, atol=self.tolerance)

    def test_the_same_generators_draw_the_same_stills_again(self, prior: Any) -> None:
        first, second = (prior.sample(generators(0, 1), conditions(2)) for _ in range(2))
        assert torch.equal(first, second)

    def test_other_generators_draw_other_stills(self, prior: Any) -> None:
        wanted = conditions(1) * STILLS
        drawn = prior.sample(generators(*range(STILLS)), wanted)
        assert torch.pdist(drawn.flatten(1)).amin() > 0

    def test_conditions_are_not_changed(self, prior: Any) -> None:
        shown = conditions(2)
        prior.sample(generators(0, 1), shown)
        assert shown == conditions(2)

    def test_what_was_saved_draws_as_what_was_trained(self, fitted: Fitted, prior: Any) -> None:
        drawn, expected = (each.sample(generators(0, 1), conditions(2)) for each in (prior, fitted.component))
        torch.testing.assert_close(drawn, expected, rtol=self.saved, atol=self.saved)
