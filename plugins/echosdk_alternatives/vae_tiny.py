"""A small autoencoder of convolutions: diffusers' `AutoencoderTiny`, trained from nothing on squared error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from attrs import define, field
from attrs.validators import ge, in_, min_len
from diffusers import AutoencoderTiny
from einops import repeat

import echosdk
from echosdk.clips.images import to_images
from echosdk.training import Recipe, choose, starting_from, train

FRAMES_FOR_STATISTICS = 512
BATCH = 32


@define
class TinyVAE:
    """Encode `n k H W` to `n c h w`, with h = H / 2^(number of blocks - 1).

    It has no posterior, no adversary and no perceptual term, so fine texture is averaged away. Latents are standardised
    per channel with the training split's mean and deviation. A network of three channels sees grey images repeated, and
    answers with the mean of its channels.
    """

    blocks: tuple[int, ...] = field(default=(64, 64, 64, 64), validator=min_len(1))
    layers_per_block: int = field(default=2, validator=ge(1))
    latent_channels: int = field(default=4, validator=ge(1))
    channels: Literal[1, 3] = field(default=3, validator=in_((1, 3)))
    recipe: Recipe = Recipe(steps=20_000, batch_size=64, learning_rate=5e-4, warmup_steps=200)
    _network: Any = field(init=False, default=None, repr=False)
    _image: tuple[int, int, int] = field(init=False, default=(0, 0, 0))  # k H W
    _mean: torch.Tensor = field(init=False, factory=lambda: torch.zeros(1), repr=False)
    _std: torch.Tensor = field(init=False, factory=lambda: torch.ones(1), repr=False)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        _, height, width = self._image
        return self.latent_channels, height // self._factor, width // self._factor

    @property
    def _factor(self) -> int:
        return 2 ** (len(self.blocks) - 1)

    def to(self, device: str, dtype: torch.dtype) -> None:
        torch.nn.Module.to(self._network, device, dtype)

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        latents = self._raw(images)
        return (latents - self._mean[:, None, None].to(latents)) / self._std[:, None, None].to(latents)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        latents = latents.float().to(self._network.device)
        latents = latents * self._std[:, None, None].to(latents) + self._mean[:, None, None].to(latents)
        images = self._network.decode(latents.to(self._network.dtype)).sample.float()
        return images.mean(1, keepdim=True) if self._image[0] == 1 else images

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        height, width, colours = (*data.shape, 1)[:3]
        self._image = (colours, height, width)
        if colours > self.channels:
            raise echosdk.TrainingError(
                f"encoder.channels: frames of {height}x{width} have {colours} channels, and a network of "
                f"{self.channels} sees grey images only; --set encoder.channels={colours}, or give grey frames"
            )
        if height % self._factor or width % self._factor:
            raise echosdk.TrainingError(f"frames of {height}x{width}: both sides must be multiples of {self._factor}")
        self._network = starting_from(self._network, self._make_network())

        def example(split: Sequence[echosdk.StoredClip]) -> Any:
            def draw(generator: torch.Generator) -> Mapping[str, torch.Tensor]:
                return {"image": self._as_seen(_some(split, 1, generator))[0]}

            return draw

        def loss(network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            return torch.nn.functional.mse_loss(network(batch["image"]).float(), batch["image"])

        network = _Reconstruction(self._network)
        trained = train(network, loss, example(data.train), self.recipe, run, validation=example(data.val))
        self._network.eval()
        draws = torch.Generator().manual_seed(run.seed)
        latents = torch.cat([self._raw(images) for images in _batches(data.train, draws)]).cpu()
        self._mean, self._std = latents.mean((0, 2, 3)), latents.std((0, 2, 3)).clamp(min=1e-6)
        return {**trained.facts(), "reconstruction": self._quality(data.val)}

    def save(self, public: Path, private: Path) -> None:
        torch.nn.Module.to(self._network, torch.float16).save_pretrained(public, safe_serialization=True)
        torch.nn.Module.to(self._network, torch.float32)
        about = {"channels_height_width": self._image, "mean": self._mean.tolist(), "std": self._std.tolist()}
        (public / "latents.json").write_text(json.dumps(about))

    def load(self, public: Path, private: Path | None) -> None:
        self._network = AutoencoderTiny.from_pretrained(public, torch_dtype=torch.float32).eval()
        about = json.loads((public / "latents.json").read_text())
        self._image = tuple(about["channels_height_width"])
        self._mean, self._std = torch.tensor(about["mean"]), torch.tensor(about["std"])

    def _make_network(self) -> AutoencoderTiny:
        layers = (self.layers_per_block,) * (len(self.blocks) - 1)
        return AutoencoderTiny(
            in_channels=self.channels,
            out_channels=self.channels,
            encoder_block_out_channels=self.blocks,
            decoder_block_out_channels=self.blocks[::-1],
            num_encoder_blocks=(1, *layers),
            num_decoder_blocks=(*layers, 1),
            latent_channels=self.latent_channels,
        )

    def _as_seen(self, images: torch.Tensor) -> torch.Tensor:
        return repeat(images, "n 1 h w -> n k h w", k=self.channels) if images.shape[1] == 1 else images

    @torch.no_grad()
    def _raw(self, images: torch.Tensor) -> torch.Tensor:
        seen = self._as_seen(images).to(self._network.device, self._network.dtype)
        return self._network.encode(seen).latents.float()

    def _quality(self, clips: Sequence[echosdk.StoredClip]) -> dict[str, float]:
        """Reconstruction of validation frames: PSNR in dB (higher is better) for a range of 2."""
        errors = [
            (self.decode(self.encode(images)).clamp(-1, 1).cpu() - images).square().mean((1, 2, 3))
            for images in _batches(clips, torch.Generator().manual_seed(0))
        ]
        mse = torch.cat(errors).clamp(min=1e-10)
        return {"frames": len(mse), "psnr_db": float((10 * torch.log10(4 / mse)).mean())}


class _Reconstruction(torch.nn.Module):
    """One forward pass for training, without the rounding to bytes in the network's own."""

    def __init__(self, network: AutoencoderTiny) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network.decode(self.network.encode(image).latents).sample


def _some(clips: Sequence[echosdk.StoredClip], number: int, generator: torch.Generator) -> torch.Tensor:
    """Draw frames as images `n k H W`."""
    drawn = []
    for _ in range(number):
        clip = choose(clips, generator)
        first = int(torch.randint(clip.num_frames, (), generator=generator))
        drawn.append(to_images(clip.read(first, first + 1)))
    return torch.cat(drawn)


def _batches(clips: Sequence[echosdk.StoredClip], generator: torch.Generator) -> Iterator[torch.Tensor]:
    for _ in range(FRAMES_FOR_STATISTICS // BATCH):
        yield _some(clips, BATCH, generator)
