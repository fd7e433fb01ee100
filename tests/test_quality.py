"""What `benchmarks/quality.py` counts and reads: against plain readings, and the simulation's own truth."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from echosdk_phantom import Patient, simulate


@pytest.fixture(scope="module")
def benchmarks() -> Any:
    """The modules of `benchmarks/`, which import each other by name."""
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import figures
        import quality
        import ventricle

        yield {"figures": figures, "quality": quality, "ventricle": ventricle}
    finally:
        sys.path.remove(folder)
        for name in ("figures", "quality", "ventricle", "reidentification"):
            sys.modules.pop(name, None)


@pytest.fixture
def figures(benchmarks: dict[str, ModuleType]) -> Any:
    return benchmarks["figures"]


@pytest.fixture
def ventricle(benchmarks: dict[str, ModuleType]) -> Any:
    return benchmarks["ventricle"]


def test_holms_adjustment_is_that_of_a_hand_worked_example(figures: Any) -> None:
    adjusted = figures.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def test_a_reading_that_failed_counts_for_nothing_and_the_others_are_figures_of_error(figures: Any) -> None:
    true = np.linspace(10, 80, 30)
    error = np.random.default_rng(0).normal(-1, 4, 30)
    read = np.append(true + error, np.nan)
    found = {each.name.partition(": ")[2]: each for each in figures.reading("x", np.append(true, 50), read, mae=5, r2=0.95)}
    assert {each.n for each in found.values()} == {30}
    assert found["MAE"].value == pytest.approx(np.abs(error).mean())
    assert found["bias"].value == pytest.approx(error.mean())
    assert found["R2"].value == pytest.approx(1 - (error**2).sum() / ((true - true.mean()) ** 2).sum())
    assert found["slope of read on asked for"].value == pytest.approx(np.polyfit(true, true + error, 1)[0])
    assert all(each.low < each.value < each.high for each in found.values())
    assert (found["MAE"].met, found["R2"].met, found["bias"].met) == ("yes", "yes", "")


def test_a_missing_mode_is_a_tenth_with_nobody(figures: Any) -> None:
    theirs = np.linspace(0, 1, 1000)
    assert figures.least_tenth(theirs, theirs).mean() == pytest.approx(0.1, abs=0.002)
    assert figures.least_tenth(theirs[:800], theirs).mean() == pytest.approx(0.0)
    assert figures.shift(theirs[None] + 0.5, theirs[None]) == pytest.approx(0.5 / theirs.std())
    assert figures.spread(2 * theirs[None], theirs[None]) == pytest.approx(2.0)


def test_fine_power_is_that_of_waves_shorter_than_four_pixels(benchmarks: dict[str, Any]) -> None:
    import torch

    across = torch.arange(64.0)
    waves = torch.stack([torch.sin(2 * torch.pi * across * turns)[None, None].expand(1, 64, 64) for turns in (0.1, 0.4)])
    coarse, fine = benchmarks["quality"].fine_power(waves)
    assert coarse < 1e-3 * fine


def test_true_masks_give_the_ventricle_that_was_simulated(ventricle: Any) -> None:
    """The reader's own error is measured by `quality.py`; this is what is computed from masks that have none."""
    heart = simulate(Patient.draw(0, 5), num_frames=32, fps=16)
    masks = heart.masks(size=ventricle.SIDE)
    measures = ventricle.true_measures(heart.frames, masks)
    cavity = masks == ventricle.CAVITY
    assert measures["size"] == pytest.approx(100 * cavity.mean((1, 2)), rel=1e-6)
    rows = np.arange(ventricle.SIDE)
    assert measures["position down"][0] == pytest.approx(
        100 / ventricle.SIDE * (cavity[0].sum(1) @ rows) / cavity[0].sum(), rel=1e-6
    )
    volumes = np.array([ventricle._volume(np.stack([~each, each, each]).astype(float)) for each in cavity])
    assert ventricle.ejection_fraction(volumes) == pytest.approx(heart.ejection_fraction, abs=6)
    assert ventricle.beats_a_minute(volumes, 16) == pytest.approx(heart.heart_rate, abs=4)


def test_what_holds_no_ventricle_is_not_read(ventricle: Any) -> None:
    empty = np.zeros((3, ventricle.SIDE, ventricle.SIDE))
    assert np.isnan(ventricle._geometry(empty)).all()
    assert np.isnan(ventricle.ejection_fraction(np.array([1.0, np.nan])))
