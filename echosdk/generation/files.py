"""Files of a dataset, on any fsspec URL: written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from attrs import frozen

from echosdk.errors import DatasetError, InputError


@frozen
class Folder:
    """A folder at a path or fsspec URL."""

    url: str
    _filesystem: Any
    _path: str

    @classmethod
    def at(cls, url: str) -> Folder:
        """Open a folder. Raises `InputError` where the URL's protocol is unknown, or its package is not installed."""
        if not url.strip():
            raise InputError("the place of the dataset is empty; name a folder or URL")
        try:
            filesystem, path = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise InputError(f"{url}: cannot be opened: {error}") from error
        return cls(url, filesystem, path.rstrip("/"))

    @property
    def is_local(self) -> bool:
        return "file" in self._filesystem.protocol

    @property
    def local_path(self) -> Path | None:
        """Where the folder lies on a disk of this machine; None where it does not."""
        return Path(self._path).resolve() if self.is_local else None

    def names(self) -> list[str]:
        """Return the names of the folder's files, sorted; a folder that is not there has none."""
        self._filesystem.invalidate_cache()
        if not self._filesystem.isdir(self._path):
            return []
        return sorted(path.rpartition("/")[2] for path in self._filesystem.ls(self._path, detail=False))

    def read(self, name: str) -> bytes:
        try:
            return bytes(self._filesystem.cat_file(f"{self._path}/{name}"))
        except FileNotFoundError as error:
            raise DatasetError(f"{self.url}/{name}: missing") from error

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole: under another name and renamed where it is a disk, in one put where it is not."""
        path = f"{self._path}/{name}"
        if not self.is_local:
            self._filesystem.makedirs(self._path, exist_ok=True)
            self._filesystem.pipe_file(path, data)
            return
        partial = f"{self._path}/.{name}.{os.getpid()}.partial"
        try:
            os.makedirs(self._path, exist_ok=True)
            with open(partial, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(partial)
            raise DatasetError(f"{self.url}/{name}: cannot be written: {error.strerror or error}") from error

    def delete(self, name: str) -> None:
        self._filesystem.rm_file(f"{self._path}/{name}")

    def sweep(self) -> None:
        """Remove what killed runs left behind: partial files and locks."""
        for name in self.names():
            if name.startswith(".") and name.endswith((".partial", ".lock")):
                self.delete(name)

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """Hold a lock, given up when the process dies; False where somebody else holds it. Disks only."""
        if not self.is_local:
            yield True
            return
        import fcntl

        path = f"{self._path}/.{name}.lock"
        try:
            os.makedirs(self._path, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise DatasetError(f"{self.url}: cannot be written to: {error.strerror or error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            yield False
            return
        try:
            yield True
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)
            os.close(descriptor)
