"""Draw clips and frames with a generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

from echosdk.interfaces import StoredClip

T = TypeVar("T")


def choose(items: Sequence[T], generator: torch.Generator) -> T:
    """Draw one item, each with the same chance."""
    return items[int(torch.randint(len(items), (), generator=generator))]


def frames_of(clip: StoredClip, length: int, generator: torch.Generator) -> tuple[int, int]:
    """Draw a window of `length` frames: its first frame, and how many of its frames the clip has."""
    first = int(torch.randint(max(1, clip.num_frames - length + 1), (), generator=generator))
    return first, min(length, clip.num_frames - first)
