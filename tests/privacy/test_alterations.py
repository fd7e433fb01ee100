"""What the probes do to a record: each alteration is what its name says."""

from __future__ import annotations

import pytest
import torch

from echosdk.privacy.alterations import ALTERATIONS, NOISE


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 32, 40, generator=draws(1)) * 1.6 - 1


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_altered_image_is_an_image_and_the_record_stays_as_it_is(name: str, image: torch.Tensor) -> None:
    before = image.clone()
    altered = ALTERATIONS[name](image, draws())
    assert altered.shape == image.shape
    assert altered.abs().max() <= 1
    assert torch.equal(image, before)
    assert torch.equal(altered, image) is (name == "exact")
    assert torch.equal(altered, ALTERATIONS[name](image, draws()))


def test_a_shift_moves_by_one_to_four_pixels_every_way(image: torch.Tensor) -> None:
    seen = set()
    for seed in range(300):
        moved = ALTERATIONS["shift"](image, draws(seed))
        for axis in (1, 2):
            size = image.shape[axis]
            for by in (1, 2, 3, 4):
                for here, there in ((by, 0), (0, by)):
                    if torch.equal(moved.narrow(axis, here, size - by), image.narrow(axis, there, size - by)):
                        seen.add((axis, by if here else -by))
                        assert (moved.narrow(axis, 0 if here else size - by, by) == -1).all()
    assert seen == {(axis, sign * by) for axis in (1, 2) for by in (1, 2, 3, 4) for sign in (1, -1)}


def test_noise_is_of_eight_grey_levels() -> None:
    grey = torch.zeros(1, 200, 200)
    assert ALTERATIONS["noise"](grey, draws()).std().item() == pytest.approx(NOISE, rel=0.05)


def test_a_mirrored_image_is_mirrored(image: torch.Tensor) -> None:
    assert torch.equal(ALTERATIONS["mirror"](image, draws())[0, :, 0], image[0, :, -1])


def test_a_crop_enlarges_the_middle() -> None:
    image = torch.full((1, 40, 40), -1.0)
    image[:, :, 30:] = 1
    edge = (ALTERATIONS["crop"](image, draws())[0, 20] > 0).nonzero()[0].item()
    assert edge == 31  # ten pixels from the middle become eleven
