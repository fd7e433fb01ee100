"""What echosdk asks of any filter, and what this one is besides."""

import echosdk
import pytest
import torch
from echosdk.testing import FilterContract
from max_correlation import MaxCorrelation


class TestMaxCorrelation(FilterContract):
    def build(self) -> MaxCorrelation:
        return MaxCorrelation()


def test_it_is_offered_under_its_name():
    assert echosdk.Registry.discover().component("privacy_filter", "max-correlation").build is MaxCorrelation


def references(number: int, seed: int) -> echosdk.References:
    items = torch.randn(number, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return echosdk.References(items=items, groups=[f"{seed}-{i}" for i in range(number)])


def test_about_as_many_strangers_are_rejected_as_its_percentile_says():
    privacy_filter = MaxCorrelation(percentile=10.0)
    privacy_filter.calibrate(references(64, 0), references(1000, 1), torch.Generator())
    assert privacy_filter.judge(references(1000, 2).items).keep.float().mean() == pytest.approx(0.9, abs=0.04)


def test_gain_and_brightness_do_not_hide_a_copy():
    privacy_filter = MaxCorrelation()
    privacy_filter.calibrate(references(64, 0), references(1000, 1), torch.Generator())
    assert not privacy_filter.judge(0.7 * references(64, 0).items + 0.3).keep.any()
