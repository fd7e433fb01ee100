"""What benchmarks/memorisation.py counts: whose heart a still shows, and what its drawing says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from echosdk_phantom import Patient

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import copies
import memorisation

EVERYBODY = [Patient.draw(0, number) for number in range(200)]


@pytest.fixture
def reader() -> copies.Reader:
    """Reads half of the anatomy without error; what it says of the other half is noise."""

    class Network(torch.nn.Module):
        def forward(self, stills: torch.Tensor) -> torch.Tensor:
            read = stills.flatten(1).clone()
            read[:, 1::2] = 100 * torch.randn(read[:, 1::2].shape, generator=torch.Generator().manual_seed(0))
            return read

    explained = np.full(len(copies.RANGES), 0.99)
    explained[1::2] = 0
    return copies.Reader(Network(), explained)


def test_anatomy_is_scaled_to_variance_one() -> None:
    drawn = copies.anatomy(EVERYBODY)
    assert np.abs(drawn.mean(0)).max() < 0.3
    assert drawn.std(0) == pytest.approx(np.ones(len(copies.RANGES)), abs=0.15)


def test_a_heart_is_nearest_to_its_own_patient_by_what_is_read_well(reader: copies.Reader) -> None:
    shown = torch.from_numpy(0.99 * copies.anatomy(EVERYBODY[:20])).float()  # as regression shrinks it
    away = reader.distances(shown, EVERYBODY[:20])
    assert (away.argmin(1) == np.arange(20)).all()
    assert np.diag(away).max() < 1e-6
    assert away[~np.eye(20, dtype=bool)].min() > 0.5


def test_the_network_learns_to_read_what_is_there() -> None:
    true = torch.from_numpy(copies.anatomy(EVERYBODY * 5)[:, :3]).float()
    seen = torch.randn(len(true), 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.1 + true[..., None, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "STEPS", 150)
        network = copies._learnt(seen, true)
    error = (copies._read(network, seen) - true).square().mean()
    assert error < 0.2


def test_the_drawing_shows_every_filter_with_its_interval() -> None:
    def share(value: float) -> dict[str, Any]:
        return {"value": value, "interval_95": [value - 0.1, value + 0.1], "n": 10}

    rows = [
        {"filter": name, "references": "few", "copies rejected": share(0.8), "strangers rejected": share(0.1)}
        for name in memorisation.FILTERS
    ]
    drawn = memorisation.drawing(rows)
    assert all(what in drawn for what in memorisation.FILTERS.values())
    assert drawn.count("<circle") == 2 * len(rows) + len(memorisation.INKS)
    left, wide = 360, 320
    assert f'd="M{left + wide * 0.7:.1f} ' in drawn
    assert f'cx="{left + wide * 0.8:.1f}"' in drawn
