"""Animators without a network, for contract tests of stitchers: what they are shown, and what comes of it, is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from attrs import define, field

from echosdk.interfaces import Conditions

STEPS = 24
PERIOD = 10  # frames: seams at multiples of half a window fall at different phases


@define
class Relaxing:
    """Denoising that goes the straight way from noise to the prediction, and counts what it is given."""

    latents: torch.Tensor
    steps: list[tuple[int, tuple[int, ...]]] = field(factory=list)  # timestep, shape of the prediction
    timesteps: Sequence[int] = tuple(range(STEPS, 0, -1))

    def step(self, prediction: torch.Tensor, timestep: int) -> torch.Tensor:
        """Go the share of the way that is due."""
        self.steps.append((timestep, tuple(prediction.shape)))
        self.latents = self.latents + (prediction - self.latents) / timestep
        return self.latents


@define
class Swinging:
    """Predict a motion of fixed period, in the phase that the noisy window comes nearest to.

    Windows that see something of each other agree on a phase while they are denoised; others do not.
    """

    window: int = 16
    begun: list[Relaxing] = field(factory=list)
    longest: int = 0

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Stay: there is no network."""

    def begin(self, num_frames: int, generators: Sequence[torch.Generator]) -> Relaxing:
        """Draw the noise of each video from its own generator."""
        noise = [torch.randn(num_frames, 1, 4, 4, generator=generator) for generator in generators]
        self.begun.append(Relaxing(torch.stack(noise)))
        return self.begun[-1]

    def predict(
        self, latents: torch.Tensor, timestep: int, stills: torch.Tensor, conditions: Sequence[Conditions]
    ) -> torch.Tensor:
        """Return the motion, with a phase for each window."""
        self.longest = max(self.longest, latents.shape[1])
        time = torch.arange(latents.shape[1]) * 2 * math.pi / PERIOD
        signal = latents.mean((2, 3, 4))
        phase = torch.atan2((signal * time.cos()).sum(1), (signal * time.sin()).sum(1))
        return 0.6 * torch.sin(time + phase[:, None])[..., None, None, None].expand_as(latents)


@define
class Counted:
    """Denoising whose latents say which video and which frame they are; it keeps the last prediction."""

    latents: torch.Tensor
    predicted: torch.Tensor | None = None
    timesteps: Sequence[int] = (1, 0)

    def step(self, prediction: torch.Tensor, timestep: int) -> torch.Tensor:
        """Change nothing."""
        self.predicted = prediction
        return self.latents


@define
class Witness:
    """Predict what it is shown, and write down which video's window came with which still and condition."""

    window: int = 16
    begun: list[Counted] = field(factory=list)
    seen: list[tuple[int, int, float]] = field(factory=list)  # video, still, condition

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Stay: there is no network."""

    def begin(self, num_frames: int, generators: Sequence[torch.Generator]) -> Counted:
        """Number the videos and their frames."""
        numbers = torch.meshgrid(torch.arange(len(generators)), torch.arange(num_frames), indexing="ij")
        self.begun.append(Counted(torch.stack(numbers, 2)[..., None, None].float()))
        return self.begun[-1]

    def predict(
        self, latents: torch.Tensor, timestep: int, stills: torch.Tensor, conditions: Sequence[Conditions]
    ) -> torch.Tensor:
        """Return the latents."""
        for window, still, condition in zip(latents, stills, conditions, strict=True):
            self.seen.append((int(window[0, 0].mean()), round(float(still.mean())), float(condition["video"])))
        return latents.clone()
