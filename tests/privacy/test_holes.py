"""The hole attack: around a training patient nothing was published. Measured with and without knowledge of the filter."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from echosdk import Registry
from echosdk.privacy.holes import MOST, most_videos, rejections_a_patient

PATIENTS = 100


@pytest.fixture(scope="module")
def holes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("holes", Path(__file__).parents[2] / "benchmarks" / "holes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(holes: Any, videos: int) -> Any:
    return holes.attack(holes.World(train=PATIENTS), videos)


def test_as_many_videos_as_the_policy_allows_leave_no_hole_that_is_seen(registry: Registry, holes: Any) -> None:
    """What the best attack could find: with 0.1 rejections a patient, outsiders have an empty place as often as not."""
    found = measured(holes, 200)
    assert found["rejections_a_patient"] == pytest.approx(MOST, abs=0.08)
    for attacker in ("with the filter", "without"):
        low, _ = found[attacker]["area"]["interval_95"]
        assert low < 0.6


def test_a_hundred_times_as_many_show_whoever_knows_the_filter_who_was_trained_on(registry: Registry, holes: Any) -> None:
    """So the attack has teeth; and it needs the filter, which is private."""
    found = measured(holes, 20_000)
    assert found["rejections_a_patient"] > 5
    knowing, guessing = found["with the filter"], found["without"]
    assert knowing["area"]["interval_95"][0] > 0.9
    assert knowing["found_at_1_percent"]["interval_95"][0] > 0.3
    assert guessing["area"]["interval_95"][0] < 0.65
    assert guessing["area"]["value"] < knowing["area"]["value"] - 0.2


def manifest(videos: int, hits: int, n: int, patients: int = 600, **more: Any) -> dict[str, Any]:
    rate = {"hits": hits, "n": n, "rate": hits / n if n else None, "interval_95": [0.0, 2 * hits / n] if n else None}
    about = {"plan": {"privacy_filter": True}, "counts": {"samples": videos}, "trained_on": {"train_patients": patients}}
    return about | {"rejected": {"stills": rate, "videos": rate}} | more


def test_rejections_a_patient_are_counted_and_the_policy_says_how_many_videos_it_allows() -> None:
    """A still that is rejected leaves a hole, and so does a finished video."""
    figure = rejections_a_patient(manifest(videos=300, hits=20, n=320))
    assert figure.value == pytest.approx(300 * (20 + 20) / 320 / 600)
    assert (figure.better, figure.n) == ("lower", 320)
    assert most_videos(figure, 300) == 240  # at twice 12.5 %, the upper ends
    assert most_videos(rejections_a_patient(manifest(10, 0, 10)), 10) is None


@pytest.mark.parametrize(
    "untold", [manifest(1, 0, 0), manifest(1, 0, 0, rejected={}), manifest(9, 0, 9, trained_on={"source": "theirs"})]
)
def test_where_it_cannot_be_known_there_is_no_figure(untold: dict[str, Any]) -> None:
    assert rejections_a_patient(untold).value is None
