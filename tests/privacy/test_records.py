"""What samples say of training patients: a dataset of copies is found by every figure, one of strangers by none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from echosdk.privacy.neighbours import Records, nearest
from echosdk.privacy.records import look, nearest_counts
from echosdk.privacy.statistics import Figure

PATIENTS, FRAMES = 200, 3


def patients(number: int, seed: int, frames: int = FRAMES) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    still = torch.randn(number, 1, 24, generator=draws)
    return (still + 0.3 * torch.randn(number, frames, 24, generator=draws)).flatten(0, 1)


def records(features: torch.Tensor, frames: int = FRAMES) -> Records:
    return Records.of(features, [row // frames for row in range(len(features))])


TRAIN, OUTSIDERS = records(patients(PATIENTS, 0)), records(patients(PATIENTS, 1))


def figures(samples: Records) -> dict[str, Figure]:
    found, curves = look("latent", samples, TRAIN, OUTSIDERS, seed=0)
    assert set(curves) == {f"membership.latent.{attack}" for attack in ("near", "far", "odd")}
    return {figure.name.replace("latent.", "").removesuffix(".latent"): figure for figure in found}


@pytest.fixture(scope="module")
def copies() -> dict[str, Figure]:
    """Samples that are training records with hardly any noise, of the first 60 patients."""
    noise = torch.randn(60 * FRAMES, 24, generator=torch.Generator().manual_seed(2))
    return figures(records(patients(PATIENTS, 0)[: 60 * FRAMES] + 0.01 * noise))


@pytest.fixture(scope="module")
def strangers() -> dict[str, Figure]:
    return figures(records(patients(120, 3)))


def value(found: dict[str, Figure], name: str) -> float:
    result = found[name].value
    assert result is not None
    return result


def test_copies_are_nearer_to_training_than_to_others_and_strangers_are_not(copies: Any, strangers: Any) -> None:
    assert value(copies, "records.nearer-to-training") == 1.0
    assert 0.35 < value(strangers, "records.nearer-to-training") < 0.65


def test_copies_are_not_authentic(copies: Any, strangers: Any) -> None:
    assert value(copies, "records.authentic") == 0.0
    assert value(strangers, "records.authentic") > 0.3


def test_a_copys_second_neighbour_of_another_patient_is_far(copies: Any, strangers: Any) -> None:
    """Its second neighbour is another frame of the same patient: that one is not counted."""
    assert value(copies, "records.second-neighbour-ratio") < 0.05
    usual = value(strangers, "records.second-neighbour-ratio-of-outsiders")
    assert value(strangers, "records.second-neighbour-ratio") == pytest.approx(usual, abs=0.1)


def test_the_attack_finds_those_who_were_copied(copies: Any, strangers: Any) -> None:
    """60 of 200 were."""
    assert value(copies, "membership.near.found-at-1-percent") > 0.29
    assert value(copies, "membership.near.area") > 0.6
    low, high = strangers["membership.near.area"].interval_95
    assert low < 0.5 < high
    assert "membership.near.found-at-0.1-percent" not in copies  # of 200 outsiders, a thousandth is nobody


def test_holes_are_found_too() -> None:
    """Samples everywhere but around training patients: those who are far from all were trained on."""
    far = patients(4000, 4, frames=1)
    free = nearest(records(far, 1), TRAIN).distance > 0.45
    found = figures(records(far[torch.from_numpy(free)], 1))
    assert value(found, "membership.far.area") > 0.75
    assert value(found, "membership.near.area") == pytest.approx(1 - value(found, "membership.far.area"))


def test_coverage_counts_patients(copies: Any) -> None:
    assert value(copies, "coverage.patients") == 60 / PATIENTS
    assert value(copies, "coverage.most-on-one") == pytest.approx(1 / 60)
    assert copies["coverage.patients"].n == PATIENTS


def test_samples_that_repeat_each_other_are_duplicates(strangers: Any) -> None:
    one = patients(1, 9)
    repeated = torch.cat([one + 0.001 * torch.randn(one.shape, generator=torch.Generator().manual_seed(i)) for i in range(20)])
    assert value(figures(records(repeated)), "duplicates") == 1.0
    assert value(strangers, "duplicates") < 0.1


def test_every_figure_has_a_direction_a_number_and_an_interval(copies: Any) -> None:
    for figure in copies.values():
        assert figure.better in ("higher", "lower", "neither")
        assert figure.n > 0
        assert figure.what
        low, high = figure.interval_95
        assert low - 1e-9 <= figure.value <= high + 1e-9, figure


@pytest.mark.parametrize("size", [3, 7, 1000])
def test_nearest_records_are_the_same_in_whatever_pieces(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from echosdk.privacy import neighbours

    monkeypatch.setattr(neighbours, "ROWS", size)
    monkeypatch.setattr(neighbours, "COLUMNS", size + 2)
    one, other = records(patients(11, 5)), records(patients(13, 6))
    found = nearest(one, other)
    block = 1 - np.corrcoef(np.concatenate([patients(11, 5).numpy(), patients(13, 6).numpy()]))[:33, 33:]
    np.testing.assert_allclose(found.distance, block.min(1), atol=1e-6)
    assert found.index.tolist() == block.argmin(1).tolist()
    for row, owner in enumerate(other.owners[found.index]):
        assert found.other[row] == pytest.approx(block[row, other.owners != owner].min(), abs=1e-6)
    among_own = nearest(one, one, not_own=True)
    assert (one.owners[among_own.index] != one.owners).all()


def test_authenticity_as_defined_lets_a_patients_own_frame_count(copies: Any) -> None:
    """A sample between two frames of one patient is farther from both than they are from each other: or it is not."""
    frames = patients(PATIENTS, 0).reshape(PATIENTS, FRAMES, 24)
    between = frames[:, :2].mean(1)
    found = figures(records(between, 1))
    assert value(found, "records.authentic-of-patients") < 0.1
    assert value(copies, "records.authentic-of-patients") == 0.0


def test_a_record_is_not_its_own_nearest() -> None:
    found = nearest(TRAIN, TRAIN, not_itself=True)
    assert (found.index != np.arange(len(TRAIN))).all()
    assert (TRAIN.owners[found.index] == TRAIN.owners).mean() > 0.9  # but another frame of the patient is


def test_patients_are_counted_by_how_often_they_are_nearest() -> None:
    samples = records(patients(PATIENTS, 0)[: 60 * FRAMES])
    assert nearest_counts(samples, TRAIN) == {"0": 140, "1": 60, "2": 0, "3 to 5": 0, "6 and more": 0}
