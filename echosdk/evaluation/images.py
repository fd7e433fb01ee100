"""How near images come to those that they are copies of. Images are `n k H W` in [-1, 1], compared as 0 to 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from echosdk.evaluation.intervals import BOOTSTRAP, mean_interval
from echosdk.evaluation.measurement import Direction, Measured, NotComputed

Values = NDArray[Any]
SMALLEST = 11
"""The side of the window of SSIM (Wang et al. 2004)."""


def squared_error(images: torch.Tensor, copies: torch.Tensor) -> Values:
    """Return each image's mean squared error `n`."""
    return _numbers(((images - copies) / 2).square().flatten(1).mean(1))


def absolute_error(images: torch.Tensor, copies: torch.Tensor) -> Values:
    """Return each image's mean absolute error `n`."""
    return _numbers(((images - copies) / 2).abs().flatten(1).mean(1))


def signal_to_noise(images: torch.Tensor, copies: torch.Tensor) -> Values:
    """Return each image's peak signal-to-noise ratio `n`, in dB; infinite for an exact copy."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    ratio = peak_signal_noise_ratio(
        _unit(copies), _unit(images), data_range=1.0, reduction="none", dim=tuple(range(1, images.ndim))
    )
    return _numbers(ratio)


def structural_similarity(images: torch.Tensor, copies: torch.Tensor) -> Values:
    """Return each image's SSIM `n`: Gaussian windows of 11 pixels, sigma 1.5, whole ones only (Wang et al. 2004)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, everywhere = structural_similarity_index_measure(
        _unit(copies), _unit(images), data_range=1.0, sigma=1.5, reduction="none", return_full_image=True
    )
    edge = SMALLEST // 2
    return _numbers(everywhere[..., edge:-edge, edge:-edge].flatten(1).mean(1))


COPY_MEASURES: tuple[tuple[str, Direction, Callable[[torch.Tensor, torch.Tensor], Values]], ...] = (
    ("MSE", "lower", squared_error),
    ("MAE", "lower", absolute_error),
    ("SSIM", "higher", structural_similarity),
    ("PSNR in dB", "higher", signal_to_noise),
)


def measure_copies(
    images: torch.Tensor, copies: torch.Tensor, *, of: str, against: str, seed: int = 0
) -> list[Measured | NotComputed]:
    """Measure reconstructions `n k H W`, each of an image of another patient; SSIM where its window fits."""
    found: list[Measured | NotComputed] = []
    height, width = images.shape[-2:]
    for name, direction, measure in COPY_MEASURES:
        if measure is structural_similarity and min(height, width) < SMALLEST:
            why = f"its window is of {SMALLEST}x{SMALLEST} pixels, and frames are of {height}x{width}"
            found.append(NotComputed(name=f"{name} ({of})", why=why))
        else:
            found.append(measure_values(measure(images, copies), f"{name} ({of})", direction, against, seed))
    return found


def measure_values(values: Values, name: str, direction: Direction, against: str, seed: int = 0) -> Measured:
    """Return the mean of independent values, with its bootstrap interval."""
    low, high = mean_interval(values, seed)
    return Measured(
        name=name,
        direction=direction,
        n=len(values),
        value=float(values.mean()),
        low=low,
        high=high,
        interval=BOOTSTRAP,
        against=against,
    )


def _unit(images: torch.Tensor) -> torch.Tensor:
    return (images.double() + 1) / 2


def _numbers(values: torch.Tensor) -> Values:
    return np.atleast_1d(values.double().cpu().numpy())
