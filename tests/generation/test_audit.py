"""The audit of a tiny dataset, end to end: what it reports, when it says no, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from echosdk import Registry
from echosdk.bundle import Bundle, strip
from echosdk.generation.generate import Options, generate
from echosdk.privacy.alterations import ALTERATIONS
from echosdk.privacy.audit import Audit, audit

DATA = "phantom?patients=16&frames=40&size=32"  # what the tiny bundle was trained on: 12 patients, 2 and 2
LENIENT = '[[limit]]\nfigure = "probe.exact.*"\nbound = "value"\nat_least = 0.9\nwhy = "a copy is a copy"\n'


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def report(whole: Any, registry: Registry, told: list[str]) -> dict[str, Any]:
    bundle = str(whole.options.bundle)
    return audit(Audit(out=str(whole.folder), source=DATA, bundle=bundle, videos=3), registry, told.append)


@pytest.fixture
def figures(report: dict[str, Any]) -> dict[str, Any]:
    return {figure["name"]: figure for figure in report["figures"]}


@pytest.fixture
def lenient(tmp_path: Path) -> Path:
    path = tmp_path / "lenient.toml"
    path.write_text(LENIENT)
    return path


def test_every_alteration_is_one_query_a_patient(figures: dict[str, Any]) -> None:
    for name in (*ALTERATIONS, "another-frame"):
        assert figures[f"probe.{name}.still"]["n"] == 12
        assert figures[f"probe.{name}.still"]["better"] == "higher"
    for name in ("exact", "h264"):
        assert figures[f"probe.{name}.video"]["n"] == 3
    assert [figures[f"innocents.{what}"]["n"] for what in ("still", "video")] == [2, 2]


def test_the_very_references_are_found(figures: dict[str, Any]) -> None:
    assert figures["probe.exact.still"]["value"] == figures["probe.exact.video"]["value"] == 1.0


def test_patients_with_one_video_cannot_be_asked_about_with_another(figures: dict[str, Any]) -> None:
    other = figures["probe.another-video.still"]
    assert (other["n"], other["value"]) == (0, None)
    assert other["note"] == "no patient of this source has two videos"


def test_every_figure_has_direction_number_and_interval_or_says_why_not(figures: dict[str, Any]) -> None:
    assert {name.partition(".")[0] for name in figures} == {
        "probe", "innocents", "holes", "records", "coverage", "duplicates", "membership",
    }  # fmt: skip
    assert {name.split(".")[1] for name in figures if name.startswith("membership.")} == {"latent", "filter"}
    for figure in figures.values():
        assert figure["better"] in ("higher", "lower", "neither")
        if figure["n"]:
            low, high = figure["interval_95"]
            assert low - 1e-9 <= figure["value"] <= high + 1e-9, figure
        else:
            assert figure["value"] is None
            assert figure["note"], figure


def test_it_names_no_patient_file_or_place(report: dict[str, Any], whole: Any) -> None:
    text = json.dumps({**report, "trained_on": {}})
    for secret in ("phantom", str(whole.folder), str(whole.options.bundle), "tau", "seed"):
        assert secret not in text, secret


def test_it_says_how_far_it_is(report: dict[str, Any], told: list[str]) -> None:
    assert "dataset: 10 of 10 videos read" in told
    assert "12 of 12 training patients asked about" in told


def test_so_few_patients_do_not_meet_echosdks_policy(report: dict[str, Any]) -> None:
    """At no miss in 12 the lower bound is 74 %."""
    finding = next(finding for finding in report["findings"] if finding["figure"] == "probe.exact.still")
    assert not finding["met"]
    assert 0.7 < finding["reached"] < 0.75
    assert not report["ok"]


def test_the_command_ends_with_1_where_the_policy_is_not_met_and_0_where_it_is(
    whole: Any, lenient: Path, tmp_path: Path, run_echosdk: Callable[..., Any]
) -> None:
    arguments = ["audit", str(whole.folder), "--data", DATA, "--bundle", str(whole.options.bundle), "--device", "cpu"]
    few = [*arguments, "--patients", "3", "--videos", "1", "--frames", "1"]
    ended = run_echosdk(*few, "--policy", str(lenient), "--json")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["ok"]
    assert "3 of 3 training patients asked about" in ended.err
    strict = tmp_path / "strict.toml"
    strict.write_text(LENIENT + LENIENT.replace("probe.exact.*", "probe.exact.still").replace('"value"', '"low"'))
    ended = run_echosdk(*few, "--policy", str(strict))
    assert ended.status == 1
    lines = ended.out.splitlines()
    assert "NOT MET  probe.exact.still: 0.292, wants low end of the interval at least 0.9" in lines
    assert lines[-1] == f"{strict}: NOT MET"
    assert "Of 3 planted patients the gate rejected 3 as a still (exact; 95 % lower bound 29.2%)." in lines


def test_other_data_and_another_bundle_are_refused(
    whole: Any, tiny_bundle: Path, run_echosdk: Callable[..., Any]
) -> None:
    arguments = ["audit", str(whole.folder), "--device", "cpu", "--data"]
    ended = run_echosdk(*arguments, "phantom?patients=17&frames=40&size=32", "--bundle", str(whole.options.bundle))
    assert ended.status == 2
    assert "is not what bundle" in ended.err
    assert "was trained on (their fingerprints differ)" in ended.err
    ended = run_echosdk(*arguments, DATA)
    assert ended.status == 2
    assert "was made from the bundle 'tiny'; say where it is: --bundle PATH" in ended.err
    manifest = tiny_bundle / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"percentile": 5.0', '"percentile": 6.0'))
    ended = run_echosdk(*arguments, DATA, "--bundle", str(tiny_bundle))
    assert ended.status == 2
    assert f"is not the bundle that {whole.folder} was made from" in ended.err


def test_a_stripped_bundle_cannot_be_audited(whole: Any, tmp_path: Path, run_echosdk: Callable[..., Any]) -> None:
    strip(Bundle.open(str(whole.options.bundle)), tmp_path / "tiny")
    ended = run_echosdk("audit", str(whole.folder), "--data", DATA, "--bundle", str(tmp_path / "tiny"))
    assert ended.status == 2
    assert "was stripped of its references and its filter, so it cannot be audited" in ended.err


def test_a_dataset_without_a_filter_is_audited_and_the_report_says_so_first(
    whole: Any, lenient: Path, registry: Registry, tmp_path: Path
) -> None:
    bundle = str(whole.options.bundle)
    options = Options(plugin_set="default-tiny", bundle=bundle, num_videos=2, num_frames=4, privacy_filter=False)
    generate(str(tmp_path / "out"), options=options, registry=registry)
    asked = Audit(
        out=str(tmp_path / "out"), source=DATA, bundle=bundle, patients=2, videos=1, policy=str(lenient)
    )
    found = audit(asked, registry)
    assert found["claims"][0].startswith("The dataset was generated without a privacy filter")
    holes = next(figure for figure in found["figures"] if figure["name"] == "holes.rejections-a-patient")
    assert (holes["value"], holes["note"]) == (None, "no gate was asked")


def test_a_damaged_shard_is_named(whole: Any, tmp_path: Path, run_echosdk: Callable[..., Any]) -> None:
    out = Path(shutil.copytree(whole.folder, tmp_path / "out"))
    shard = out / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    ended = run_echosdk(
        "audit", str(out), "--data", DATA, "--bundle", str(whole.options.bundle), "--patients", "1", "--device", "cpu"
    )
    assert ended.status == 2
    assert "train-000000.tar: its bytes are not those that were written; run: echosdk repair" in ended.err
