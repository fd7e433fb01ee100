"""Read the left ventricle off an image: a small segmentation network that has seen the simulation alone.

It knows nothing of a bundle: what it reads on generated images owes nothing to the networks that made them. Its
simulated patients are numbered from `FIRST` on, and are nobody that a bundle is trained or measured on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from attrs import frozen
from echosdk_phantom import LABELS, Patient, simulate
from numpy.typing import NDArray
from scipy.ndimage import label as components
from torch import nn
from torch.nn import functional

Array = NDArray[np.float64]
FIRST = 3_000_000
SIDE = 56
CAVITY, WALL = LABELS.index("LV cavity"), LABELS.index("LV wall")
FRAMES_A_PATIENT = 4
BATCH, STEPS = 32, 500
MEASURES = {
    "size": "area of the cavity, % of the image",
    "position across": "column of the cavity's centre, % of the width",
    "position down": "row of the cavity's centre, % of the height",
    "wall": "area of the wall over the cavity's outline, % of the image's side",
    "gain": "mean grey level of the image",
}
RATES = np.arange(30.0, 150.5, 0.5)  # beats a minute


class _UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) of three levels: logits of neither, cavity, wall."""

    def __init__(self, widths: Sequence[int] = (8, 16, 32)) -> None:
        super().__init__()

        def block(before: int, after: int) -> nn.Module:
            layers = [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.SiLU()]
            return nn.Sequential(*layers, nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(4, after), nn.SiLU())

        self.down = nn.ModuleList(block(before, after) for before, after in zip((1, *widths), widths, strict=False))
        pairs = [(b + a, a) for a, b in pairwise(widths)]
        self.up = nn.ModuleList(block(before, after) for before, after in reversed(pairs))
        self.end = nn.Conv2d(widths[0], 3, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x, kept = images, []
        for number, block in enumerate(self.down):
            x = block(functional.avg_pool2d(x, 2) if number else x)
            kept.append(x)
        for block, skipped in zip(self.up, reversed(kept[:-1]), strict=True):
            x = block(torch.cat([functional.interpolate(x, skipped.shape[-2:]), skipped], 1))
        return self.end(x)


@frozen
class Reader:
    """The trained network, and what is computed from its masks."""

    network: nn.Module

    @torch.no_grad()
    def read(self, frames: NDArray[np.uint8]) -> dict[str, Array]:
        """Return the `MEASURES` of frames `n h w`, each `n`; NaN where no cavity is found."""
        parts = [self.network(_small(part)).softmax(1) for part in torch.from_numpy(frames).split(64)]
        found = np.array([_geometry(each) for each in torch.cat(parts).double().numpy()])
        return {**dict(zip(list(MEASURES)[:4], found.T, strict=False)), "gain": frames.mean((1, 2)).astype(float)}

    @torch.no_grad()
    def volumes(self, video: NDArray[np.uint8]) -> Array:
        """Return the cavity's volume in each frame `t h w` by area and length (A^2 / L), in an arbitrary unit."""
        chances = torch.cat([self.network(_small(part)).softmax(1) for part in torch.from_numpy(video).split(64)])
        return np.array([_volume(each) for each in chances.double().numpy()])


def train_reader(patients: int, seed: int = 0) -> Reader:
    """Train the network on some frames each of so many simulated patients."""
    frames, masks = (torch.cat(each) for each in zip(*_simulated(patients), strict=True))
    torch.manual_seed(seed)
    network = _UNet()
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(frames), (BATCH,), generator=draw)
        loss = functional.cross_entropy(network(_altered(frames[chosen], draw)), masks[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return Reader(network.eval())


def true_measures(frames: NDArray[np.uint8], masks: NDArray[np.uint8]) -> dict[str, Array]:
    """Return the same `MEASURES` of the true masks `n h w`: what a perfect reader would read."""
    exact = np.stack([(masks != CAVITY) & (masks != WALL), masks == CAVITY, masks == WALL], 1).astype(float)
    found = np.array([_geometry(each) for each in exact])
    return {**dict(zip(list(MEASURES)[:4], found.T, strict=False)), "gain": frames.mean((1, 2)).astype(float)}


def ejection_fraction(volumes: Array) -> float:
    """Return 1 - smallest / largest volume in %, each a twentieth off the extreme; NaN where no cavity was found."""
    if not np.isfinite(volumes).all():
        return float("nan")
    least, most = np.quantile(volumes, (0.05, 0.95))
    return float(100 * (1 - least / most))


def beats_a_minute(volumes: Array, fps: float) -> float:
    """Return the rate of the sine that explains the volume curve best, by least squares."""
    if not np.isfinite(volumes).all():
        return float("nan")
    curve = volumes - volumes.mean()
    turns = 2 * np.pi * RATES[:, None] / 60 / fps * np.arange(len(curve))
    waves = np.stack([np.ones_like(turns), np.cos(turns), np.sin(turns)], -1)
    rest = [((curve - wave @ np.linalg.lstsq(wave, curve, rcond=None)[0]) ** 2).sum() for wave in waves]
    return float(RATES[int(np.argmin(rest))])


def _simulated(patients: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for number in range(FIRST, FIRST + patients):
        heart = simulate(Patient.draw(0, number), num_frames=FRAMES_A_PATIENT, fps=3.7)  # frames of all phases
        classes = np.zeros((FRAMES_A_PATIENT, SIDE, SIDE), np.int64)
        masks = heart.masks(size=SIDE)
        classes[masks == CAVITY], classes[masks == WALL] = 1, 2
        yield _small(torch.from_numpy(heart.frames)), torch.from_numpy(classes)


def _small(frames: torch.Tensor) -> torch.Tensor:
    """Return uint8 frames `n h w` as `n 1 56 56` in [-1, 1]."""
    return functional.adaptive_avg_pool2d(frames[:, None].float() / 127.5 - 1, SIDE)


def _altered(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Blur by chance, so that how sharp an image is does not decide what is read off it."""
    share = torch.rand(len(images), 1, 1, 1, generator=draw)
    blurred = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return images.lerp(blurred, share)


def _largest(chances: Array) -> Array:
    """Return the chances `h w` of the cavity, but for what does not hang together with most of it."""
    parts, count = components(chances > 0.5)
    if not count:
        return np.zeros_like(chances)
    main = np.bincount(parts.ravel(), weights=chances.ravel())[1:].argmax() + 1
    return np.where((parts == main) | (parts == 0), chances, 0.0)


def _geometry(chances: Array) -> tuple[float, float, float, float]:
    """Return size, column, row and wall, in % of the image or its side, from the chances `3 h w`."""
    cavity = _largest(chances[1])
    area, pixels = cavity.sum(), cavity.size
    if not (cavity > 0.5).any():
        return (float("nan"),) * 4
    row, column = ((cavity.sum(1 - axis) * np.arange(cavity.shape[axis])).sum() / area for axis in (0, 1))
    outline = np.hypot(*np.gradient(cavity)).sum()
    side = cavity.shape[0]
    return 100 * area / pixels, 100 * column / side, 100 * row / side, 100 * chances[2].sum() / outline / side


def _volume(chances: Array) -> float:
    """Return A^2 / L of the cavity; L is the long axis of the ellipse with the same second moments."""
    cavity = _largest(chances[1])
    if not (cavity > 0.5).any():
        return float("nan")
    place = np.stack(np.indices(cavity.shape)).reshape(2, -1)
    spread = np.cov(place, aweights=cavity.ravel(), bias=True)
    return float(cavity.sum() ** 2 / np.sqrt(np.linalg.eigvalsh(spread)[-1]))
