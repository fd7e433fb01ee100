"""A privacy filter that learns nothing: it looks at what a viewer would see."""

from __future__ import annotations

import torch
from attrs import define, field
from attrs.validators import ge, gt, lt
from torch.nn import functional

import echosdk

CHUNK = 1024


@define
class PixelCorrelation:
    """Reject images whose largest Pearson correlation with a training reference is over that of innocents.

    Images are made grey and averaged to `size` x `size`: noise and speckle count for little, and references stay small.
    tau is the `percentile`-th percentile of the held-out items' own smallest distances (1 - correlation). A shifted,
    turned or mirrored copy is another image to it, and so is another video of the same patient: it finds copies, not
    patients. An image of one value correlates with nothing.
    """

    size: int = field(default=32, validator=ge(2))
    percentile: float = field(default=5.0, validator=[gt(0), lt(100)])
    space = "image"
    _train: torch.Tensor | None = field(init=False, default=None, repr=False)
    _tau: float = field(init=False, default=float("nan"))

    def calibrate(self, train: echosdk.References, holdout: echosdk.References, generator: torch.Generator) -> None:
        if not len(train.items) or not len(holdout.items):
            raise echosdk.PrivacyError("pixel-correlation: needs training and held-out references; the bundle has none")
        self._train = torch.cat([self._rows(part) for part in train.items.split(CHUNK)])
        self._tau = torch.quantile(self._nearest(holdout.items), self.percentile / 100).item()

    def judge(self, stills: torch.Tensor) -> echosdk.Verdict:
        if self._train is None:
            raise echosdk.PrivacyError("pixel-correlation: judged before it was calibrated")
        distance = self._nearest(stills)
        return echosdk.Verdict(keep=distance >= self._tau, distance=distance, tau=self._tau)

    def _nearest(self, stills: torch.Tensor) -> torch.Tensor:
        assert self._train is not None
        return torch.cat([1 - (self._rows(part) @ self._train.T).amax(1) for part in stills.split(CHUNK)])

    def _rows(self, images: torch.Tensor) -> torch.Tensor:
        """Map images `n k H W` to rows of mean 0 and length 1: their product is the Pearson correlation."""
        seen = functional.adaptive_avg_pool2d(images.double().clamp(-1, 1).mean(1, keepdim=True), self.size).flatten(1)
        rows = seen - seen.mean(1, keepdim=True)
        return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-9)
