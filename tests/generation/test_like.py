"""A dataset that mirrors a real one: counts, mean length, and labels drawn from bins of many patients, never from one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import numpy as np
import pytest
from attrs import field, frozen

import echosdk
from echosdk import Category, Clip, InputError, Label, Registry
from echosdk.bundle import Bundle
from echosdk.generation.generate import Options, generate, make_plan
from echosdk.generation.labels import empirical_labels
from echosdk.generation.like import FEWEST_IN_A_BIN, GRID, Mirror, edges

EF = Label(name="simulated_EF", unit="%", low=10, high=80)
VIEW = Category(name="view", values=("A4C", "PSAX"))
NUMBERS = np.random.default_rng(0).normal(60, 8, 300).clip(11, 79.9)


def clip(patient: int, split: Any = "train", frames: int = 10, fps: float = 32, **labels: Any) -> Clip:
    name = f"patient-{patient:04d}"
    return Clip(id=f"{name}-{frames}", group=name, split=split, fps=fps, labels=labels,
                load=lambda: np.zeros((frames, 32, 32), np.uint8))  # fmt: skip


def clips() -> list[Clip]:
    """300 patients, each with two videos of one label: 10 and 30 frames at twice the bundle's frame rate."""
    split = ["train"] * 240 + ["val"] * 36 + ["test"] * 24
    return [clip(i, split[i], frames, simulated_EF=float(NUMBERS[i])) for i in range(300) for frames in (10, 30)]


@frozen
class Hospital:
    """A real dataset."""

    unit: str = "%"
    labels: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "labels", (attrs.evolve(EF, unit=self.unit),))

    def clips(self, split: Any) -> Iterator[Clip]:
        return (one for one in clips() if one.split == split)

    def fingerprint(self) -> str:
        return "hospital"


@pytest.fixture(scope="module")
def installed(registry: Registry) -> Registry:
    @echosdk.hookimpl
    def echosdk_data_sources() -> Any:
        yield echosdk.Component(name="hospital", build=Hospital, summary="Real ones.")

    module = ModuleType("hospital")
    module.echosdk_data_sources = echosdk_data_sources  # type: ignore[attr-defined]
    return Registry((*registry.offers, *Registry.of(module).offers))


@pytest.fixture(scope="module")
def wanted(trained_tiny: Bundle) -> Options:
    return Options(plugin_set="default-tiny", bundle=str(trained_tiny.folder), like="hospital")


def mirror_of(held: list[Clip], *labels: Any) -> Mirror:
    return Mirror(source="hospital", clips=held, labels=labels or (EF,), fps=16)


def quiet(line: str) -> None: ...


def test_counts_and_mean_length_are_those_of_the_real_dataset(wanted: Options, installed: Registry) -> None:
    plan, _ = make_plan(wanted, installed)
    assert plan.counts == {"train": 480, "val": 72, "test": 48}
    assert plan.num_frames == 10  # 5 and 15 frames at the bundle's 16 frames/s
    assert plan.labels == "empirical"


def test_what_is_said_is_not_taken_from_the_real_dataset(wanted: Options, installed: Registry) -> None:
    said = attrs.evolve(wanted, splits={"val": 3}, num_frames=7, labels="uniform")
    plan, _ = make_plan(said, installed)
    assert (plan.counts, plan.num_frames, plan.labels) == ({"val": 3}, 7, "uniform")
    assert "label_bins" not in plan.public()
    plan, _ = make_plan(attrs.evolve(wanted, num_videos=2, num_frames=8), installed)
    assert (plan.counts, plan.labels) == ({"train": 2}, "empirical")


def test_every_bin_has_enough_patients_and_they_are_all_there() -> None:
    bins = mirror_of(clips()).label_bins(quiet)
    assert 5 < len(bins) <= 32
    assert all(one["patients"] >= FEWEST_IN_A_BIN for one in bins)
    assert sum(one["patients"] for one in bins) == 300
    cuts = [one["of"]["simulated_EF"] for one in bins]
    assert (cuts[0][0], cuts[-1][1]) == (10, 80)
    assert [low for low, _ in cuts[1:]] == [high for _, high in cuts[:-1]]
    for low, high in cuts:
        held = ((low <= NUMBERS) & (high > NUMBERS)).sum()
        assert {one["of"]["simulated_EF"][0]: one["patients"] for one in bins}[low] == held


def test_bins_begin_and_end_on_a_grid_that_no_patient_decides() -> None:
    steps = [(cut - EF.low) / (EF.high - EF.low) * GRID for cut in edges(EF, clips(), 32)]
    assert steps == pytest.approx([round(step) for step in steps])
    moved = [attrs.evolve(one, labels={"simulated_EF": one.labels["simulated_EF"] + 1e-6}) for one in clips()]
    assert mirror_of(moved).label_bins(quiet) == mirror_of(clips()).label_bins(quiet)


def test_eleven_videos_of_one_patient_are_no_bin() -> None:
    one = [clip(1, frames=number, simulated_EF=70.0) for number in range(1, 31)]
    other = [clip(number, simulated_EF=30.0) for number in range(2, 20)]
    (only,) = mirror_of(one + other).label_bins(quiet)
    assert only == {"of": {"simulated_EF": [10, 80]}, "patients": 19}
    with pytest.raises(InputError, match="no combination of labels is shared by 11 patients"):
        mirror_of(one).label_bins(quiet)


def test_rare_combinations_are_reported_and_not_drawn() -> None:
    held = [clip(i, simulated_EF=60.0 + i / 10, view="A4C") for i in range(60)]
    held += [clip(100 + i, simulated_EF=30.0, view="PSAX") for i in range(3)]
    said: list[str] = []
    bins = mirror_of(held, EF, VIEW).label_bins(said.append)
    assert {one["of"]["view"] for one in bins} == {"A4C"}
    assert sum(one["patients"] for one in bins) == 60
    assert "1 rarer combination of labels will not be drawn" in said[-1]


def test_labels_out_of_the_bundles_range_are_left_out_and_said() -> None:
    said: list[str] = []
    bins = mirror_of([*clips(), clip(999, simulated_EF=5.0), clip(998)]).label_bins(said.append)
    assert sum(one["patients"] for one in bins) == 300
    assert said[0] == "--like hospital: labels of 2 clips are missing or out of range; left out"


def test_labels_are_drawn_as_often_as_patients_have_them_and_evenly_within_a_bin() -> None:
    bins = [{"of": {"EF": [10.0, 20.0], "view": "A4C"}, "patients": 30}, {"of": {"EF": [20.0, 80.0], "view": "PSAX"}, "patients": 10}]
    drawn = [empirical_labels(bins, 0, sample, b"key") for sample in range(2000)]
    assert Counter(one["view"] for one in drawn)["A4C"] / 2000 == pytest.approx(0.75, abs=0.04)
    low = np.array([one["EF"] for one in drawn if one["view"] == "A4C"])
    assert 10 <= low.min() < low.max() < 20
    assert len(np.unique(low)) == len(low)
    assert np.quantile(low, [0.25, 0.5, 0.75]) == pytest.approx([12.5, 15, 17.5], abs=0.5)
    assert all(20 <= one["EF"] < 80 for one in drawn if one["view"] == "PSAX")
    assert empirical_labels(bins, 0, 7, b"key") == drawn[7]
    assert empirical_labels(bins, 1, 7, b"key") != drawn[7]
    assert empirical_labels(bins, 0, 7, b"other") != drawn[7]


def test_no_real_label_is_in_the_dataset_and_the_card_says_where_labels_come_from(
    wanted: Options, installed: Registry, tmp_path: Path
) -> None:
    options = attrs.evolve(wanted, num_videos=4, num_frames=4, shard_size=2)
    manifest = generate(str(tmp_path / "out"), options=options, registry=installed)
    assert manifest is not None
    real = [repr(float(number))[:8].encode() for number in NUMBERS]
    for path in (tmp_path / "out").iterdir():
        data = path.read_bytes()
        assert not [number for number in real if number in data], path.name
        assert b"hospital" not in data, path.name
    card = (tmp_path / "out" / "README.md").read_text()
    bins = len(manifest["plan"]["label_bins"])
    assert f"distributed: from {bins} bins of at least 11 patients each" in " ".join(card.split())
    for row in json.loads((tmp_path / "out" / "train-000000.json").read_text())["samples"]:
        assert any(a <= row["labels"]["simulated_EF"] < b for a, b in [one["of"]["simulated_EF"] for one in manifest["plan"]["label_bins"]])
    again = generate(str(tmp_path / "again"), options=options, registry=installed, shards="1:2")
    assert again is None
    name = "train-000001.tar"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"like": None, "labels": "empirical"}, "--labels empirical: of which real dataset? Say --like SOURCE"),
        ({"like": "hospital?unit=ml"}, "--like hospital?unit=ml: has no simulated_EF in the unit of bundle"),
        ({"like": "nowhere"}, "no data source named 'nowhere'"),
    ],
)
def test_what_cannot_be_mirrored_is_refused(
    changes: dict[str, Any], says: str, wanted: Options, installed: Registry
) -> None:
    with pytest.raises(InputError) as error:
        make_plan(attrs.evolve(wanted, **changes), installed)
    assert says in str(error.value)


def test_the_command_takes_it(run_echosdk: Callable[..., Any], trained_tiny: Bundle, tmp_path: Path) -> None:
    outcome = run_echosdk(
        "generate", "--plugin-set", "default-tiny", "--bundle", str(trained_tiny.folder), "--out", str(tmp_path / "out"),
        "--like", "phantom?patients=40&frames=4&size=32", "--num-videos", "1", "--workers", "1", "--device", "cpu",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    plan = json.loads((tmp_path / "out" / "dataset.json").read_text())["plan"]
    assert (plan["labels"], plan["num_frames"]) == ("empirical", 2)  # 4 frames at twice the bundle's rate
    assert "rarer combinations of labels will not be drawn" in outcome.err
