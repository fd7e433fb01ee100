"""Pixels to images and back: uint8 frames of a video, and float32 images in [-1, 1] that networks see."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray

from echosdk.interfaces import Encoder

MIRROR_BATCH = 32

def to_images(frames: NDArray[Any]) -> torch.Tensor:
    """Map frames `n H W` or `n H W 3` uint8 to images `n k H W` float32 in [-1, 1]."""
    pixels = torch.from_numpy(frames)
    pixels = pixels[:, None] if frames.ndim == 3 else rearrange(pixels, "n h w k -> n k h w")
    return pixels.float().div_(127.5).sub_(1)


def to_frames(images: torch.Tensor) -> NDArray[np.uint8]:
    """Map images `n k H W` in [-1, 1] to frames `n H W` (k = 1) or `n H W 3` uint8; what lies outside is clipped."""
    pixels = images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    pixels = pixels[:, 0] if images.shape[1] == 1 else rearrange(pixels, "n k h w -> n h w k")
    return pixels.cpu().numpy()


def mirrored(encoder: Encoder, latents: torch.Tensor) -> torch.Tensor:
    """Return the latents `n c h w` of the images that `latents` stand for, mirrored; a mirrored latent may be none."""
    parts = [encoder.encode(encoder.decode(part).flip(-1)).float().cpu() for part in latents.split(MIRROR_BATCH)]
    return torch.cat(parts).contiguous()
