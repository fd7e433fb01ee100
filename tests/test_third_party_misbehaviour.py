"""An installed filter that goes wrong in the middle of a run stops it, and the message names plugin and distribution."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from echosdk.bundle import Bundle
from echosdk.interfaces import CONTRACTS

SPOILT = '''
"""Filters that judge well until they are asked about a second sample's still."""

import echosdk
import torch
from attrs import define, field


@define
class Spoilt:
    space = "latent"
    asked: int = field(init=False, default=0)

    def calibrate(self, train, holdout, generator):
        pass

    def judge(self, stills):
        self.asked += len(stills) == 1  # references and frames of a video are more
        return self.spoil(stills) if self.asked > 1 else self.well(stills)

    def well(self, stills):
        return echosdk.Verdict(keep=torch.ones(len(stills), dtype=torch.bool), distance=torch.ones(len(stills)), tau=0.5)


class Raising(Spoilt):
    def spoil(self, stills):
        raise RuntimeError("the licence server is down")


class Shapeless(Spoilt):
    def spoil(self, stills):
        return echosdk.Verdict(keep=torch.ones(7, dtype=torch.bool), distance=torch.ones(len(stills)), tau=0.5)


class NotANumber(Spoilt):
    def spoil(self, stills):
        return echosdk.Verdict(keep=torch.ones(1, dtype=torch.bool), distance=torch.full((1,), torch.nan), tau=0.5)


class Mutating(Spoilt):
    def spoil(self, stills):
        stills.zero_()
        return self.well(stills)


@echosdk.hookimpl
def echosdk_privacy_filters():
    for name, build in (("raising", Raising), ("shapeless", Shapeless), ("nan", NotANumber), ("mutating", Mutating)):
        yield echosdk.Component(name=name, build=build, summary="", contract=1)
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the plugin `spoilt` of the distribution `strangers-filters` where an installer does."""
    info = tmp_path / "packages" / "strangers_filters-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers-filters\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[echosdk]\nspoilt = spoilt_filters\n")
    (info.parent / "spoilt_filters.py").write_text(SPOILT)
    monkeypatch.syspath_prepend(info.parent)
    monkeypatch.delitem(sys.modules, "spoilt_filters", raising=False)


@pytest.fixture
def generate_with(
    installed: None, trained_tiny: Bundle, run_echosdk: Callable[..., Any], tmp_path: Path
) -> Callable[[str], Any]:
    """Generate three samples, a shard each, with a filter of that name."""

    def generate(name: str) -> Any:
        return run_echosdk(
            "generate", "--plugin-set", "default-tiny", "--bundle", str(trained_tiny.folder), "--num-videos", "3",
            "--frames", "8", "--shard-size", "1", "--workers", "1", "--device", "cpu",
            "--use", f"privacy_filter={name}", "--out", str(tmp_path / "out"),
        )  # fmt: skip

    return generate


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raising", "the filter failed: RuntimeError: the licence server is down"),
        ("shapeless", "judged 1 items, but keep has shape (7,), not (1,)"),
        ("nan", "a distance or tau is not a number; nothing is kept on such a verdict"),
        ("mutating", "judge() changed the stills that it was shown"),
    ],
)
def test_it_stops_the_run_and_nothing_that_it_judged_wrongly_is_there(
    name: str, says: str, generate_with: Callable[[str], Any], tmp_path: Path
) -> None:
    ended = generate_with(name)
    assert ended.status == 2
    assert ended.err.splitlines()[-1] == f"echosdk: {name} of spoilt (strangers-filters 1.5): {says}"
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert [name for name in written if name.endswith(".tar")] == ["train-000000.tar"]  # the sample before
    assert "dataset.json" not in written


def test_one_for_an_older_contract_is_listed_and_refused_by_name(
    generate_with: Callable[[str], Any],
    run_echosdk: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(CONTRACTS, "privacy_filter", 2)
    says = (
        "spoilt (strangers-filters 1.5): 'raising' was written for version 1 of the privacy filter contract, and this "
        "echosdk has version 2; update the plugin"
    )
    listed = run_echosdk("plugins", "list").out.partition("\nproblems:\n")[2]
    assert says in [line.strip() for line in listed.splitlines()]
    ended = generate_with("raising")
    assert ended.status == 2
    assert ended.err.endswith(f"{says}\n")
    assert not (tmp_path / "out").exists()
