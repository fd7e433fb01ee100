"""A bundle's secret, which keys all noise, and what binds it to the bundle."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from echosdk.errors import BundleError
from echosdk.integrity import write_whole

NOISE_KEY = "noise.key"
NOISE_KEY_BYTES = 32
NOISE_KEY_OF = "noise.of"
"""Beside the noise key: which bundle it is of, as a digest that only the key can make."""


def read_key(path: Path) -> bytes:
    """Read a noise key. Raises `BundleError` where the file holds none."""
    try:
        key = bytes.fromhex(path.read_text().strip())
        if len(key) != NOISE_KEY_BYTES:  # a short or empty key would be as good as none
            raise ValueError
    except ValueError as error:
        raise BundleError(f"{path}: damaged: holds no key; fetch the bundle again") from error
    return key


def write_key(private: Path) -> str:
    """Write a fresh key and what binds it; return the identity that the bundle's manifest is to hold."""
    key, identity = secrets.token_bytes(NOISE_KEY_BYTES), secrets.token_hex(16)
    write_whole(private / NOISE_KEY, f"{key.hex()}\n".encode(), mode=0o600)
    write_whole(private / NOISE_KEY_OF, f"{_bound(key, identity)}\n".encode(), mode=0o600)
    return identity


def refuse_other_key(path: Path, of: Path, identity: str) -> None:
    """Raise `BundleError` where the key is another bundle's: what is made with it could be replayed there."""
    if of.read_text().strip() != _bound(read_key(path), identity):
        raise BundleError(
            f"{path}: is the noise key of another bundle; put back the one that was made with this bundle, or fetch "
            "the bundle again"
        )


def _bound(key: bytes, identity: str) -> str:
    return hmac.new(key, f"noise of {identity}".encode(), hashlib.sha256).hexdigest()
