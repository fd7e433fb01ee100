"""R(2+1)D networks: torchvision's 18 layers, or a narrower and shallower one of the same blocks."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, r2plus1d_18


def make_network(architecture: str, widths: tuple[int, ...], bias: float) -> nn.Module:
    """Return a network from videos `n 3 t h w` (or `n 1 t h w` for `small`) to `n 1` that starts near `bias`."""
    if architecture == "r2plus1d-18":
        network: nn.Module = r2plus1d_18(weights=None)
        network.fc = nn.Linear(512, 1)
        last = network.fc
    else:
        network = SmallR2Plus1D(widths)
        last = network.fc
    assert isinstance(last, nn.Linear)
    nn.init.constant_(last.bias, bias)
    return network


class SmallR2Plus1D(nn.Module):
    """One (2+1)-dimensional residual block for each width; each but the first halves time and space."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(1, widths[0], (1, 5, 5), (1, 2, 2), (0, 2, 2), bias=False),
            nn.BatchNorm3d(widths[0]),
            nn.ReLU(inplace=True),
            nn.Conv3d(widths[0], widths[0], (3, 1, 1), 1, (1, 0, 0), bias=False),
            nn.BatchNorm3d(widths[0]),
            nn.ReLU(inplace=True),
        )
        blocks = []
        before = widths[0]
        for i, width in enumerate(widths):
            stride = 1 if i == 0 else 2
            shortcut = nn.Sequential(nn.Conv3d(before, width, 1, stride, bias=False), nn.BatchNorm3d(width))
            blocks.append(BasicBlock(before, width, Conv2Plus1D, stride, shortcut))
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(before, 1)

    def forward(self, videos: torch.Tensor) -> torch.Tensor:
        features = self.blocks(self.stem(videos)).mean((2, 3, 4))
        return self.fc(features)
