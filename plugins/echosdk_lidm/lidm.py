"""The image prior of EchoNet-Synthetic: an unconditional latent diffusion model, v-prediction (paper, section 2)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import define, field
from attrs.validators import ge, in_, le
from diffusers import UNet2DModel
from torch.nn import functional

import echosdk
from echosdk.training import (
    SAMPLERS,
    TRAINING_STEPS,
    Recipe,
    Sampler,
    choose,
    make_scheduler,
    pad,
    padded_side,
    starting_from,
    train,
)

PICTURES = 8
LOSS_LEVELS = tuple(range(50, TRAINING_STEPS, 100))
"""Noise levels at which `losses` looks: all parts of the process alike."""


@define
class LIDM:
    """Draw stills `n c h w` from noise. Latents are replication-padded to a multiple of 8, and cropped after."""

    blocks: tuple[int, ...] = (128, 256, 256, 512)
    layers_per_block: int = field(default=2, validator=ge(1))
    attention_head_dim: int = field(default=8, validator=ge(1))
    norm_groups: int = field(default=32, validator=ge(1))
    sampler: Sampler = field(default="ddpm", validator=in_(SAMPLERS))
    num_inference_steps: int = field(default=64, validator=[ge(1), le(TRAINING_STEPS)])
    recipe: Recipe = Recipe(steps=100_000, batch_size=256, learning_rate=3e-4, warmup_steps=500, ema_decay=0.9999)
    _network: Any = field(init=False, default=None, repr=False)
    _latent: tuple[int, int, int] = field(init=False, default=(0, 0, 0))  # c h w

    def to(self, device: str, dtype: torch.dtype) -> None:
        torch.nn.Module.to(self._network, device, dtype)

    @torch.no_grad()
    def sample(
        self, generators: Sequence[torch.Generator], conditions: Sequence[echosdk.Conditions]
    ) -> torch.Tensor:
        channels, height, width = self._latent
        shape = (1, channels, padded_side(height), padded_side(width))
        scheduler = make_scheduler(self.sampler)
        scheduler.set_timesteps(self.num_inference_steps)
        device, dtype = self._network.device, self._network.dtype
        latents = torch.cat([torch.randn(shape, generator=generator) for generator in generators]).to(device)
        for timestep in scheduler.timesteps:
            prediction = self._network(latents.to(dtype), timestep).sample.float()
            latents = scheduler.step(prediction, timestep, latents, generator=list(generators)).prev_sample
        return latents[..., :height, :width].contiguous()

    @torch.no_grad()
    def losses(
        self,
        items: torch.Tensor,
        conditions: Sequence[echosdk.Conditions],
        generators: Sequence[torch.Generator],
    ) -> torch.Tensor:
        """Return each still's mean squared error of v over the noise levels `LOSS_LEVELS`."""
        scheduler = make_scheduler("ddpm")
        device, dtype = self._network.device, self._network.dtype
        stills = pad(items.float())
        found = torch.zeros(len(stills))
        for level in LOSS_LEVELS:
            noise = torch.stack([torch.randn(stills.shape[1:], generator=generator) for generator in generators])
            timestep = torch.full((len(stills),), level)
            noisy = scheduler.add_noise(stills, noise, timestep).to(device, dtype)
            prediction = self._network(noisy, timestep.to(device)).sample.float().cpu()
            error = prediction - scheduler.get_velocity(stills, noise, timestep)
            found += error.square().mean((1, 2, 3)) / len(LOSS_LEVELS)
        return found

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        self._latent = data.shape
        self._network = starting_from(self._network, self._make_network())
        scheduler = make_scheduler("ddpm")

        def example(split: Any) -> Any:
            def draw(generator: torch.Generator) -> Mapping[str, torch.Tensor]:
                clip = choose(split, generator)
                first = int(torch.randint(clip.num_frames, (), generator=generator))
                still = pad(torch.from_numpy(clip.read(first, first + 1)))[0]
                timestep = torch.randint(scheduler.config.num_train_timesteps, (), generator=generator)
                return {"still": still, "noise": torch.randn(still.shape, generator=generator), "timestep": timestep}

            return draw

        def loss(network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            still, noise, timestep = batch["still"], batch["noise"], batch["timestep"]
            noisy = scheduler.add_noise(still, noise, timestep)
            prediction = network(noisy, timestep).sample.float()
            return functional.mse_loss(prediction, scheduler.get_velocity(still, noise, timestep))

        def pictures() -> torch.Tensor:
            stills = self.sample([torch.Generator().manual_seed(i) for i in range(PICTURES)], [{}] * PICTURES)
            return data.decode(stills)

        trained = train(
            self._network,
            loss,
            example(data.train),
            self.recipe,
            run,
            validation=example(data.val),
            pictures=pictures if data.decode else None,
        )
        return trained.facts()

    def save(self, public: Path, private: Path) -> None:
        torch.nn.Module.to(self._network, torch.float16).save_pretrained(public, safe_serialization=True)
        (public / "latent.json").write_text(json.dumps({"channels_height_width": self._latent}))
        torch.nn.Module.to(self._network, torch.float32)

    def load(self, public: Path, private: Path | None) -> None:
        self._network = UNet2DModel.from_pretrained(public, torch_dtype=torch.float32).eval()
        self._latent = tuple(json.loads((public / "latent.json").read_text())["channels_height_width"])

    def _make_network(self) -> UNet2DModel:
        channels, height, width = self._latent
        return UNet2DModel(
            sample_size=(padded_side(height), padded_side(width)),
            in_channels=channels,
            out_channels=channels,
            block_out_channels=self.blocks,
            layers_per_block=self.layers_per_block,
            down_block_types=("AttnDownBlock2D",) * (len(self.blocks) - 1) + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("AttnUpBlock2D",) * (len(self.blocks) - 1),
            attention_head_dim=self.attention_head_dim,
            norm_num_groups=self.norm_groups,
            downsample_type="resnet",
            upsample_type="resnet",
        )
