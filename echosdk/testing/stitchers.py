"""What is asked of a stitcher, with animators of which it is known what comes out."""

from __future__ import annotations

import pytest
import torch

from echosdk.clips.images import to_frames
from echosdk.evaluation.continuity import seam_ratio
from echosdk.interfaces import Stitcher, VideoAnimator
from echosdk.testing.known_animators import Swinging, Witness

WINDOW = 16


class StitcherContract:
    """Subclass it, and return a new stitcher from `build`."""

    def build(self) -> Stitcher:
        """Return a new stitcher."""
        raise NotImplementedError(f"{type(self).__name__}: build() is to return a new stitcher")

    @pytest.mark.parametrize("num_frames", [1, WINDOW - 3, WINDOW, WINDOW + 1, 2 * WINDOW, 3 * WINDOW + 5])
    def test_it_makes_videos_of_any_length(self, num_frames: int) -> None:
        made = _animate(self.build(), Swinging(WINDOW), num_frames, videos=2)
        assert made.shape == (2, num_frames, 1, 4, 4)
        assert torch.isfinite(made).all()

    def test_no_window_is_longer_than_the_animators(self) -> None:
        animator = Swinging(WINDOW)
        _animate(self.build(), animator, 2 * WINDOW, videos=1)
        assert animator.longest <= WINDOW

    def test_the_whole_video_is_stepped_once_at_every_timestep(self) -> None:
        animator = Swinging(WINDOW)
        _animate(self.build(), animator, 2 * WINDOW, videos=1)
        (denoising,) = animator.begun
        assert denoising.steps == [(timestep, (1, 2 * WINDOW, 1, 4, 4)) for timestep in denoising.timesteps]

    def test_windows_are_joined_in_the_order_of_their_frames(self) -> None:
        animator = Witness(WINDOW)
        _animate(self.build(), animator, 2 * WINDOW + 3, videos=1)
        (denoising,) = animator.begun
        torch.testing.assert_close(denoising.predicted, denoising.latents)

    def test_every_window_gets_the_still_and_the_condition_of_its_own_video(self) -> None:
        animator = Witness(WINDOW)
        _animate(self.build(), animator, 3 * WINDOW, videos=4)
        assert {video for video, _, _ in animator.seen} == {0, 1, 2, 3}
        for video, still, condition in animator.seen:
            assert (video, video) == (still, condition)

    def test_a_video_does_not_depend_on_the_others(self) -> None:
        together = _animate(self.build(), Swinging(WINDOW), 2 * WINDOW, videos=3)
        first = _animate(self.build(), Swinging(WINDOW), 2 * WINDOW, videos=1)
        torch.testing.assert_close(together[:1], first, rtol=1e-4, atol=1e-4)

    def test_the_same_generators_make_the_same_video_again(self) -> None:
        stitcher = self.build()
        first, second = (_animate(stitcher, Swinging(WINDOW), 2 * WINDOW, videos=2) for _ in range(2))
        assert torch.equal(first, second)

    def test_stills_are_not_changed(self) -> None:
        shown = _stills(2)
        self.build().animate(Swinging(WINDOW), shown, _conditions(2), 2 * WINDOW, _generators(2))
        assert torch.equal(shown, _stills(2))

    def test_motion_goes_on_where_windows_meet(self) -> None:
        made = _animate(self.build(), Swinging(WINDOW), 4 * WINDOW, videos=32)
        ratio = seam_ratio([to_frames(video) for video in made], range(WINDOW, 4 * WINDOW, WINDOW))
        assert ratio.within(0.2), f"motion at the windows' ends is {ratio.ratio:.2f} times that elsewhere"


def _animate(stitcher: Stitcher, animator: VideoAnimator, num_frames: int, videos: int) -> torch.Tensor:
    return stitcher.animate(animator, _stills(videos), _conditions(videos), num_frames, _generators(videos))


def _stills(number: int) -> torch.Tensor:
    return torch.arange(number).float()[:, None, None, None].expand(number, 1, 4, 4).clone()


def _conditions(number: int) -> list[dict[str, float | str]]:
    return [{"video": float(i)} for i in range(number)]


def _generators(number: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(number)]
