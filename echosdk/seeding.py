"""One `torch.Generator` per sample and purpose, so that no result depends on the batch it was made in."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_of(*parts: int | str | bytes, key: bytes = b"") -> int:
    """Return a 63-bit seed: a keyed hash of the parts. Without the key it cannot be found from them."""
    message = b"".join(_frame(part) for part in parts)
    return int.from_bytes(hmac.new(key, message, hashlib.sha256).digest()[:8], "big") >> 1


def generator(*parts: int | str | bytes, key: bytes = b"") -> torch.Generator:
    """Return a CPU generator for (seed, sample, attempt, purpose) or other parts; noise is always drawn on the CPU."""
    import torch

    return torch.Generator("cpu").manual_seed(seed_of(*parts, key=key))


def _frame(part: int | str | bytes) -> bytes:
    data = part if isinstance(part, bytes) else repr(part).encode()
    return len(data).to_bytes(8, "big") + data
