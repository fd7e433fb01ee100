"""What is asked of a filter: copies rejected, strangers kept, each item judged by itself, and nothing changed."""

import echosdk
import pytest
import torch
from max_correlation import MaxCorrelation


def stills(number: int, seed: int) -> torch.Tensor:
    """Draw smooth random latents, of a patient each."""
    coarse = torch.randn(number, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=14, mode="bilinear")


@pytest.fixture
def calibrated() -> MaxCorrelation:
    privacy_filter = MaxCorrelation()
    train, holdout = (
        echosdk.References(items=stills(number, seed), groups=[f"{seed}-{i}" for i in range(number)])
        for seed, number in enumerate((64, 200))
    )
    privacy_filter.calibrate(train, holdout, torch.Generator().manual_seed(0))
    return privacy_filter


def test_it_is_offered_under_its_name():
    assert echosdk.Registry.discover().component("privacy_filter", "max-correlation").build is MaxCorrelation


def test_copies_are_rejected(calibrated):
    copies = stills(64, seed=0)
    assert not calibrated.judge(copies).keep.any()
    assert not calibrated.judge(copies + 0.05 * torch.randn(copies.shape)).keep.any()


def test_about_one_stranger_in_twenty_is_rejected(calibrated):
    assert calibrated.judge(stills(1000, seed=2)).keep.float().mean() == pytest.approx(0.95, abs=0.03)


def test_a_still_is_judged_by_itself_and_not_changed(calibrated):
    shown = stills(8, seed=3)
    together = calibrated.judge(shown).distance
    torch.testing.assert_close(together, torch.cat([calibrated.judge(still[None]).distance for still in shown]))
    assert torch.equal(shown, stills(8, seed=3))
