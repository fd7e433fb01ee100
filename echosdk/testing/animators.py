"""What is asked of a video animator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from echosdk.interfaces import Conditions, TrainingData, VideoAnimator
from echosdk.testing.data import conditions, generators, patients, training_data
from echosdk.testing.fixtures import Fitted

VIDEOS = 3


class AnimatorContract:
    """Subclass it, and return a new video animator from `build`.

    `shape` is that of one latent frame, `c h w`. `reads_labels` is False for one that ignores its conditions, and None
    where that is not known.
    `tolerance` is how much a prediction may differ between one batch and another, `saved` between what was trained and
    what was saved.
    """

    shape = (4, 8, 8)
    reads_labels: bool | None = True
    tolerance = 1e-4
    saved = 0.05

    def build(self) -> VideoAnimator:
        """Return a new animator, not trained."""
        raise NotImplementedError(f"{type(self).__name__}: build() is to return a new video animator")

    def data(self) -> TrainingData:
        """Return the clips that it is trained on."""
        return training_data(self.shape)

    @pytest.fixture
    def animator(self, trained: Callable[[], Any]) -> Any:
        """Return an animator that is ready."""
        return trained()

    @pytest.fixture
    def stills(self) -> torch.Tensor:
        """Return one still a video: `b c h w`."""
        return patients(VIDEOS, self.shape, seed=7)[:, 0].contiguous()

    def test_noise_has_the_length_that_is_asked_for(self, animator: Any) -> None:
        assert isinstance(animator.window, int)
        assert animator.window >= 1
        for num_frames in (1, animator.window, 2 * animator.window + 1):
            denoising = animator.begin(num_frames, generators(0, 1))
            assert tuple(denoising.latents.shape) == (2, num_frames, *self.shape)
            assert len(denoising.timesteps) >= 1

    def test_each_video_has_the_noise_of_its_own_generator(self, animator: Any) -> None:
        together = animator.begin(3, generators(0, 1, 2)).latents
        alone = [animator.begin(3, generators(seed)).latents for seed in (0, 1, 2)]
        assert torch.equal(together, torch.cat(alone))

    def test_a_prediction_has_the_shape_of_its_window(self, animator: Any, stills: torch.Tensor) -> None:
        for length in sorted({1, animator.window // 2 or 1, animator.window}):
            predicted = _predict(animator, stills, conditions(VIDEOS), length)
            assert tuple(predicted.shape) == (VIDEOS, length, *self.shape)
            assert torch.isfinite(predicted).all()
            assert not predicted.requires_grad, "wrap predict() in torch.no_grad()"

    def test_a_video_is_predicted_by_itself(self, animator: Any, stills: torch.Tensor) -> None:
        wanted = conditions(VIDEOS)
        together = _predict(animator, stills, wanted)
        alone = [_predict(animator, stills, wanted, own=slice(i, i + 1)) for i in range(VIDEOS)]
        torch.testing.assert_close(together, torch.cat(alone), rtol=self.tolerance, atol=self.tolerance)

    def test_the_same_window_gets_the_same_prediction_again(self, animator: Any, stills: torch.Tensor) -> None:
        first, second = (_predict(animator, stills.clone(), conditions(VIDEOS)) for _ in range(2))
        assert torch.equal(first, second)

    def test_nothing_that_it_is_shown_is_changed(self, animator: Any, stills: torch.Tensor) -> None:
        denoising = animator.begin(animator.window, generators(*range(VIDEOS)))
        latents, still, wanted = denoising.latents.clone(), stills.clone(), conditions(VIDEOS)
        animator.predict(latents, denoising.timesteps[0], still, wanted)
        assert torch.equal(latents, denoising.latents), "predict() changed the latents"
        assert torch.equal(still, stills), "predict() changed the stills"
        assert wanted == conditions(VIDEOS), "predict() changed the conditions"

    def test_the_still_decides_the_prediction(self, animator: Any, stills: torch.Tensor) -> None:
        wanted = conditions(VIDEOS)
        assert not torch.equal(_predict(animator, stills, wanted), _predict(animator, stills.flip(0), wanted))

    def test_labels_decide_the_prediction_where_it_reads_them(self, animator: Any, stills: torch.Tensor) -> None:
        wanted = conditions(VIDEOS)
        same = torch.equal(_predict(animator, stills, wanted), _predict(animator, stills, wanted[::-1]))
        if same and self.reads_labels is None:
            pytest.skip("it ignores its labels")
        assert same is not self.reads_labels, "say reads_labels = False if it ignores them" if same else "it reads them"

    def test_two_videos_that_are_denoised_at_once_do_not_meet(self, animator: Any, stills: torch.Tensor) -> None:
        alone = _denoise(animator, stills, generators(0, 1, 2))
        first, second = (animator.begin(animator.window, generators(*seeds)) for seeds in ((0, 1, 2), (3, 4, 5)))
        for timestep in first.timesteps:
            for denoising in (second, first):
                denoising.step(animator.predict(denoising.latents, timestep, stills, conditions(VIDEOS)), timestep)
        torch.testing.assert_close(first.latents, alone, rtol=self.tolerance, atol=self.tolerance)

    def test_a_step_returns_the_latents_that_it_leaves(self, animator: Any, stills: torch.Tensor) -> None:
        denoising = animator.begin(animator.window, generators(0, 1, 2))
        for timestep in denoising.timesteps:
            predicted = animator.predict(denoising.latents, timestep, stills, conditions(VIDEOS))
            stepped = denoising.step(predicted, timestep)
            assert torch.equal(stepped, denoising.latents)
            assert stepped.shape == predicted.shape
        assert torch.isfinite(denoising.latents).all()

    def test_what_was_saved_animates_as_what_was_trained(
        self, fitted: Fitted, animator: Any, stills: torch.Tensor
    ) -> None:
        made, expected = (_predict(each, stills, conditions(VIDEOS)) for each in (animator, fitted.component))
        torch.testing.assert_close(made, expected, rtol=self.saved, atol=self.saved)


def _predict(
    animator: Any,
    stills: torch.Tensor,
    wanted: Sequence[Conditions],
    length: int = 0,
    own: slice = slice(None),
) -> torch.Tensor:
    """Predict the first timestep of a window of `length` frames, or of a whole one, for some of the videos."""
    denoising = animator.begin(length or animator.window, generators(*range(len(stills))))
    predicted: torch.Tensor = animator.predict(denoising.latents[own], denoising.timesteps[0], stills[own], wanted[own])
    return predicted


def _denoise(animator: Any, stills: torch.Tensor, noise: Sequence[torch.Generator]) -> torch.Tensor:
    denoising = animator.begin(animator.window, noise)
    for timestep in denoising.timesteps:
        denoising.step(animator.predict(denoising.latents, timestep, stills, conditions(len(stills))), timestep)
    latents: torch.Tensor = denoising.latents
    return latents
