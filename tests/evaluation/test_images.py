"""Measures of copies agree with scikit-image, on values from 0 to 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import metrics

from echosdk.evaluation.evaluate import _reconstruction
from echosdk.evaluation.images import measure_copies, signal_to_noise, squared_error, structural_similarity
from echosdk.evaluation.measurement import NotComputed
from echosdk.evaluation.seen import Seen, Tools


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def pair(request):
    images = torch.rand(3, request.param, 40, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    return images, (images + 0.2 * noise).clamp(-1, 1)


def as_arrays(images: torch.Tensor) -> list[np.ndarray]:
    return [((image.double() + 1) / 2).numpy() for image in images]


def test_ssim_is_that_of_scikit_image(pair):
    theirs = [
        metrics.structural_similarity(
            a, b, channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(*map(as_arrays, pair), strict=True)
    ]
    assert structural_similarity(*pair) == pytest.approx(theirs, abs=1e-6)


def test_squared_error_and_signal_to_noise_are_those_of_scikit_image(pair):
    arrays = list(zip(*map(as_arrays, pair), strict=True))
    assert squared_error(*pair) == pytest.approx([metrics.mean_squared_error(a, b) for a, b in arrays], rel=1e-5)
    theirs = [metrics.peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in arrays]
    assert signal_to_noise(*pair) == pytest.approx(theirs, rel=1e-5)


def test_each_measure_says_its_direction_number_and_interval(pair):
    found = {each.name: each for each in measure_copies(*pair, of="VAE", against="held-out")}
    assert set(found) == {"MSE (VAE)", "MAE (VAE)", "SSIM (VAE)", "PSNR in dB (VAE)"}
    assert found["SSIM (VAE)"].direction == "higher"
    assert found["MSE (VAE)"].direction == "lower"
    assert all(each.n == 3 and each.low <= each.value <= each.high for each in found.values())


class Fades:
    """An encoder whose images come back nearer to grey."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents * 0.9


def test_that_frames_are_too_small_for_ssim_is_said_once_for_both_splits():
    tools = Tools(encoder=Fades(), encoder_name="VAE")
    frames = [*np.random.default_rng(0).integers(0, 256, (3, 10, 20), dtype=np.uint8)]
    for against in ("train", "held-out"):
        found = _reconstruction(Seen(frames=frames), against, tools, 3, 0)
        assert [(each.name.partition(" ")[0], each.against) for each in found] == [
            (name, against) for name in ("MSE", "MAE", "PSNR")
        ]
    missing = NotComputed(name="SSIM (VAE)", why="its window is of 11x11 pixels, and frames are of 10x20")
    assert tools.missing.count(missing) == 1
