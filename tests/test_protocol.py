"""The protocol end to end on tiny networks: every step once, in order, bound to what it rests on; and its report."""

from __future__ import annotations

import json
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
import torch
from jsonschema import Draft202012Validator

import echosdk
from echosdk import Registry
from echosdk.bundle import Bundle
from echosdk.cli import app
from echosdk.generation.dataset import dataset_around
from echosdk.generation.estimate import seconds_a_video
from echosdk.generation.generate import make_plan
from echosdk.interfaces import Switches
from echosdk.plugin_set import open_source
from echosdk.protocol import _DO, STEPS, Protocol, rests, run_protocol
from echosdk.protocol_choices import AuditChoices, Choices, Evaluate, Generate, Outcome, Validate, read_choices
from echosdk.protocol_plan import _estimate, plan_protocol
from echosdk.protocol_times import Times, audit_seconds, validate_seconds

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves closing to Python

SCHEMA = Path(__file__).parents[1] / "docs/reference/schemas/report.schema.json"
TINY = """
data = "phantom?patients=24&frames=12&fps=16&size=32"
plugin_set = "default-tiny"
device = "cpu"
[generate]
splits = { train = 5, val = 2, test = 2 }
num_frames = 12
[audit]
patients = 12
videos = 2
frames = 1
[validate]
seeds = 2
resamples = 200
"""


@attrs.frozen
class Done:
    """A whole protocol, as a first run left it."""

    protocol: Protocol
    ended: Outcome
    said: list[str]

    @property
    def out(self) -> Path:
        return self.protocol.out

    def again(self, **more: Any) -> tuple[Protocol, list[str]]:
        said: list[str] = []
        return attrs.evolve(self.protocol, say=said.append, **more), said


@pytest.fixture(scope="module")
def done(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("protocol")
    (folder / "tiny.toml").write_text(TINY)
    said: list[str] = []
    protocol = Protocol(
        choices=read_choices(folder / "tiny.toml", {}),
        out=folder / "out",
        work=folder / "out.work",
        private_audit=folder / "private",
        registry=registry,
        say=said.append,
    )
    return Done(protocol, run_protocol(protocol), said)


def test_it_goes_from_training_to_the_report(done: Done) -> None:
    assert [line for line in done.said if ", step " in line and line.startswith("protocol:")] == [
        f"protocol: {step}, step {number} of 6" for number, step in enumerate(STEPS, start=1)
    ]
    there = {path.name for path in done.out.iterdir()}
    assert there == {"dataset", "audit.json", "evaluate.json", "validate.json", "report.html", "report.json"}
    assert done.ended.policy_met is False  # networks trained for four steps show nothing
    assert done.ended.verdict in ("substitute", "worse", "not shown")
    assert not done.ended.ok


def test_the_report_fits_its_schema_and_begins_with_the_verdicts(done: Done) -> None:
    card = json.loads((done.out / "report.json").read_text())
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(card)
    assert card["verdicts"] == {"usefulness": done.ended.verdict, "privacy": "policy not met"}
    assert [row["trained_on"] for row in card["validation"]["rows"]] == ["real", "nothing", "reconstructed", "synthetic", "synthetic"]
    assert set(card["seconds"]) == set(STEPS[:-1])
    wrong = {**card, "validation": {**card["validation"], "unknown": 1}}
    assert not Draft202012Validator(json.loads(SCHEMA.read_text())).is_valid(wrong)


def test_nothing_that_is_private_lies_where_people_read(done: Done) -> None:
    for path in (path for path in done.out.rglob("*") if path.suffix in (".json", ".html", ".md", ".csv")):
        text = path.read_text()
        assert "phantom-" not in text, path
        assert str(done.out.parent) not in text, path
        assert "tau" not in text.split(), path
    assert stat.S_IMODE(done.protocol.work.stat().st_mode) == 0o700
    private = done.protocol.private_audit
    assert private is not None
    page = private / "report.html"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "PRIVATE" in page.read_text()
    assert "tau" in page.read_text()


def test_a_rerun_does_nothing(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol, said = done.again()
    for name in ("train_bundle", "generate", "audit", "evaluate", "validate", "make_card"):
        monkeypatch.setattr(f"echosdk.protocol.{name}", lambda *_, **__: pytest.fail("was done before"))
    assert run_protocol(protocol) == done.ended
    assert sum("was done before" in line for line in said) == 6
    assert {each.state for each in plan_protocol(protocol)} == {"done"}


def test_a_step_alone_is_done_again_with_another_choice_and_the_report_follows(done: Done) -> None:
    before = (done.out / "evaluate.json").read_bytes()
    choices = attrs.evolve(done.protocol.choices, evaluate=attrs.evolve(done.protocol.choices.evaluate, videos=2))
    protocol, said = done.again(choices=choices)
    assert [each.state for each in plan_protocol(protocol)] == ["done", "done", "done", "again", "done", "again"]
    ended = run_protocol(protocol, ["evaluate"])
    assert ended == Outcome(policy_met=None, verdict=None, report=None)
    assert ended.ok
    assert any("evaluate was done with other videos; it is done again" in line for line in said)
    assert (done.out / "evaluate.json").read_bytes() != before
    run_protocol(done.again()[0], ["evaluate", "report"])
    assert (done.out / "evaluate.json").read_bytes() == before


def test_another_bundle_or_dataset_in_the_same_place_is_refused(done: Done) -> None:
    other = attrs.evolve(done.protocol.choices, seed=7)
    with pytest.raises(echosdk.PlanError) as error:
        run_protocol(done.again(choices=other)[0])
    assert "the step train was done with other seed; choose another --out, or remove" in str(error.value)
    longer = attrs.evolve(done.protocol.choices, generate=attrs.evolve(done.protocol.choices.generate, num_frames=16))
    protocol, _ = done.again(choices=longer)
    assert [each.state for each in plan_protocol(protocol)][:2] == ["done", "refused"]
    with pytest.raises(echosdk.PlanError) as error:
        run_protocol(protocol)
    assert "the step generate was done with other num_frames" in str(error.value)


def test_a_result_of_another_dataset_is_not_reported(done: Done, tmp_path: Path) -> None:
    from echosdk.protocol import current_results

    record = done.protocol.work / "steps" / "audit.json"
    before = record.read_text()
    try:
        record.write_text(json.dumps({**json.loads(before), "rests_on": {"dataset": "another"}}))
        assert current_results(done.protocol)["audit"] is None
    finally:
        record.write_text(before)
    assert current_results(done.protocol)["audit"] is not None


@pytest.mark.parametrize("step", ["generate", "audit", "evaluate", "validate", "report"])
def test_a_step_says_which_one_it_wants_first(step: str, registry: Registry, tmp_path: Path) -> None:
    choices = Choices(data="phantom?patients=24&frames=12&fps=16&size=32", plugin_set="default-tiny", device="cpu")
    protocol = Protocol(choices=choices, out=tmp_path / "out", work=tmp_path / "w", registry=registry)
    with pytest.raises(echosdk.InputError) as error:
        run_protocol(protocol, [step])
    assert str(error.value) == f"{step}: wants a bundle, which the step train makes; run that first: --step train"
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (AuditChoices(policy="nowhere.toml"), "--policy nowhere.toml: cannot be read: No such file or directory"),
        (AuditChoices(anatomy_patients=10, stills=0), "--anatomy-patients: there are no stills to look at with --stills 0"),
    ],
)
def test_an_audit_that_would_be_refused_is_refused_before_any_work(
    asked: AuditChoices, says: str, done: Done, tmp_path: Path
) -> None:
    choices = attrs.evolve(done.protocol.choices, audit=asked)
    protocol = done.again(choices=choices, out=tmp_path / "out", work=tmp_path / "work")[0]
    for attempt in (run_protocol, plan_protocol):
        with pytest.raises(echosdk.InputError) as error:
            attempt(protocol)
        assert str(error.value).startswith(says)
    assert not [*tmp_path.iterdir()]


def test_private_places_inside_what_people_read_are_refused(done: Done) -> None:
    for more, says in (({"work": done.out / "w"}, "--work"), ({"private_audit": done.out / "p"}, "--private-audit")):
        with pytest.raises(echosdk.InputError) as error:
            run_protocol(done.again(**more)[0])
        assert says in str(error.value)
        assert "lies inside" in str(error.value)


@pytest.mark.parametrize("place", ["out", "work", "private_audit"])
def test_a_place_inside_any_dataset_is_refused(place: str, done: Done, tmp_path: Path) -> None:
    """Also one that has nothing to do with this run: a dataset's folder is what people are given."""
    inside = done.protocol.dataset / "in"
    places = {"out": tmp_path / "out", "work": tmp_path / "work"} | {place: inside}
    for attempt in (run_protocol, plan_protocol):
        with pytest.raises(echosdk.InputError) as error:
            attempt(done.again(**places)[0])
    assert str(error.value).endswith(f" {inside}: lies inside the dataset {done.protocol.dataset}, which people may read; choose another")
    assert not inside.exists()


def test_a_file_of_that_name_that_is_no_manifest_makes_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"labels": {"heart": 1}}')  # as other people's tools call theirs
    assert dataset_around(tmp_path / "a" / "b") is None
    (tmp_path / "dataset.json").write_text('{"plan": {}, "shards": []}')
    assert dataset_around(tmp_path / "a" / "b") == tmp_path


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        ({"train": -1, "val": 2}, "splits.train: -1; wants 0 or more videos"),
        ({"train": 0}, "splits: no videos are asked for; give at least one split some"),
    ],
)
def test_impossible_numbers_of_videos_are_refused_when_they_are_read(splits: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError) as error:
        Generate(splits=splits)
    assert str(error.value) == says


def test_a_dry_run_of_what_would_be_refused_ends_as_the_run_would(done: Done, run_echosdk: Any, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(TINY.replace("num_frames = 12", "num_frames = 10"))
    words = ("--config", str(tmp_path / "other.toml"), "--out", str(done.out), "--work", str(done.protocol.work))
    for last in ((), ("--dry-run",)):
        ended = run_echosdk("protocol", *words, *last)
        assert ended.status == 2
        assert f"echosdk: {done.out}: the step generate w" in ended.err
        assert "with other num_frames" in ended.err
    assert "refused" in ended.out


def test_a_dry_run_says_what_would_be_done_and_estimates_from_what_a_bundle_recorded(
    run_echosdk: Any, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in ("generate", "audit", "evaluate"):
        monkeypatch.setattr(f"echosdk.protocol_plan.{step}_seconds", lambda times: (60.0, "it was timed"))
    steps: list[float | None] = []
    monkeypatch.setattr(
        "echosdk.protocol_plan.validate_seconds", lambda *words: (steps.append(words[-1]), (60.0, "it was timed"))[1]
    )
    phantom = Bundle.open("phantom", registry).folder
    shutil.copytree(phantom, tmp_path / "bundle")
    text = (phantom / "bundle.json").read_text()
    here = re.sub(r'"device": ".*?"', '"device": "cpu"', text)
    assert here.count('"device": "cpu"') == 5
    (tmp_path / "bundle" / "bundle.json").write_text(here)
    recipe = (phantom.parent / "recipe.toml").read_text()
    (tmp_path / "set.toml").write_text(recipe.replace('"phantom"', f'"{tmp_path / "bundle"}"'))
    source = "phantom?patients=1200&frames=32&fps=16&videos=2"
    words = ("protocol", "--data", source, "--out", str(tmp_path / "o"), "--device", "cpu", "--dry-run")
    told = run_echosdk(*words, "--plugin-set", str(tmp_path / "set.toml"))
    assert told.status == 0, told.err
    rows = {line.split()[0]: line for line in told.out.splitlines()[1:]}
    assert list(rows) == [*STEPS, "total"]
    facts = {kind: stage["provenance"]["facts"] for kind, stage in json.loads(text)["stages"].items()}
    seconds = sum(each["seconds"] for each in facts.values())
    basis = f"the bundle {tmp_path / 'bundle'} recorded its training's seconds"
    assert f"about {seconds / 60:.0f} min (estimate: {basis})" in rows["train"]
    assert "train 1800, val 300, test 300" in rows["generate"]
    assert "about 1 min (estimate: it was timed)" in rows["generate"]
    assert "9 trainings of ef-regressor" in rows["validate"]
    assert f"about {(seconds + 250) / 60:.0f} min (estimate)" in rows["total"]
    planned = json.loads(run_echosdk(*words, "--bundle", str(tmp_path / "bundle"), "--json").out)
    assert [each["seconds"] for each in planned] == [10.0, 60.0, 60.0, 60.0, 60.0, 10.0]
    validator = facts["downstream_validator"]
    assert steps == [pytest.approx(validator["seconds"] / validator["steps"])] * 2
    run_echosdk(*words, "--bundle", "phantom", "--json")
    assert steps[2] is None, "on another device a step takes another time, and two are timed"
    other = run_echosdk(*words, "--plugin-set", "default-tiny")
    assert "not known: no bundle of these shapes is here to time it with" in other.out
    assert "(estimate), without train, generate, audit, evaluate, validate" in other.out.splitlines()[-1]
    assert not (tmp_path / "o").exists()
    assert not (tmp_path / "o.work").exists()


def test_a_dry_run_times_every_step_where_nothing_was_done_yet(done: Done, tmp_path: Path) -> None:
    taken = str(done.protocol.work / "bundle")
    choices = attrs.evolve(
        done.protocol.choices,
        bundle=taken,
        evaluate=Evaluate(stills=True, real_stills=True, reconstructions=True),
        audit=AuditChoices(probe_patients=3, anatomy_patients=10, second_network=str(tmp_path / "second")),
    )
    protocol = done.again(choices=choices, out=tmp_path / "o", work=tmp_path / "w")[0]
    planned = {each.step: each for each in plan_protocol(protocol)}
    assert all(each.seconds and each.seconds > 0 for each in planned.values()), planned
    assert "training the reader of anatomy is not in it" in planned["audit"].basis
    assert "two optimiser steps were timed" in planned["validate"].basis
    assert not [*tmp_path.iterdir()]


def test_the_time_of_steps_grows_with_what_is_asked(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    times = Times(done.protocol, done.protocol.bundle)
    for name in ("a_reading", "an_encoding", "a_decoding", "a_calibration", "a_verdict", "a_still", "a_pair", "a_prediction"):
        monkeypatch.setattr(Times, name, 0.0)
    monkeypatch.setattr(Times, "a_loss", lambda *_: 0.0)
    monkeypatch.setattr(Times, "a_reading", 1.0)
    assert audit_seconds(times)[0] > 0
    seconds, _ = validate_seconds(times, done.protocol.plugin_set, 3, 2.0)
    steps = done.protocol.plugin_set.choices["downstream_validator"].parameters["recipe"]["steps"]
    clips = sum(sum(of.values()) for of in times.clips.values())
    assert seconds >= 3 * 2.0 * steps + clips
    assert validate_seconds(times, done.protocol.plugin_set, 6, 2.0)[0] - clips == pytest.approx(2 * (seconds - clips))


def test_the_time_of_interrupted_runs_is_counted_and_used_where_nothing_changed(
    done: Done, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("echosdk.protocol.time.monotonic", lambda: float(next(clock)))

    def interrupted(_: Protocol) -> None:
        raise KeyboardInterrupt

    choices = attrs.evolve(done.protocol.choices, evaluate=Evaluate(videos=1))
    protocol = done.again(choices=choices)[0]
    before, found = done.protocol.record("evaluate"), (done.out / "evaluate.json").read_bytes()
    record = done.protocol.work / "steps" / "evaluate.json"
    monkeypatch.setitem(_DO, "evaluate", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_protocol(protocol, ["evaluate"])
    monkeypatch.setitem(_DO, "evaluate", lambda _: None)
    try:
        run_protocol(protocol, ["evaluate"])
        known = protocol.record("evaluate")
        assert known is not None
        assert known["seconds"] == 30
        assert not (record.parent / "evaluate.running.json").exists()
        estimated = _estimate(protocol, "evaluate", None)
        assert estimated == (30, "it took so long here before")
        assert _estimate(done.protocol, "evaluate", None)[0] is None, "that was with other choices"
    finally:
        record.write_text(json.dumps(before))
        (done.out / "evaluate.json").write_bytes(found)


def test_a_private_audit_given_after_generating_is_said_not_to_be_there(done: Done, tmp_path: Path) -> None:
    report = done.out / "report.html"
    before = report.read_bytes(), (done.out / "report.json").read_bytes(), done.protocol.record("report")
    try:
        run_protocol(done.again(private_audit=tmp_path / "later" / "private")[0], ["report"])
        page = (tmp_path / "later" / "private" / "report.html").read_text()
        assert "Not recorded: generate with --private-audit." in page
        assert "Nothing was rejected." not in page
    finally:
        report.write_bytes(before[0])
        (done.out / "report.json").write_bytes(before[1])
        (done.protocol.work / "steps" / "report.json").write_text(json.dumps(before[2]))


ELSEWHERE = {
    "train": {
        "out": "in --work", "work": "--work", "stages": "a protocol wants all", "plugin_set_name": "at the top", "use": "at the top",
        "set_": "at the top", "data": "at the top", "seed": "at the top", "device": "at the top",
    },
    "generate": {
        "out": "in --out", "plugin_set_name": "at the top", "use": "at the top", "set_": "at the top", "bundle": "at the top",
        "seed": "at the top", "device": "at the top", "num_videos": "splits", "executor": "there is one",
        "workers": "--workers", "shards": "of array jobs", "no_privacy_filter": "its audit would have nothing to ask",
        "private_audit": "--private-audit", "as_json": "--json",
    },
    "audit": {"out": "in --out", "data": "at the top", "bundle": "at the top", "seed": "at the top", "device": "at the top", "as_json": "--json"},
    "evaluate": {"out": "in --out", "data": "at the top", "bundle": "at the top", "seed": "at the top", "device": "at the top", "as_json": "--json"},
    "validate": {
        "outs": "in --out", "data": "at the top", "bundle": "at the top", "seed": "at the top", "device": "at the top",
        "plugin_set_name": "at the top", "work": "--work", "as_json": "--json",
    },
}  # fmt: skip
"""Options that are no key under their command's heading, and where they are instead."""
RENAMED = {"frames": "num_frames", "format_": "format", "compile_": "compile", "set_": "set", "no_reconstruction": "reconstruct"}
ALONE = {"generate": {"datasets"}, "validate": {"resamples"}, "train": {"switches"}}
"""Keys that are no option of the command."""


@pytest.mark.parametrize("name", ELSEWHERE)
def test_every_option_of_a_step_is_a_choice(name: str) -> None:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    options = {str(option.name) for option in command.params} - {"help"}
    assert set(ELSEWHERE[name]) <= options
    renamed = {**RENAMED, **({"frames": "frames"} if name == "audit" else {})}
    wanted = {renamed.get(option, option) for option in options - set(ELSEWHERE[name])}
    of = attrs.fields(type(getattr(Choices(data="phantom"), name)))
    keys = {str(one.alias) for one in of}
    if name == "train":
        keys |= {one.name for one in attrs.fields(Switches)}
    assert wanted == keys - ALONE.get(name, set())


def test_several_sources_are_trained_on_and_the_first_is_audited(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "choices.toml"
    path.write_text('data = ["phantom?patients=24&frames=12&size=32", "phantom?patients=12&frames=12&size=32"]\n[train]\nstart = "phantom"')
    choices = read_choices(path, {})
    protocol = Protocol(choices=choices, out=tmp_path / "o", work=tmp_path / "w", registry=registry)
    first, second = (open_source(registry, name) for name in choices.sources)
    assert protocol.source.fingerprint() == first.fingerprint()
    rested = rests(protocol, "train")
    assert rested["data"] == first.fingerprint()
    assert rested["more"] == [second.fingerprint()]
    assert rested["start"] == Bundle.open("phantom", registry).digest
    handed: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("echosdk.protocol.train_bundle", handed.append)
        _DO["train"](protocol)
    assert [name for _, name in handed[0].more] == [choices.sources[1]]
    assert handed[0].start is not None


def test_a_mirrored_dataset_gives_counts_and_labels(done: Done) -> None:
    like = attrs.evolve(done.protocol.choices, generate=Generate(like="phantom?patients=24&frames=12&fps=16&size=32"))
    options = done.again(choices=like)[0].options
    assert (options.splits, options.labels, options.like) == (None, "empirical", like.generate.like)


@pytest.mark.parametrize("how", [(), ("--dry-run",)])
def test_a_bundle_of_other_data_is_refused_before_any_work(how: tuple[str, ...], run_echosdk: Any, tmp_path: Path) -> None:
    data = "phantom?patients=8&frames=32&fps=16&videos=2"
    ended = run_echosdk("protocol", "--data", data, "--bundle", "phantom", "--out", str(tmp_path / "o"), *how)
    assert ended.status == 2
    assert ended.err.startswith(f"echosdk: --data {data}: is not what bundle ")
    assert "'patients': 1200" in ended.err
    assert not [*tmp_path.iterdir()]
    alone = run_echosdk(
        "protocol", "--data", data, "--bundle", "phantom", "--out", str(tmp_path / "o"), "--step", "train", *how
    )
    assert alone.status == 0, alone.err


def test_the_time_to_generate_is_counted_from_a_still_a_step_and_a_frame(
    done: Done, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr("echosdk.generation.estimate.time.perf_counter", lambda: float(next(ticks)))  # each takes a second
    plan, bundle = make_plan(done.protocol.options, registry)
    animator = done.protocol.plugin_set.build(registry, "video_animator")
    bundle.load("video_animator", animator, "lvdm")
    steps, windows = len(animator.begin(8, [torch.Generator()]).timesteps), 2
    assert (animator.window, plan.num_frames) == (8, 12)
    assert seconds_a_video(plan, bundle, registry) == pytest.approx(1 + steps * windows + 2 / 4 * 12)


def test_the_plan_names_what_is_drawn_to_be_measured(done: Done) -> None:
    more = attrs.evolve(done.protocol.choices.evaluate, stills=True, real_stills=True)
    planned = plan_protocol(done.again(choices=attrs.evolve(done.protocol.choices, evaluate=more))[0])
    assert planned[3].what.startswith("at most 500 videos, stills, real stills; was done with other ")


def test_the_command_ends_with_both_verdicts(done: Done, run_echosdk: Any) -> None:
    folder = done.out.parent
    told = run_echosdk(
        "protocol", "--config", str(folder / "tiny.toml"), "--out", str(done.out), "--private-audit", str(folder / "private")
    )
    assert told.status == 1, told.err
    assert told.out.splitlines() == [
        "privacy policy: NOT MET", f"verdict: {done.ended.verdict}", f"report:  {done.out / 'report.html'}",
    ]  # fmt: skip


def test_the_choices_in_the_documentation_are_choices(code_blocks: Any, tmp_path: Path) -> None:
    (text,) = code_blocks(Path(__file__).parents[1] / "docs/how-to/run-the-protocol.md", "toml")
    (tmp_path / "choices.toml").write_text(text)
    choices = read_choices(tmp_path / "choices.toml", {})
    assert choices.evaluate.real_stills
    assert choices.validate.set_ == ("downstream_validator.recipe.steps=300",)


WRONG = {
    "unknown": ("nothing = 1", "wrong.toml: nothing: no such key; choose from audit, bundle, data"),
    "unknown inside": ("[validate]\nseed = 3", "wrong.toml: validate.seed: no such key; did you mean 'seeds'?"),
    "type": ("[generate]\nnum_frames = 3.5", "wrong.toml: generate.num_frames: wants a whole number"),
    "choice": ('[train]\ndtype = "float8"', "wrong.toml: train.dtype: no such value 'float8'; "),
    "value": ("[validate]\nseeds = 1", "wrong.toml: validate: 'seeds' must be >= 2"),
    "split": ("[generate]\nsplits = { tests = 1 }", "wrong.toml: generate: splits.tests: no such split; choose from train"),
    "empty data": ("data = []", "wrong.toml: data: names no source"),
    "no data": ("seed = 1", "--data SOURCE is missing"),
    "no TOML": ("seed =", "wrong.toml: not valid TOML"),
}


@pytest.mark.parametrize(("text", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_choice_is_an_error_that_names_file_and_key(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text if "data" in says or "TOML" in says else f'data = "phantom"\n{text}')
    with pytest.raises(echosdk.InputError) as error:
        read_choices(path, {})
    assert str(error.value).startswith(says)


def test_what_is_said_on_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "choices.toml"
    path.write_text('data = "phantom"\nseed = 1\nset = ["encoder.kl_weight=0"]\n[generate]\ndatasets = 2\n')
    assert read_choices(path, {"seed": 2}) == Choices(
        data="phantom", seed=2, set=("encoder.kl_weight=0",), generate=Generate(datasets=2), validate=Validate()
    )
