"""The re-identification network: features of one latent frame, and a head that says whether two are of one patient."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import resnet

TEMPERATURE = 0.1


class ReIdentification(nn.Module):
    """A residual network with sigmoid features, and a linear head on the absolute difference of two feature vectors.

    `resnet50` is the published architecture. `small` keeps the resolution of small latents (3x3 stem, no pooling) and
    as many stages as `layers` has entries. The parameter names `model.*` and `fc_end.*` are the published ones.
    """

    def __init__(self, architecture: str, layers: tuple[int, ...], channels: int, features: int) -> None:
        super().__init__()
        if architecture == "resnet50":
            self.model = resnet.resnet50(num_classes=features)
            self.model.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        else:
            stages = len(layers)
            self.model = resnet.ResNet(resnet.BasicBlock, [*layers, *[1] * (4 - stages)])
            self.model.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
            self.model.maxpool = nn.Identity()
            for unused in range(stages + 1, 5):
                setattr(self.model, f"layer{unused}", nn.Identity())
            self.model.fc = nn.Linear(64 * 2 ** (stages - 1), features)
        self.fc_end = nn.Linear(features, 1)

    def embed(self, stills: torch.Tensor) -> torch.Tensor:
        """Map `n c h w` to features `n d` in (0, 1)."""
        return self.model(stills).sigmoid()

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logit `n` that two stills are of one patient, and the features `2n d`, those of `first` first."""
        features = self.embed(torch.cat([first, second]))
        one, other = features.chunk(2)
        return self.fc_end((one - other).abs())[:, 0], features


def contrastive(features: torch.Tensor, patients: torch.Tensor) -> torch.Tensor:
    """Return the supervised contrastive loss (Khosla et al. 2020, arXiv:2004.11362) of features on their correlation.

    Each still picks those of its own patient out of all others, by Pearson correlation. Stills whose patient has no
    other in the batch are only picked from; 0 where that is so of all.
    """
    centred = features - features.mean(1, keepdim=True)
    similar = nn.functional.normalize(centred, dim=1)
    logits = similar @ similar.T / TEMPERATURE
    itself = torch.eye(len(patients), dtype=torch.bool, device=patients.device)
    own = (patients[:, None] == patients) & ~itself
    picked = logits.masked_fill(itself, -torch.inf).log_softmax(1).masked_fill(~own, 0).sum(1)
    return -(picked / own.sum(1).clamp(min=1)).sum() / own.any(1).sum().clamp(min=1)
