"""The report's page: verdicts first, numbers beside every drawing, and in a real browser it opens, plays and sorts."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echosdk import Label, Registry
from echosdk.bundle import Bundle
from echosdk.errors import InputError
from echosdk.evaluation.agreement import make_agreement
from echosdk.evaluation.intervals import mean_interval
from echosdk.evaluation.measurement import finite
from echosdk.evaluation.noninferiority import compare, needed
from echosdk.evaluation.rows import make_row
from echosdk.evaluation.validate import Validation
from echosdk.generation.files import Folder
from echosdk.generation.generate import Options, generate
from echosdk.generation.shards import AUDITED_PLAN, rate
from echosdk.report import scorecard
from echosdk.report.pictures import course, png
from echosdk.report.plots import bland_altman, curves, distances, interval, scatter
from echosdk.report.scorecard import make_card, render_card_page, write_private_edition
from echosdk.report.usefulness import distribution_charts

spec = spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
assert spec is not None
assert spec.loader is not None
chromium: Any = module_from_spec(spec)
spec.loader.exec_module(chromium)

EF = Label(name="simulated_EF", unit="%", low=10, high=80)


def validation(off: float = 0.0) -> dict[str, Any]:
    """A validation of 30 patients, as `validate` gives it; the synthetic arm errs by `off` more, which is over -4."""
    rng = np.random.default_rng(0)
    true, patients = rng.uniform(15, 75, 30), np.arange(30)
    side, error = rng.choice((-1, 1), (2, 30)), 4 + rng.exponential(2, (2, 30))
    real, made = true + side * error, true + side * (error + off)
    arms = (("real", "real", real), ("synthetic", "real", made), ("synthetic", "synthetic", made))
    found = compare(np.abs(real - true), np.abs(made - true)[None], patients, 0.5, resamples=200)
    rows = [make_row(a, b, read, true, patients, resamples=200) for a, b, read in arms]
    agreements = [make_agreement(a, b, read, true, patients, EF, (35, 50), resamples=200) for a, b, read in arms]
    plain = Validation(
        datasets=("made",), data="phantom", validator="ef-regressor", label=EF.name, unit="%", low=10, high=80,
        comparison=found, needed=needed(found), rows=tuple(rows), agreements=tuple(agreements), not_computed=(),
    ).plain()  # fmt: skip
    return json.loads(json.dumps(finite(plain)))


AUDIT = {
    "what": "Evidence, not a certificate.",
    "ok": False,
    "policy": "/home/somebody/policy.toml",
    "claims": ["Of 10 planted patients the gate rejected 9."],
    "figures": [
        {"name": name, "value": value, "interval_95": [0.1, 0.9], "n": n, "of": "patients", "better": "higher", "note": f"{name} is a proxy",
         "expected": {"value": 0.5, "interval_95": [0.25, 5.0], "of": "leaks, were it so"} if n else None}
        for name, value, n in (("probe.b", 0.9, 10), ("probe.a", 0.123, 9), ("probe.c", None, 0))
    ],
    "roc": {"membership.near": [{"false_positives": 0.0, "found": 0.0}, {"false_positives": 1.0, "found": 1.0}]},
    "findings": [{"figure": "probe.b", "wants": "at least 0.95", "reached": 0.9, "met": False, "why": "a copy is a copy"}],
}


@pytest.fixture(scope="module")
def dataset(trained_tiny: Bundle, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scorecard") / "made"
    options = Options(plugin_set="default-tiny", bundle=str(trained_tiny.folder), num_videos=3, num_frames=8)
    generate(str(out), options=options, registry=registry, private_audit=out.with_name("private"))
    return out


def card_of(dataset: Path, **parts: Any) -> dict[str, Any]:
    return make_card(Folder.at(str(dataset)), seconds={"generate": 3.0}, **parts)


def page_of(dataset: Path, **parts: Any) -> str:
    return render_card_page(card_of(dataset, **parts), Folder.at(str(dataset)))


def test_the_verdicts_come_first_and_say_what_they_rest_on(dataset: Path) -> None:
    page = page_of(dataset, validate=validation(3.0), audit=AUDIT)
    first = page[page.index("<header>") : page.index("</header>")]
    assert "<strong>Worse</strong>" in first
    assert "<strong>Policy not met</strong>" in first
    assert "errs by 3.00\N{NO-BREAK SPACE}percentage points more than one trained on real data, on 30 real test" in first
    assert "The whole interval is over the margin." in first
    assert "1 of 1 limits of policy.toml are not met.</p>" in first
    assert "<strong>Substitute</strong>" in page_of(dataset, validate=validation(-3.0))
    assert "errs by 3.00\N{NO-BREAK SPACE}percentage points less" in page_of(dataset, validate=validation(-3.0))


def test_a_trial_that_is_too_small_says_so(dataset: Path) -> None:
    small = validation(0.4)
    assert small["comparison"]["verdict"] == "not shown"
    small["needed"] = [{"seeds": 2, "patients": None}, {"seeds": 3, "patients": None}, {"seeds": 5, "patients": 70}]
    unmeasured = AUDIT["findings"] + [{**AUDIT["findings"][0], "reached": None}]  # type: ignore[operator, dict-item]
    page = page_of(dataset, validate=small, audit={**AUDIT, "findings": unmeasured})
    assert "this trial shows neither that it is as good nor that it is worse." in page
    assert "70 test patients with 5 seeds; with 3 seeds or fewer no number of patients is enough" in page
    assert "2 of 2 limits of policy.toml are not met. 1 of these could not be measured: too few patients." in page


def test_what_was_not_done_is_said_and_claimed_by_nothing(dataset: Path) -> None:
    card = card_of(dataset)
    assert card["verdicts"] == {"usefulness": "not done", "privacy": "not done"}
    page = render_card_page(card, Folder.at(str(dataset)))
    assert page.count("<strong>Not done</strong>") == 2
    assert "What the verdict rests on" not in page


def test_no_place_of_this_machine_is_in_it(dataset: Path) -> None:
    card = card_of(dataset, audit=AUDIT)
    assert card["audit"]["policy"] == "policy.toml"
    assert "/home/somebody" not in json.dumps(card)


def test_figures_that_are_no_numbers_are_shown_as_not_measured(dataset: Path) -> None:
    broken = validation()
    broken["rows"][2]["r2"] |= {"value": None, "low": None, "high": None}
    broken["agreements"][2]["upper"]["value"] = None
    page = page_of(dataset, validate=broken)
    assert "not\N{NO-BREAK SPACE}measured" in page
    assert page.count("Bland-Altman plot") == 2
    broken["rows"][0]["mae"] |= {"low": None, "high": None}
    assert f"{broken['rows'][0]['mae']['value']:.3g} (no\N{NO-BREAK SPACE}interval)" in page_of(dataset, validate=broken)


def test_one_patient_has_no_interval() -> None:
    row = make_row("a", "b", np.array([[5.0], [7.0]]), np.array([4.0]), np.array([0]), resamples=50)
    assert row.mae.value == 2.0
    assert row.mae.interval_in_words() == "no interval"
    found = make_agreement("a", "b", np.array([[5.0], [7.0]]), np.array([4.0]), np.array([0]), EF, (35,), resamples=50)
    assert found.bias.interval_in_words() == "no interval"
    assert mean_interval(np.array([3.0])) == pytest.approx((np.nan, np.nan), nan_ok=True)


def test_labels_of_real_and_synthetic_videos_lie_over_each_other() -> None:
    made = {"name": EF.name, "histogram": {"edges": [10, 45, 80], "counts": [3, 1]}}
    cells = [(20.0, 30.0, 4), (80.0, 60.0, 2), (45.0, 60.0, 2)]  # each clip was read by two trainings
    plain = validation()
    plain["agreements"][0]["cells"] = cells
    (chart,) = distribution_charts(plain, [made])
    assert '<th scope="row">10 to 45</th><td>0.750</td><td>0.500</td>' in chart
    assert "synthetic, all (4)" in chart
    assert "real, test split (4)" in chart
    assert distribution_charts(plain, [{"name": "view", "values": {}}]) == []


@pytest.mark.parametrize("colour", [(), (3,)])
def test_a_videos_course_is_its_middle_column_frame_after_frame(colour: tuple[int, ...]) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (5, 4, 7, *colour), np.uint8)
    shown = course(frames)
    assert shown.shape == (4, 5, *colour)
    assert (shown[:, 2] == frames[2, :, 3]).all()


def test_beside_every_figure_of_the_audit_stands_what_it_comes_to_and_what_it_cannot_say(dataset: Path) -> None:
    page = page_of(dataset, validate=validation(), audit=AUDIT)
    assert "probe.b is a proxy" in page
    assert page.count("0.5 (0.2 to 5.0) leaks, were it so") == 2  # nothing was measured of the third


def test_every_drawing_has_words_and_its_numbers(dataset: Path) -> None:
    page = page_of(dataset, validate=validation(), audit=AUDIT)
    assert page.count('role="img"') == page.count("<svg") - page.count('aria-hidden="true"')
    for said in ("a scatter plot", "Bland-Altman plot of simulated_EF. Bias", "simulated_EF under 35", "margin 0.5"):
        assert said in page
    cells = [(20.0, 25.0, 3), (70.0, 60.0, 1)]
    drawn = scatter("T", "EF", "%", cells, 10, 80)
    assert drawn.count("<circle") == 2
    assert '<th scope="row">20 to 30</th><td>3</td><td>25.0</td><td>+5.0</td>' in drawn
    assert "Bias +1.0, limits of agreement -9.0 to +11.0 (%)." in bland_altman("T", "EF", "%", cells, 1, -9, 11)
    roc = curves("T", "x", "y", {"a": [(0, 0), (0.5, 0.9), (1, 1)], "b": [(0, 0), (1, 1)]}, "text")
    assert '<th scope="row">0.5</th><td>0.90</td><td>0.50</td>' in roc
    assert 'class="line"' in roc
    assert 'class="line other"' in roc  # told apart by dashes, not by colour
    assert "+0.10, 95 % interval -0.20 to +0.40; margin 0.5 (%)." in interval("T", "%", 0.1, -0.2, 0.4, 0.5)


def test_the_private_edition_holds_tau_and_what_was_rejected_and_is_for_its_owner(dataset: Path, tmp_path: Path) -> None:
    rejected = {"sample": 1, "attempt": 0, "what": "video", "distance": 0.1, "tau": 0.25}
    shard = {"tau": {"still": 0.2, "video": 0.25}, "samples": [{"key": "k", "attempt": 1, "distance": 0.5}], "rejected": [rejected]}
    (tmp_path / "train-000000.json").write_text(json.dumps(shard))
    np.save(tmp_path / "train-000000-rejected.npy", np.full((1, 4, 6), 7, np.uint8))
    path = write_private_edition(card_of(dataset), Folder.at(str(dataset)), tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    page = path.read_text()
    assert "<title>PRIVATE" in page
    assert "1 kept (filled), 1 rejected (outlined). Dashed: tau, 0.25." in page
    assert "1 of 1 rejected are shown" in page
    public = page_of(dataset)
    assert page.count("data:image/png") == public.count("data:image/png") + 1
    assert "PRIVATE" not in public
    assert "tau" not in public.split()
    assert "Nothing was rejected." not in public
    assert distances("T", [], [0.1], 0.2).count("rejected") >= 1


def test_a_private_audit_that_was_not_recorded_is_said_and_no_rejection_denied(dataset: Path, tmp_path: Path) -> None:
    card = card_of(dataset)
    card["dataset"]["rejected"] = {"stills": rate(3, 9), "videos": rate(1, 6)}
    page = write_private_edition(card, Folder.at(str(dataset)), tmp_path / "not" / "there").read_text()
    assert "Of 4 rejected stills and videos nothing is recorded here. Not recorded: generate with --private-audit." in page
    assert "Nothing was rejected." not in page
    assert (tmp_path / "not" / "there").stat().st_mode & 0o777 == 0o700
    card["dataset"]["rejected"] = {}
    page = write_private_edition(card, Folder.at(str(dataset)), tmp_path / "empty").read_text()
    assert "<p>Not recorded: generate with --private-audit.</p>" in page


def test_the_private_audit_of_another_dataset_is_refused(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / AUDITED_PLAN).write_text("another\n")
    with pytest.raises(InputError, match="holds the audit of another dataset"):
        write_private_edition(card_of(dataset), Folder.at(str(dataset)), tmp_path)


def test_only_the_videos_that_are_shown_are_kept(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    read = scorecard._videos
    monkeypatch.setattr(scorecard, "MAX_VIDEOS", 1)
    monkeypatch.setattr(scorecard, "MAX_COURSES", 1)
    monkeypatch.setattr(scorecard, "courses_section", lambda *_: "")
    monkeypatch.setattr(scorecard, "_videos", lambda *words: kept.append(read(*words)) or kept[0])
    assert page_of(dataset).count("<video") == 1
    assert len(kept[0]) == 1
    assert all("mp4" not in row for row in scorecard._samples(Folder.at(str(dataset))))


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3)])
def test_a_picture_is_the_frame(shape: tuple[int, ...]) -> None:
    frame = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    data = png(frame)
    start = data.index(b"IDAT") + 4
    size = int.from_bytes(data[start - 8 : start - 4])
    lines = np.frombuffer(zlib.decompress(data[start : start + size]), np.uint8).reshape(3, -1)
    assert (lines[:, 0] == 0).all()
    assert (lines[:, 1:].reshape(shape) == frame).all()


@pytest.fixture(scope="module")
def tab(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser with the page open."""
    if chromium.MISSING:
        pytest.skip(chromium.MISSING)
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(page_of(dataset, validate=validation(), audit=AUDIT))
    with chromium.browser(folder) as opened:
        opened.open(folder / "report.html")
        yield opened


def test_in_a_browser_it_opens_without_a_complaint_and_asks_for_nothing(tab: Any) -> None:
    assert tab.complaints() == []
    assert tab.run("return performance.getEntriesByType('resource').filter(({name}) => !name.startsWith('data:')).length") == 0
    assert tab.run("console.error('seen'); return 1") == 1
    assert any("seen" in line for line in tab.complaints())  # so that it would have been seen


def test_in_a_browser_the_videos_play(tab: Any) -> None:
    played = tab.run("""
        const videos = [...document.querySelectorAll("video")];
        videos[0].scrollIntoView();
        await Promise.all(videos.map((video) => video.play()));
        const end = Date.now() + 20000;
        while (Date.now() < end && !videos.every((video) => video.played.length)) await new Promise((go) => setTimeout(go, 50));
        return videos.map((video) => [video.error === null, video.played.length > 0, video.videoWidth]);
    """)
    assert played == [[True, True, 32]] * 3


def test_in_a_browser_a_click_sorts_a_table_up_and_down(tab: Any) -> None:
    sort = """
        const table = [...document.querySelectorAll("table[data-sort]")].find((one) => one.caption.textContent.startsWith("Training patients shown"));
        const head = table.tHead.rows[0].cells[COLUMN];
        head.querySelector("button").click();
        return [head.getAttribute("aria-sort"), ...[...table.tBodies[0].rows].map((row) => row.cells[0].textContent)];
    """
    by_name, by_value = sort.replace("COLUMN", "0"), sort.replace("COLUMN", "1")
    assert tab.run(by_name) == ["ascending", "probe.a", "probe.b", "probe.c"]
    assert tab.run(by_name) == ["descending", "probe.c", "probe.b", "probe.a"]
    assert tab.run(by_value) == ["ascending", "probe.a", "probe.b", "probe.c"]  # by number; what has none is last
    assert tab.run(by_value) == ["descending", "probe.b", "probe.a", "probe.c"]


@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser_nothing_is_wider_than_the_page_and_text_stands_out(tab: Any, width: int, dark: bool) -> None:
    tab.resize(width, 900, dark=dark)
    assert tab.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    light, ground = tab.run("""
        const light = (colour) => colour.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 765;
        const style = getComputedStyle(document.body);
        return [light(style.color), light(style.backgroundColor)];
    """)
    assert (light - ground > 0.5) if dark else (ground - light > 0.5)


def test_in_a_browser_what_is_folded_away_is_printed_and_folded_again(tab: Any) -> None:
    opened = "return [...document.querySelectorAll('details.printed')].map((part) => part.open)"
    assert tab.run(opened) == [False]
    assert tab.run(f"dispatchEvent(new Event('beforeprint')); {opened}") == [True]
    assert tab.run(f"dispatchEvent(new Event('afterprint')); {opened}") == [False]
    tab.resize(794, 1100, media="print")
    shown = "return ['.printed', '.buttons', '.courses'].map((one) => getComputedStyle(document.querySelector(one)).display)"
    assert tab.run(shown) == ["block", "none", "grid"]


def test_in_a_browser_it_prints(tab: Any) -> None:
    printed = tab.pdf()
    assert printed.startswith(b"%PDF")
    assert len(printed) > 20_000
