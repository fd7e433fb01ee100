"""The encoder of EchoNet-Synthetic: `AutoencoderKL`, 3x112x112 to 4x14x14 at the paper's shapes.

The loss is squared error + LPIPS + KL, and from step `gan_start` on a patch discriminator's too (paper, section 3;
weights in the recipe of the published code).
Latents are the posterior's mode, standardised per channel with the training split's mean and deviation.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch
from attrs import define, field
from attrs.validators import ge, in_
from diffusers import AutoencoderKL
from einops import repeat

import echosdk
from echosdk.clips.images import to_images
from echosdk.training import Adversary, Recipe, choose, starting_from, train
from echosdk_vae.adversarial import PatchDiscriminator, adaptive_weight, hinge, smallest_side
from echosdk_vae.perceptual import backbone_weights, perceptual_loss

FRAMES_FOR_STATISTICS = 512
PICTURES = 8


@define
class VAE:
    """Encode `n k H W` to `n c h w`, with h = H / 2^(number of blocks - 1).

    A network of three channels sees grey images repeated, and answers with the mean of its channels. `gan_weight` 0
    leaves the adversarial term out; else the discriminator has `gan_layers` halvings, the first `gan_width` wide.
    """

    blocks: tuple[int, ...] = (128, 256, 256, 512)
    layers_per_block: int = field(default=2, validator=ge(1))
    latent_channels: int = field(default=4, validator=ge(1))
    channels: Literal[1, 3] = field(default=3, validator=in_((1, 3)))
    norm_groups: int = field(default=32, validator=ge(1))
    kl_weight: float = field(default=1e-6, validator=ge(0))
    lpips: str = "alex"
    lpips_weight: float = field(default=1.0, validator=ge(0))
    gan_weight: float = field(default=0.0, validator=ge(0))
    gan_start: int = field(default=50_001, validator=ge(0))
    gan_width: int = field(default=64, validator=ge(1))
    gan_layers: int = field(default=3, validator=ge(1))
    recipe: Recipe = Recipe(steps=100_000, batch_size=256, learning_rate=5e-4)
    _network: Any = field(init=False, default=None, repr=False)
    _image: tuple[int, int, int] = field(init=False, default=(0, 0, 0))  # k H W

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        _, height, width = self._image
        factor = 2 ** (len(self.blocks) - 1)
        return self.latent_channels, height // factor, width // factor

    def to(self, device: str, dtype: torch.dtype) -> None:
        torch.nn.Module.to(self._network, device, dtype, memory_format=torch.channels_last)

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        mode = self._network.encode(
            self._as_seen(images).to(self._network.device, self._network.dtype)
        ).latent_dist.mode()
        mean, std = self._statistics(mode.device)
        return (mode.float() - mean) / std

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        mean, std = self._statistics(self._network.device)
        latents = latents.to(mean) * std + mean
        images = self._network.decode(latents.to(self._network.dtype)).sample.float()
        return images.mean(1, keepdim=True) if self._image[0] == 1 else images

    def check_training(self) -> None:
        backbone_weights(self.lpips)

    def check_data(self, data: echosdk.TrainingData) -> None:
        height, width, colours = (*data.shape, 1)[:3]
        factor = 2 ** (len(self.blocks) - 1)
        if colours > self.channels:
            raise echosdk.TrainingError(
                f"encoder.channels: frames of {height}x{width} have {colours} channels, and a network of "
                f"{self.channels} sees grey images only; --set encoder.channels={colours}, or give grey frames"
            )
        if height % factor or width % factor:
            raise echosdk.TrainingError(f"frames of {height}x{width}: both sides must be multiples of {factor}")
        if self.gan_weight and min(height, width) < smallest_side(self.gan_layers):
            raise echosdk.TrainingError(
                f"encoder.gan_layers: {self.gan_layers} halvings leave no patch of frames of {height}x{width}; "
                "give fewer, or leave the term out: --set encoder.gan_weight=0.0"
            )

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        self.check_data(data)
        height, width, colours = (*data.shape, 1)[:3]
        self._image = (colours, height, width)
        self._network = starting_from(self._network, self._make_network())
        perceptual, weights = perceptual_loss(self.lpips), backbone_weights(self.lpips)
        run.report(
            f"vae: squared error + {self.kl_weight} KL"
            + (f" + {self.lpips_weight} LPIPS" if perceptual else "")
            + (f" + {self.gan_weight} GAN from step {self.gan_start} on" if self.gan_weight else "")
        )
        if perceptual:
            perceptual.to(run.device)

        def example(split: Any) -> Any:
            def draw(generator: torch.Generator) -> Mapping[str, torch.Tensor]:
                clip = choose(split, generator)
                first = int(torch.randint(clip.num_frames, (), generator=generator))
                image = self._as_seen(to_images(clip.read(first, first + 1)))[0]
                return {"image": image, "noise": torch.randn(self.latent_shape, generator=generator)}

            return draw

        def terms(
            network: torch.nn.Module, batch: Mapping[str, torch.Tensor]
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
            """Return the reconstruction's error, the weighted KL, and the two images that were compared."""
            image = batch["image"].contiguous(memory_format=torch.channels_last)
            decoded, mean, logvar = network(image, batch["noise"])
            kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).float().sum((1, 2, 3)).mean()
            error = torch.nn.functional.mse_loss(decoded.float(), image)
            if perceptual:
                three = [x.expand(-1, 3, -1, -1) for x in (decoded, image)]
                error = error + self.lpips_weight * perceptual(*three).mean()
            return error, self.kl_weight * kl, image, decoded

        def loss(network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            error, kl, *_ = terms(network, batch)
            return error + kl

        network = _PosteriorSample(self._network.to(memory_format=torch.channels_last))
        trained = train(
            network,
            loss,
            example(data.train),
            self.recipe,
            run,
            validation=example(data.val),
            adversary=self._adversary(terms) if self.gan_weight else None,
            pictures=lambda: self._pictures(data),
        )
        self._network.eval()
        self._standardise(data, run)
        facts = {**trained.facts(), "reconstruction": self._quality(data)}
        if weights:
            digest = hashlib.sha256(weights.read_bytes()).hexdigest()
            facts["lpips"] = {"weights": weights.name, "sha256": digest}
        return facts

    def save(self, public: Path, private: Path) -> None:
        torch.nn.Module.to(self._network, torch.float16).save_pretrained(public, safe_serialization=True)
        (public / "image.json").write_text(json.dumps({"channels_height_width": self._image}))
        torch.nn.Module.to(self._network, torch.float32)

    def load(self, public: Path, private: Path | None) -> None:
        self._network = AutoencoderKL.from_pretrained(public, torch_dtype=torch.float32).eval()
        self._image = tuple(json.loads((public / "image.json").read_text())["channels_height_width"])

    def _make_network(self) -> AutoencoderKL:
        _, height, width = self._image
        return AutoencoderKL(
            in_channels=self.channels,
            out_channels=self.channels,
            down_block_types=("DownEncoderBlock2D",) * len(self.blocks),
            up_block_types=("UpDecoderBlock2D",) * len(self.blocks),
            block_out_channels=self.blocks,
            layers_per_block=self.layers_per_block,
            latent_channels=self.latent_channels,
            norm_num_groups=self.norm_groups,
            sample_size=max(height, width),
        )

    def _adversary(self, terms: Any) -> Adversary:
        discriminator = PatchDiscriminator(self.channels, self.gan_width, self.gan_layers)
        last = self._network.decoder.conv_out.weight

        def against(network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, Any]:
            error, kl, image, decoded = terms(network, batch)
            adversarial = -discriminator(decoded).float().mean()
            weight = self.gan_weight * adaptive_weight(error, adversarial, last)
            return error + kl + weight * adversarial, (image, decoded.detach())

        def loss(network: torch.nn.Module, images: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            real, made = network(torch.cat(images)).float().chunk(2)
            return hinge(real, made)

        return Adversary(network=discriminator, start=self.gan_start, against=against, loss=loss)

    def _as_seen(self, images: torch.Tensor) -> torch.Tensor:
        return repeat(images, "n 1 h w -> n k h w", k=self.channels) if images.shape[1] == 1 else images

    def _statistics(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the posterior's mode; a published network has one `scaling_factor` instead."""
        config = self._network.config
        if config.latents_std is None:
            return torch.zeros((), device=device), torch.tensor(1 / config.scaling_factor, device=device)
        mean, std = (
            torch.tensor(config[name], device=device)[:, None, None] for name in ("latents_mean", "latents_std")
        )
        return mean, std

    @torch.no_grad()
    def _standardise(self, data: echosdk.TrainingData, run: echosdk.Run) -> None:
        generator = torch.Generator().manual_seed(run.seed)
        modes = torch.cat(
            [
                self._network.encode(images).latent_dist.mode().float()
                for images in self._images(_some(data.train, generator))
            ]
        )
        self._network.register_to_config(
            latents_mean=modes.mean((0, 2, 3)).tolist(), latents_std=modes.std((0, 2, 3)).tolist()
        )

    @torch.no_grad()
    def _quality(self, data: echosdk.TrainingData) -> dict[str, float]:
        """Reconstruction of validation frames: PSNR in dB (higher is better) for a range of 2."""
        errors = []
        some = _some(data.val, torch.Generator().manual_seed(0))
        for images in self._images(some):
            seen = images[:, :1] if self._image[0] == 1 else images
            decoded = self.decode(self.encode(seen)).clamp(-1, 1)
            errors.append((decoded.cpu() - seen.cpu()).square().mean((1, 2, 3)))
        mse = torch.cat(errors)
        return {
            "frames": len(mse),
            "patients": len({clip.group for clip, _ in some}),
            "psnr_db": float((10 * torch.log10(4 / mse)).mean()),
        }

    @torch.no_grad()
    def _pictures(self, data: echosdk.TrainingData) -> torch.Tensor:
        """Return validation frames, and below each what becomes of it."""
        some = _some(data.val, torch.Generator().manual_seed(0))[:PICTURES]
        seen = torch.cat([to_images(clip.read(index, index + 1)) for clip, index in some])
        return torch.cat([seen, self.decode(self.encode(seen)).cpu()], 2)

    def _images(self, frames: Sequence[tuple[Any, int]]) -> Iterator[torch.Tensor]:
        for first in range(0, len(frames), 32):
            images = [to_images(clip.read(index, index + 1)) for clip, index in frames[first : first + 32]]
            yield self._as_seen(torch.cat(images)).to(self._network.device)


def _some(clips: Any, generator: torch.Generator) -> list[tuple[Any, int]]:
    """Draw frames for a figure, none of them twice; all where there are few."""
    ends = list(accumulate(clip.num_frames for clip in clips))
    drawn = torch.randperm(ends[-1], generator=generator)[:FRAMES_FOR_STATISTICS].tolist()
    whose = [bisect_right(ends, frame) for frame in drawn]
    return [(clips[i], frame - ends[i] + clips[i].num_frames) for i, frame in zip(whose, drawn, strict=True)]


class _PosteriorSample(torch.nn.Module):
    """One forward pass for training: decode a posterior sample made with given noise."""

    def __init__(self, network: AutoencoderKL) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        posterior = self.network.encode(image).latent_dist
        latents = posterior.mean + posterior.std * noise.to(posterior.mean)
        return self.network.decode(latents).sample, posterior.mean, posterior.logvar
