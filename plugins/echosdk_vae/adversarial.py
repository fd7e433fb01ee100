"""The adversarial term of a VAE's loss: a discriminator of patches, against which the decoder keeps fine texture."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

MOST = 1e4  # the adaptive weight's bound, and with `LEAST` what keeps it finite where the discriminator is flat
LEAST = 1e-4


class PatchDiscriminator(nn.Sequential):
    """Say of every patch of `n k H W` how real it looks: logits `n 1 h w` (Isola et al. 2017, arXiv:1611.07004).

    Each of `layers` convolutions halves the sides; two more of stride 1 follow. Group normalisation stands where the
    original has batch normalisation: an image is then judged by itself, however a batch is shared by processes.
    """

    def __init__(self, channels: int, width: int, layers: int) -> None:
        widths = [width * min(2**level, 8) for level in range(layers + 1)]
        made: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for level in range(1, layers + 1):
            stride = 2 if level < layers else 1
            made += [
                nn.Conv2d(widths[level - 1], widths[level], 4, stride, 1, bias=False),
                nn.GroupNorm(math.gcd(32, widths[level]), widths[level]),
                nn.LeakyReLU(0.2),
            ]
        super().__init__(*made, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        for module in self:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)


def hinge(real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """Return the discriminator's hinge loss of its logits (Lim and Ye 2017, arXiv:1705.02894)."""
    return 0.5 * (functional.relu(1 - real).mean() + functional.relu(1 + made).mean())


def adaptive_weight(reconstruction: torch.Tensor, adversarial: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Return what makes the adversarial gradient at the decoder's last layer as long as the reconstruction's.

    Esser et al. 2021 (arXiv:2012.09841), equation 7.
    """
    lengths = [torch.autograd.grad(term, last, retain_graph=True)[0].norm() for term in (reconstruction, adversarial)]
    return (lengths[0] / (lengths[1] + LEAST)).clamp(max=MOST).detach()


def smallest_side(layers: int) -> int:
    """Return the shortest side of an image of which the discriminator sees a patch."""
    side = 1
    for stride in (1, 1, *(2,) * layers):
        side = (side - 1) * stride + 2  # a kernel of 4 with a border of 1
    return side
