"""Fixtures: a small dataset of the tiny bundle."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from attrs import evolve, frozen

from echosdk import Registry
from echosdk.bundle import Bundle
from echosdk.generation.generate import Options, generate
from echosdk.interfaces import SPLITS, Category, Clip, DataSource, Label, Split
from echosdk.plugin_set import open_source


@pytest.fixture(scope="module", autouse=True)
def no_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """None of other people's weights, whatever this machine has: they would be measured with, for minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECHOSDK_WEIGHTS", str(tmp_path_factory.mktemp("no-weights")))
        yield


@pytest.fixture(scope="session")
def made(trained_tiny: Bundle, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated dataset with all three splits; do not change it."""
    out = tmp_path_factory.mktemp("evaluation") / "made"
    options = Options(
        plugin_set="default-tiny",
        bundle=str(trained_tiny.folder),
        splits={"train": 10, "val": 4, "test": 4},
        num_frames=12,
    )
    assert generate(str(out), options=options, registry=registry) is not None
    return out


@frozen
class Rendered:
    """A source whose clips are rendered once: to simulate a clip takes longer than all that is done with it here."""

    labels: tuple[Label | Category, ...]
    by_split: dict[str, list[Clip]]

    @classmethod
    def of(cls, source: DataSource) -> Rendered:
        return cls(source.labels, {split: [_kept(clip) for clip in source.clips(split)] for split in SPLITS})

    def clips(self, split: Split) -> Iterator[Clip]:
        return iter(self.by_split[split])

    def fingerprint(self) -> str:
        return "rendered"


def _kept(clip: Clip) -> Clip:
    return evolve(clip, load=cache(clip.load))


@pytest.fixture(scope="session")
def real(registry: Registry) -> Rendered:
    return Rendered.of(open_source(registry, "phantom?patients=120&frames=12&fps=16&size=32"))
