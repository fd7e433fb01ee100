"""One `torch.Generator` per sample and purpose, so that no result depends on the batch it was made in."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

STATE_WORDS = 624
FIRST_WORD = 3
"""Where the Mersenne Twister's words begin in a torch CPU generator's state, in units of 8 bytes."""


def seed_of(*parts: int | str | bytes, key: bytes = b"") -> int:
    """Return a 63-bit seed: a keyed hash of the parts. Without the key it cannot be found from them."""
    return int.from_bytes(_digest(parts, key)[:8], "big") >> 1


def generator(*parts: int | str | bytes, key: bytes = b"") -> torch.Generator:
    """Return a CPU generator for (seed, sample, attempt, purpose) or other parts; noise is always drawn on the CPU.

    `manual_seed` uses 32 bits of a seed, so that among 100,000 samples some would share their noise. The hash fills
    the whole state instead.
    """
    import torch

    made = torch.Generator("cpu").manual_seed(seed_of(*parts, key=key))
    state = made.get_state()
    words = np.frombuffer(hashlib.shake_256(_digest(parts, key)).digest(4 * STATE_WORDS), "<u4").astype(np.int64)
    state.view(torch.int64)[FIRST_WORD : FIRST_WORD + STATE_WORDS] = torch.from_numpy(words)
    made.set_state(state)
    return made


def _digest(parts: tuple[int | str | bytes, ...], key: bytes) -> bytes:
    return hmac.new(key, b"".join(_frame(part) for part in parts), hashlib.sha256).digest()


def _frame(part: int | str | bytes) -> bytes:
    data = part if isinstance(part, bytes) else repr(part).encode()
    return len(data).to_bytes(8, "big") + data
