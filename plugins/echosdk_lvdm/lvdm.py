"""The video animator of EchoNet-Synthetic: a latent video diffusion model with v-prediction (paper, section 2).

The still is repeated over time and concatenated on channels; the labels are a one-token cross-attention context.
`precondition` adds to it the preconditioning of Karras et al. 2022 (arXiv:2206.00364, section 5) about the still: most
of a video's variance is its anatomy, and a network that is given it need learn motion only.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from attrs import define, field, frozen
from attrs.validators import ge, in_, le
from diffusers import UNetSpatioTemporalConditionModel
from einops import repeat

import echosdk
from echosdk.training import (
    SAMPLERS,
    TRAINING_STEPS,
    Recipe,
    Sampler,
    choose,
    frames_of,
    make_scheduler,
    pad,
    padded_side,
    starting_from,
    train,
)
from echosdk_lvdm.conditions import Scaling, context, scalings_of

PICTURES = 8
LOSS_LEVELS = (100, 300, 500, 700)
"""Noise levels at which `losses` looks."""


@define
class LVDM:
    """Predict v for a window of a noisy video. `guidance_scale` 1 is no guidance (the paper).

    With `precondition` the network sees and predicts only what the still does not tell, at unit variance; without, the
    paper's plain v. `attention` says which resolutions, from the finest, attend over space, time and labels; all have
    convolutions over space and time. On a CPU the finest is most of the work.
    """

    window: int = field(default=64, validator=ge(1))
    blocks: tuple[int, ...] = (128, 256, 256, 512)
    attention: tuple[bool, ...] = field(default=(True, True, True, False))
    heads: tuple[int, ...] = (8, 16, 16, 32)
    layers_per_block: int = field(default=2, validator=ge(1))
    precondition: bool = False
    condition_dropout: float = field(default=0.1, validator=[ge(0), le(1)])
    noise_offset: float = field(default=0.1, validator=ge(0))
    sampler: Sampler = field(default="ddpm", validator=in_(SAMPLERS))
    num_inference_steps: int = field(default=64, validator=[ge(1), le(TRAINING_STEPS)])
    guidance_scale: float = field(default=1.0, validator=ge(0))
    recipe: Recipe = Recipe(
        steps=500_000, batch_size=128, learning_rate=1e-4, warmup_steps=500, ema_decay=0.9999, max_grad_norm=1.0
    )
    _network: Any = field(init=False, default=None, repr=False)
    _latent: tuple[int, int, int] = field(init=False, default=(0, 0, 0))  # c h w
    _scalings: tuple[Scaling, ...] = field(init=False, default=())
    _spread: float | None = field(init=False, default=None)  # of a video about its still, where it preconditions

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
        video, still = latents.to(device, dtype), stills.to(device, dtype)
        time = torch.full((len(video),), timestep, device=device)
        level = self._level(time)
        prediction = _velocity(self._network, video, still, time, tokens, level)
        if self.guidance_scale != 1:
            unconditional = _velocity(self._network, video, still, time, torch.zeros_like(tokens), level)
            prediction = unconditional + self.guidance_scale * (prediction - unconditional)
        return prediction.to(latents)

    def begin(self, num_frames: int, generators: Sequence[torch.Generator]) -> SchedulerDenoising:
        scheduler = make_scheduler(self.sampler)
        scheduler.set_timesteps(self.num_inference_steps)
        noise = [torch.randn((1, num_frames, *self._latent), generator=generator) for generator in generators]
        return SchedulerDenoising(torch.cat(noise).to(self._network.device), scheduler, list(generators))

    def losses(
        self,
        items: torch.Tensor,
        conditions: Sequence[echosdk.Conditions],
        generators: Sequence[torch.Generator],
    ) -> torch.Tensor:
        """Return each video's mean squared error of v, given its first frame, over the noise levels `LOSS_LEVELS`."""
        unguided = copy.copy(self)
        unguided.guidance_scale = 1.0
        scheduler = make_scheduler("ddpm")
        videos = items.float()
        found = torch.zeros(len(videos))
        for level in LOSS_LEVELS:
            noise = torch.stack([torch.randn(videos.shape[1:], generator=generator) for generator in generators])
            timestep = torch.full((len(videos),), level)
            prediction = unguided.predict(scheduler.add_noise(videos, noise, timestep), level, videos[:, 0], conditions)
            error = prediction - scheduler.get_velocity(videos, noise, timestep)
            found += error.square().mean((1, 2, 3, 4)) / len(LOSS_LEVELS)
        return found

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        self._latent = data.shape
        self._scalings = scalings_of(data.labels)
        self._network = starting_from(self._network, self._make_network())
        self._spread = _spread_of(data.train, run.seed) if self.precondition else None
        scheduler = make_scheduler("ddpm")

        def example(split: Any) -> Any:
            def draw(generator: torch.Generator) -> Mapping[str, torch.Tensor]:
                clip = choose(split, generator)
                first, length = frames_of(clip, self.window, generator)
                video = torch.from_numpy(clip.read(first, first + length))
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
            level = self._level(timestep)
            prediction = _velocity(network, noisy, batch["still"], timestep, batch["token"], level).float()
            error = (prediction - velocity).square().mean((2, 3, 4))
            if level is not None:
                error = error / level.error.square().flatten(1)  # each noise level counts alike
            # Padded frames count for nothing, and clips alike: so a batch in parts has the gradient of the whole.
            return ((error * batch["real"]).sum(1) / batch["real"].sum(1)).mean()

        trained = train(
            self._network,
            loss,
            example(data.train),
            self.recipe,
            run,
            validation=example(data.val),
            pictures=(lambda: self._pictures(data)) if data.decode else None,
        )
        return trained.facts()

    def save(self, public: Path, private: Path) -> None:
        torch.nn.Module.to(self._network, torch.float16).save_pretrained(public, safe_serialization=True)
        about = {
            "channels_height_width": self._latent,
            "conditions": [attrs.asdict(s) for s in self._scalings],
            "spread": self._spread,
        }
        (public / "conditions.json").write_text(json.dumps(about, indent=2))
        torch.nn.Module.to(self._network, torch.float32)

    def load(self, public: Path, private: Path | None) -> None:
        self._network = UNetSpatioTemporalConditionModel.from_pretrained(public, torch_dtype=torch.float32).eval()
        about = json.loads((public / "conditions.json").read_text())
        self._latent = tuple(about["channels_height_width"])
        self._scalings = tuple(Scaling(**scaling) for scaling in about["conditions"])
        self._spread = about["spread"] if self.precondition else None

    def _pictures(self, data: echosdk.TrainingData) -> torch.Tensor:
        """Return frames of a window that is animated from a validation clip's first still, for its labels."""
        clip = data.val[0]
        still = torch.from_numpy(clip.read(0, 1)).to(self._network.device)
        denoising = self.begin(self.window, [torch.Generator().manual_seed(0)])
        for timestep in denoising.timesteps:
            denoising.step(self.predict(denoising.latents, timestep, still, [clip.labels]), timestep)
        shown = torch.linspace(0, self.window - 1, min(PICTURES, self.window)).round().long()
        return data.decode(denoising.latents[0, shown])

    def _level(self, timestep: torch.Tensor) -> Level | None:
        if self._spread is None:
            return None
        return Level.at(make_scheduler("ddpm").alphas_cumprod.to(timestep.device)[timestep], self._spread)

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


@frozen
class Level:
    """How noisy the videos of a batch are, and what the still tells of them; tensors are `b 1 1 1 1`.

    A noisy video is x = signal x0 + noise eps. With x0 normal about the still s with standard deviation `spread`, x has
    standard deviation `scale` about signal s, and the posterior mean of v errs by `error`.
    """

    signal: torch.Tensor
    noise: torch.Tensor
    spread: float

    @classmethod
    def at(cls, alpha_cumprod: torch.Tensor, spread: float) -> Level:
        kept = alpha_cumprod.float()[:, None, None, None, None]
        return cls(kept.sqrt(), (1 - kept).sqrt(), spread)

    @property
    def scale(self) -> torch.Tensor:
        return ((self.signal * self.spread).square() + self.noise.square()).sqrt()

    @property
    def error(self) -> torch.Tensor:
        return self.spread / self.scale

    def velocity(self, video: torch.Tensor, still: torch.Tensor) -> torch.Tensor:
        """Return the posterior mean of v, given the noisy video and the still."""
        return self.noise / self.scale.square() * (self.signal * (1 - self.spread**2) * video - still)


def _spread_of(split: Any, seed: int) -> float:
    """Return the root mean square of frame less still over 256 draws of a clip and a still of it."""
    draws = torch.Generator().manual_seed(seed)
    squares = []
    for _ in range(256):
        video = torch.from_numpy(choose(split, draws).read())
        still = video[int(torch.randint(len(video), (), generator=draws))]
        squares.append((video - still).square().mean())
    return float(torch.stack(squares).mean().sqrt().clamp(min=1e-3))  # a data set of stills has none


def _velocity(
    network: torch.nn.Module,
    video: torch.Tensor,
    still: torch.Tensor,
    timestep: torch.Tensor,
    token: torch.Tensor,
    level: Level | None,
) -> torch.Tensor:
    """Predict v = signal eps - noise x0: as the network says it, or about what the still tells already."""
    if level is None:
        return _forward(network, video, still, timestep, token)
    anatomy = still[:, None]
    seen = ((video - level.signal * anatomy) / level.scale).to(video.dtype)
    return level.velocity(video, anatomy) + level.error * _forward(network, seen, still, timestep, token)


def _forward(
    network: torch.nn.Module, video: torch.Tensor, still: torch.Tensor, timestep: torch.Tensor, token: torch.Tensor
) -> torch.Tensor:
    """Run the network, which sees a border that repeats the noisy edge, in training as in sampling."""
    height, width = video.shape[-2:]
    seen = pad(torch.cat([video, repeat(still, "b c h w -> b t c h w", t=video.shape[1])], 2))
    added_time_ids = torch.zeros(len(video), 1, device=video.device, dtype=token.dtype)
    return network(seen, timestep, token, added_time_ids).sample[..., :height, :width]
