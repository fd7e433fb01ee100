"""Fixtures: the installed plugins, and a bundle trained in seconds that has every part a real one has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from echosdk import Registry
from echosdk.bundle import Bundle
from echosdk.plugin_set import PluginSet, open_source, resolve
from echosdk.training.stages import Training, train_bundle

TINY_DATA = "phantom?patients=16&frames=40&size=32"


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.discover()


@pytest.fixture(scope="session")
def trained_tiny(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle `default-tiny`, trained once a session; do not change it: take a copy (`tiny_bundle`)."""
    out = tmp_path_factory.mktemp("bundle") / "tiny"
    return train_bundle(
        Training(
            plugin_set=resolve(registry, PluginSet.find("default-tiny", registry)),
            registry=registry,
            source=open_source(registry, TINY_DATA),
            source_name=TINY_DATA,
            out=out,
            work=out.with_name("work"),
        )
    )


@pytest.fixture
def tiny_bundle(trained_tiny: Bundle, tmp_path: Path) -> Path:
    """A copy of the tiny bundle's folder."""
    return Path(shutil.copytree(trained_tiny.folder, tmp_path / "tiny-bundle"))
