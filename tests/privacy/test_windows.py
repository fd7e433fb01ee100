"""A video is judged in windows, against what as many frames of held-out videos come to."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from echosdk import PrivacyError
from echosdk.privacy.windows import Windows


def videos(*lengths: int) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return [torch.rand(length, generator=draws, dtype=torch.float64) for length in lengths]


def windows(held_out: list[torch.Tensor], rate: float = 0.05) -> Windows:
    return Windows.of(held_out, rate, torch.Generator().manual_seed(1))


def test_tau_is_the_kth_smallest_of_the_held_out_windows_smallest_distances() -> None:
    held_out = videos(*[9] * 40)
    smallest = sorted(video.min().item() for video in held_out)
    assert windows(held_out, 0.05).tau(9) == smallest[2]  # k = ceil(0.05 * 41) = 3
    assert windows(held_out, 0.0).tau(9) == smallest[0]
    assert windows(held_out, 1.0).tau(9) == smallest[-1]


def test_the_longer_a_window_the_smaller_its_tau() -> None:
    taus = [windows(videos(*[64] * 200)).tau(length) for length in (1, 4, 16, 64)]
    assert taus == sorted(taus, reverse=True)
    assert taus[0] > 10 * taus[-1]


def test_strangers_are_rejected_at_the_rate_whatever_the_length() -> None:
    """With a tau of whole videos a short one would hardly ever be rejected, and a long one by a short one's always."""
    held_out, strangers = videos(*[64] * 1000), torch.rand(4000, 64, generator=torch.Generator().manual_seed(9))
    for length in (1, 8, 64):
        tau = windows(held_out).tau(length)
        rejected = int((strangers[:, :length].amin(1) < tau).sum())
        low, high = stats.betabinom.ppf([1e-4, 1 - 1e-4], 4000, 51, 950)
        assert low <= rejected <= high, length


def test_where_in_a_held_out_video_the_window_lies_is_drawn() -> None:
    held_out = [torch.arange(50.0, dtype=torch.float64) for _ in range(400)]
    found = windows(held_out, 0.5).tau(10)
    assert 15 <= found <= 25  # the middle of the starts 0..40


def test_videos_that_are_too_short_are_left_out_and_where_most_are_the_gate_is_closed() -> None:
    assert windows(videos(8, 8, 4)).tau(8) == min(video.min().item() for video in videos(8, 8))
    with pytest.raises(PrivacyError) as error:
        windows(videos(8, 4, 4)).tau(8)
    assert str(error.value) == (
        "videos are judged in windows of 8 frames, and of 3 held-out patients' videos 1 are as long: too few to say how "
        "near such a window of a stranger comes; generate shorter videos (--frames), or train with longer ones"
    )
    with pytest.raises(PrivacyError, match="of 0 held-out"):
        windows([]).tau(1)
