"""Fixtures: a dataset made once, in one process and without interruption; and registries with a stranger's filter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import frozen

import echosdk
from echosdk import Registry
from echosdk.bundle import Bundle
from echosdk.generation.generate import Options, generate

VIDEOS = {"train": 7, "val": 2, "test": 1}  # shards of 4, 3, 2 and 1: none is a multiple of the micro-batch


@frozen
class Whole:
    """A dataset, what its private audit says, and the options it was made with."""

    folder: Path
    audit: Path
    options: Options
    manifest: dict[str, Any]


@pytest.fixture(scope="session")
def options(trained_tiny: Bundle) -> Options:
    return Options(
        plugin_set="default-tiny",
        bundle=str(trained_tiny.folder),
        splits=VIDEOS,
        num_frames=12,
        shard_size=4,
        micro_batch=3,
    )


@pytest.fixture(scope="session")
def as_arguments(options: Options) -> Callable[..., list[str]]:
    """The same options as a command line."""

    def arguments(out: Path | str, *more: str) -> list[str]:
        return [
            "generate", "--plugin-set", "default-tiny", "--bundle", str(options.bundle), "--out", str(out),
            "--splits", "train=7,val=2,test=1", "--frames", "12", "--shard-size", "4", "--micro-batch", "3",
            "--device", "cpu", "--workers", "1", *more,
        ]  # fmt: skip

    return arguments


@pytest.fixture(scope="session")
def whole(options: Options, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Made once a session; do not change it: take a copy."""
    folder = tmp_path_factory.mktemp("dataset")
    manifest = generate(str(folder / "out"), options=options, registry=registry, private_audit=folder / "audit")
    assert manifest is not None
    return Whole(folder / "out", folder / "audit", options, manifest)


@pytest.fixture(scope="session")
def digests() -> Callable[[Path], dict[str, str]]:
    """The sha256 of every file under a folder, hidden ones too."""

    def of(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file()
        }

    return of


@pytest.fixture(scope="session")
def with_filter(registry: Registry) -> Callable[[Any], Registry]:
    """The installed plugins, and one more that offers the filter `strange`."""

    def make(build: Any) -> Registry:
        @echosdk.hookimpl
        def echosdk_privacy_filters() -> Any:
            yield echosdk.Component(name="strange", build=build, summary="A stranger's.")

        module = ModuleType("strangers")
        module.echosdk_privacy_filters = echosdk_privacy_filters  # type: ignore[attr-defined]
        return Registry((*registry.offers, *Registry.of(module).offers))

    return make
