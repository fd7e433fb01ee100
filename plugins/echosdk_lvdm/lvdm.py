"""The video animator of EchoNet-Synthetic: a latent video diffusion model with v-prediction (paper, section 2).

The still is repeated over time and concatenated on channels; the labels are a one-token cross-attention context.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from attrs import define, field
from attrs.validators import ge, in_, le
from diffusers import UNetSpatioTemporalConditionModel
from einops import repeat

import echosdk
from echosdk.training import SAMPLERS, Recipe, Sampler, choose, frames_of, make_scheduler, pad, padded_side, train
from echosdk_lvdm.conditions import Scaling, context, scalings_of


@define
class LVDM:
    """Predict v for a window of a noisy video. `guidance_scale` 1 is no guidance (the paper).

    `attention` says which resolutions, from the finest, attend over space, time and labels; all have convolutions over
    space and time. On a CPU the finest is most of the work.
    """

    window: int = field(default=64, validator=ge(1))
    blocks: tuple[int, ...] = (128, 256, 256, 512)
    attention: tuple[bool, ...] = field(default=(True, True, True, False))
    heads: tuple[int, ...] = (8, 16, 16, 32)
    layers_per_block: int = field(default=2, validator=ge(1))
    condition_dropout: float = field(default=0.1, validator=[ge(0), le(1)])
    noise_offset: float = field(default=0.1, validator=ge(0))
    sampler: Sampler = field(default="ddpm", validator=in_(SAMPLERS))
    num_inference_steps: int = field(default=64, validator=ge(1))
    guidance_scale: float = field(default=1.0, validator=ge(0))
    recipe: Recipe = Recipe(
        steps=500_000, batch_size=128, learning_rate=1e-4, warmup_steps=500, ema_decay=0.9999, max_grad_norm=1.0
    )
    _network: Any = field(init=False, default=None, repr=False)
    _latent: tuple[int, int, int] = field(init=False, default=(0, 0, 0))  # c h w
    _scalings: tuple[Scaling, ...] = field(init=False, default=())

    @attention.validator
    def _one_a_block(self, _attribute: Any, value: tuple[bool, ...]) -> None:
        if len(value) != len(self.blocks) or not any(value):
            raise ValueError(f"attention: wants true or false for each of {len(self.blocks)} blocks, one of them true")

    def to(self, device: str, dtype: torch.dtype) -> None:
        torch.nn.Module.to(self._network, device, dtype)

    @torch.no_grad()
    def predict(
        self,
        latents: torch.Tensor,
        timestep: int,
        stills: torch.Tensor,
        conditions: Sequence[echosdk.Conditions],
    ) -> torch.Tensor:
        device, dtype = self._network.device, self._network.dtype
        tokens = context(self._scalings, conditions).to(device, dtype)
        video, still = pad(latents.to(device, dtype)), pad(stills.to(device, dtype))
        time = torch.full((len(video),), timestep, device=device)
        prediction = _forward(self._network, video, still, time, tokens)
        if self.guidance_scale != 1:
            unconditional = _forward(self._network, video, still, time, torch.zeros_like(tokens))
            prediction = unconditional + self.guidance_scale * (prediction - unconditional)
        height, width = self._latent[1:]
        return prediction[..., :height, :width].to(latents)

    def begin(self, num_frames: int, generators: Sequence[torch.Generator]) -> SchedulerDenoising:
        scheduler = make_scheduler(self.sampler)
        scheduler.set_timesteps(self.num_inference_steps)
        noise = [torch.randn((1, num_frames, *self._latent), generator=generator) for generator in generators]
        return SchedulerDenoising(torch.cat(noise).to(self._network.device), scheduler, list(generators))

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        self._latent = data.shape
        self._scalings = scalings_of(data.labels)
        self._network = self._make_network()
        scheduler = make_scheduler("ddpm")

        def example(split: Any) -> Any:
            def draw(generator: torch.Generator) -> Mapping[str, torch.Tensor]:
                clip = choose(split, generator)
                first, length = frames_of(clip, self.window, generator)
                video = pad(torch.from_numpy(clip.read(first, first + length)))
                still = video[int(torch.randint(length, (), generator=generator))]
                video = torch.cat([video, video[-1:].expand(self.window - length, *video.shape[1:])])
                token = context(self._scalings, [clip.labels])[0]
                keep = torch.rand((), generator=generator) >= self.condition_dropout
                noise = torch.randn(video.shape, generator=generator)
                offset = torch.randn((1, video.shape[1], 1, 1), generator=generator)
                return {
                    "video": video,
                    "still": still,
                    "token": token * keep,
                    "noise": noise + self.noise_offset * offset,
                    "timestep": torch.randint(scheduler.config.num_train_timesteps, (), generator=generator),
                    "real": (torch.arange(self.window) < length).float(),
                }

            return draw

        def loss(network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            video, noise, timestep = batch["video"], batch["noise"], batch["timestep"]
            noisy = scheduler.add_noise(video, noise, timestep)
            velocity = scheduler.get_velocity(video, noise, timestep)
            prediction = _forward(network, noisy, batch["still"], timestep, batch["token"]).float()
            error = (prediction - velocity).square().mean((2, 3, 4))
            return (error * batch["real"]).sum() / batch["real"].sum()  # padded frames count for nothing

        trained = train(self._network, loss, example(data.train), self.recipe, run, validation=example(data.val))
        return trained.facts()

    def save(self, public: Path, private: Path) -> None:
        torch.nn.Module.to(self._network, torch.float16).save_pretrained(public, safe_serialization=True)
        about = {"channels_height_width": self._latent, "conditions": [attrs.asdict(s) for s in self._scalings]}
        (public / "conditions.json").write_text(json.dumps(about, indent=2))
        torch.nn.Module.to(self._network, torch.float32)

    def load(self, public: Path, private: Path | None) -> None:
        self._network = UNetSpatioTemporalConditionModel.from_pretrained(public, torch_dtype=torch.float32).eval()
        about = json.loads((public / "conditions.json").read_text())
        self._latent = tuple(about["channels_height_width"])
        self._scalings = tuple(Scaling(**scaling) for scaling in about["conditions"])

    def _make_network(self) -> UNetSpatioTemporalConditionModel:
        channels, height, width = self._latent
        return UNetSpatioTemporalConditionModel(
            sample_size=(padded_side(height), padded_side(width)),
            in_channels=2 * channels,
            out_channels=channels,
            block_out_channels=self.blocks,
            num_attention_heads=self.heads,
            layers_per_block=self.layers_per_block,
            down_block_types=tuple(
                "CrossAttnDownBlockSpatioTemporal" if attends else "DownBlockSpatioTemporal"
                for attends in self.attention
            ),
            up_block_types=tuple(
                "CrossAttnUpBlockSpatioTemporal" if attends else "UpBlockSpatioTemporal"
                for attends in reversed(self.attention)
            ),
            cross_attention_dim=len(self._scalings),
            addition_time_embed_dim=1,
            projection_class_embeddings_input_dim=1,
            num_frames=self.window,
        )


@define
class SchedulerDenoising:
    """One batch of videos between noise and latents: the scheduler keeps its history here, and nowhere else."""

    latents: torch.Tensor
    _scheduler: Any
    _generators: list[torch.Generator]

    @property
    def timesteps(self) -> Sequence[int]:
        return [int(timestep) for timestep in self._scheduler.timesteps]

    def step(self, prediction: torch.Tensor, timestep: int) -> torch.Tensor:
        stepped = self._scheduler.step(prediction, timestep, self.latents, generator=self._generators)
        self.latents = stepped.prev_sample
        return self.latents


def _forward(
    network: torch.nn.Module, video: torch.Tensor, still: torch.Tensor, timestep: torch.Tensor, token: torch.Tensor
) -> torch.Tensor:
    seen = torch.cat([video, repeat(still, "b c h w -> b t c h w", t=video.shape[1])], 2)
    added_time_ids = torch.zeros(len(video), 1, device=video.device, dtype=token.dtype)
    return network(seen, timestep, token, added_time_ids).sample
