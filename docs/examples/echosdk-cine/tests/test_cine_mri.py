"""What echosdk asks of any data source, and that the pictures show what the labels say."""

import echosdk
import numpy as np
import pytest
from attrs import evolve
from cine_mri import FIELD, SLICES, CineMRI, Patient, render
from echosdk.testing import SourceContract

SIZE = 96


class TestCineMRI(SourceContract):
    def build(self) -> CineMRI:
        return CineMRI(patients=5, frames=4, size=24)

    def build_other(self) -> CineMRI:
        return CineMRI(patients=5, frames=4, size=24, seed=1)


def test_it_is_offered_with_its_plugin_set():
    registry = echosdk.Registry.discover()
    assert registry.component("data_source", "cine-mri").build is CineMRI
    assert registry.resource("plugin_set", "cine-tiny").location.endswith("cine_tiny.toml")


def cavity_mm2(image: np.ndarray, patient: Patient) -> float:
    """Add up the bright pixels about the left ventricle's middle."""
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) * FIELD / SIZE - FIELD / 2
    near = np.hypot(x - patient.place[0], y - patient.place[1]) < patient.radius + patient.wall / 2
    return float((image[near] > 120).sum()) * (FIELD / SIZE) ** 2


@pytest.mark.parametrize("ejection_fraction", [25.0, 45.0, 70.0])
@pytest.mark.parametrize("where", SLICES)
def test_the_cavity_empties_by_the_ejection_fraction(where: str, ejection_fraction: float):
    patient = evolve(Patient.draw(0, 3), ejection_fraction=ejection_fraction, right=0.0, gain=0.0)
    areas = [cavity_mm2(image, patient) for image in render(patient, where, 20, SIZE, noise=0.0)]
    assert areas[0] == max(areas)
    assert 100 * (1 - min(areas) / areas[0]) == pytest.approx(ejection_fraction, abs=4)


def test_a_thicker_wall_is_a_wider_dark_ring():
    thin, thick = (
        render(evolve(Patient.draw(0, 3), wall=wall, right=0.0, gain=0.0), "mid", 1, SIZE, noise=0.0)[0]
        for wall in (6.0, 14.0)
    )
    dark = [int(((image > 40) & (image < 75)).sum()) for image in (thin, thick)]
    assert dark[1] > 1.8 * dark[0]
