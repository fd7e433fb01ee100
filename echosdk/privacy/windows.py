"""The tau of a video's window: how near as many frames of a held-out patient's video come to a training reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from attrs import field, frozen

from echosdk.errors import PrivacyError


@frozen
class Windows:
    """Distances of every frame of held-out videos, one video a patient, of which any window's tau is read.

    `starts` are numbers in 0..1, one a video: where in it the window lies that is looked at.
    """

    videos: Sequence[torch.Tensor] = field(repr=False)
    rate: float
    starts: Sequence[float] = field(repr=False)

    @classmethod
    def of(cls, videos: Sequence[torch.Tensor], rate: float, noise: torch.Generator) -> Self:
        """Draw where in each held-out video the window lies."""
        return cls(videos, rate, torch.rand(len(videos), generator=noise, dtype=torch.float64).tolist())

    def tau(self, length: int) -> float:
        """Return the k-th smallest, k = ceil(rate (n + 1)), of the smallest distances in n windows of `length` frames.

        Held-out videos that are shorter are left out. Raises `PrivacyError` where these are more than half: the others
        would stand for few.
        """
        smallest = [
            video[start : start + length].amin().item()
            for video, part in zip(self.videos, self.starts, strict=True)
            if len(video) >= length
            for start in [int(part * (len(video) - length + 1))]
        ]
        if 2 * len(smallest) < len(self.videos) or not smallest:
            raise PrivacyError(
                f"videos are judged in windows of {length} frames, and of {len(self.videos)} held-out patients' videos "
                f"{len(smallest)} are as long: too few to say how near such a window of a stranger comes; generate "
                "shorter videos (--frames), or train with longer ones"
            )
        rank = math.ceil(self.rate * (len(smallest) + 1) - 1e-9)
        return sorted(smallest)[min(max(rank, 1), len(smallest)) - 1]
