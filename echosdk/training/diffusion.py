"""The diffusion process that the paper's two latent models share: its schedule, its samplers, and padding for UNets."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch.nn import functional

Sampler = Literal["ddpm", "dpmsolver++"]
SAMPLERS: tuple[Sampler, ...] = ("ddpm", "dpmsolver++")
TRAINING_STEPS = 1000
"""Noise levels of the process; a sampler takes at most as many steps."""
MULTIPLE = 8


def make_scheduler(sampler: Sampler) -> Any:
    """Return the paper's DDPM (v-prediction, linear betas), or a multistep solver of the same process."""
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

    ddpm = DDPMScheduler(
        num_train_timesteps=TRAINING_STEPS,
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type="v_prediction",
        variance_type="fixed_small",
        clip_sample=True,
        clip_sample_range=4.0,
        timestep_spacing="leading",
    )
    if sampler == "ddpm":
        return ddpm
    return DPMSolverMultistepScheduler.from_config(ddpm.config, timestep_spacing="trailing")


def pad(latents: torch.Tensor) -> torch.Tensor:
    """Replicate the last row and column of `... c h w` until both sides are multiples of 8."""
    height, width = latents.shape[-2:]
    flat = latents.reshape(-1, *latents.shape[-3:])
    padded = functional.pad(flat, (0, padded_side(width) - width, 0, padded_side(height) - height), mode="replicate")
    return padded.reshape(*latents.shape[:-2], *padded.shape[-2:])


def padded_side(side: int) -> int:
    """Return the next multiple of 8; a side that is one stays as it is."""
    return math.ceil(side / MULTIPLE) * MULTIPLE
