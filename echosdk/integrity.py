"""Files of a bundle: their digests, who may read them, who may change them, and which are never read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from echosdk.errors import BundleError, InputError

NOT_WEIGHTS = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".npy", ".py"}


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(folder: Path, only: Iterable[str] | None = None) -> str:
    """Return a sha256 over the names and bytes of a folder's files; an absent folder is an empty one."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if only is not None and name.parts[0] not in only:
            continue
        total.update(f"{name.as_posix()}\0{file_digest(path)}\n".encode())
    return total.hexdigest()


def refuse_code(folder: Path) -> None:
    """Refuse files whose reading could run code."""
    for path in folder.rglob("*"):
        if path.suffix.lower() in NOT_WEIGHTS:
            raise BundleError(
                f"{path}: refused: reading a {path.suffix} file can run code; bundles hold safetensors and JSON"
            )


def private_folder(path: Path) -> Path:
    """Make a folder that its owner alone may enter, or make the one that is there so."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_whole(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file whole or not at all, and on the disk before it has its name: a power cut leaves the old one."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def alone(folder: Path, busy: str) -> Iterator[None]:
    """Hold a folder while something long is done in it. Raises `InputError` with `busy` where another process does."""
    import fcntl

    descriptor = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(busy) from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process of this machine changes the folder."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
