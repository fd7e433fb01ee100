"""What somebody, or a model, may do to a record without making it another's. Images `k H W` in [-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

Alteration = Callable[[torch.Tensor, torch.Generator], torch.Tensor]

NOISE, GAIN, DEGREES, CROP, SHIFTS = 8 / 127.5, 1.25, 5.0, 0.9, (1, 2, 3, 4)


def exact(image: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    return image


def noise(image: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Add Gaussian noise of 8 grey levels."""
    return (image + NOISE * torch.randn(image.shape, generator=draws)).clamp(-1, 1)


def gain(image: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Make every grey level 1.25 times as bright."""
    return ((image + 1) * GAIN - 1).clamp(-1, 1)


def shift(image: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Move the image by 1 to 4 pixels in one of the four directions; what comes in is black."""
    by = SHIFTS[int(torch.randint(len(SHIFTS), (), generator=draws))]
    axis, sign = divmod(int(torch.randint(4, (), generator=draws)), 2)
    moved = torch.full_like(image, -1)
    size = image.shape[1 + axis]
    here, there = (by, 0) if sign else (0, by)
    moved.narrow(1 + axis, here, size - by).copy_(image.narrow(1 + axis, there, size - by))
    return moved


def rotation(image: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Turn the image by 5 degrees, one way or the other."""
    sign = 1 if torch.rand((), generator=draws) < 0.5 else -1
    angle = sign * math.radians(DEGREES)
    return _warped(image, [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]])


def crop(image: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Enlarge the middle nine tenths of each side to the whole."""
    return _warped(image, [[CROP, 0, 0], [0, CROP, 0]])


def mirror(image: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    return image.flip(-1)


ALTERATIONS: Mapping[str, Alteration] = {
    "exact": exact,
    "noise": noise,
    "gain": gain,
    "shift": shift,
    "rotation": rotation,
    "crop": crop,
    "mirror": mirror,
}


def _warped(image: torch.Tensor, matrix: list[list[float]]) -> torch.Tensor:
    grid = functional.affine_grid(torch.tensor([matrix]), [1, *image.shape], align_corners=False)
    light = functional.grid_sample(image[None] + 1, grid, padding_mode="zeros", align_corners=False)
    return (light[0] - 1).clamp(-1, 1)
