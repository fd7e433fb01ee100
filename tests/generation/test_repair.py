"""Verify finds what is wrong with a dataset; repair mends it to the same bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from echosdk import DatasetError, PlanError, Registry
from echosdk.generation.dataset import verify
from echosdk.generation.files import Folder
from echosdk.generation.generate import generate
from echosdk.generation.redo import repair


@pytest.fixture
def copy(whole: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole.folder, tmp_path / "copy"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def drop_line(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], *lines[4:]]))


def edit_label(path: Path) -> None:
    path.write_text(path.read_text().replace(",16.0,", ",16.0,1", 1))


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1024])


def another_count(path: Path) -> None:
    about = json.loads(path.read_text())
    about["versions"]["torch"] = "0"
    path.write_text(json.dumps(about))


def another_plan(path: Path) -> None:
    about = json.loads(path.read_text())
    about["plan"] |= {"seed": 1, "num_frames": 13}
    path.write_text(json.dumps(about))


def add(path: Path) -> None:
    shutil.copy(path.with_name("test-000000.tar"), path)


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "flipped byte": ("train-000001.tar", flip, "its bytes are not those that were written"),
    "cut short": ("train-000000.tar", shorten, "its bytes are not those that were written"),
    "missing shard": ("val-000000.tar", Path.unlink, "missing"),
    "missing description": ("val-000000.json", Path.unlink, "missing"),
    "changed description": ("val-000000.json", another_count, "does not say what the manifest says"),
    "unreadable description": ("val-000000.json", lambda p: p.write_text("{"), "does not say what the manifest says"),
    "shard of another plan": (
        "val-000000.json",
        another_plan,
        "was made from another plan (it differs in num_frames, seed); run: echosdk repair",
    ),
    "extra shard": ("train-000002.tar", add, "is not part of this dataset"),
    "missing index line": ("index.csv", drop_line, "lists 9 samples, not 10"),
    "changed label": ("index.csv", edit_label, "its bytes are not those that were written; run: echosdk merge"),
    "missing index": ("index.csv", Path.unlink, "missing; run: echosdk merge"),
    "missing card": ("README.md", Path.unlink, "missing; run: echosdk merge"),
    "changed card": ("README.md", lambda p: p.write_text(p.read_text().replace("evidence", "proof")), "its bytes are not those that were written; run: echosdk merge"),
    "changed preview": ("preview.html", flip, "its bytes are not those that were written; run: echosdk merge"),
}


def test_a_whole_dataset_has_no_problem(whole: Any, run_echosdk: Any) -> None:
    assert verify(Folder.at(str(whole.folder))) == []
    outcome = run_echosdk("verify", str(whole.folder))
    assert (outcome.status, outcome.out) == (0, f"{whole.folder}: 4 shards, 10 samples: all as written\n")


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_finds_it_and_nothing_else(damage: str, copy: Path) -> None:
    name, do, says = DAMAGES[damage]
    do(copy / name)
    assert [(problem.name, problem.message) for problem in verify(Folder.at(str(copy)))] == [(name, says)]


def test_the_command_names_what_is_wrong_with_status_one(copy: Path, run_echosdk: Any) -> None:
    flip(copy / "train-000001.tar")
    outcome = run_echosdk("verify", str(copy))
    assert outcome.status == 1
    assert outcome.out == f"{copy}/train-000001.tar: its bytes are not those that were written\n"


def test_repair_mends_everything_to_the_same_bytes(whole: Any, copy: Path, digests: Any, registry: Registry) -> None:
    for damage in (
        "flipped byte",
        "missing shard",
        "extra shard",
        "missing index line",
        "missing card",
        "changed preview",
    ):
        name, do, _ = DAMAGES[damage]
        do(copy / name)
    another_count(copy / "test-000000.json")
    lines: list[str] = []
    redone = repair(
        Folder.at(str(copy)), bundle=str(whole.options.bundle), registry=registry, workers=1, report=lines.append
    )
    assert redone == ["train-000001", "val-000000", "test-000000"]
    assert "train-000002.tar: is not part of this dataset; removed" in lines
    assert digests(copy) == digests(whole.folder)
    assert verify(Folder.at(str(copy))) == []


def test_verify_sees_that_the_warning_was_taken_from_the_card(
    options: Any, registry: Registry, tmp_path: Path
) -> None:
    unfiltered = attrs.evolve(options, privacy_filter=False, splits={"train": 1})
    generate(str(tmp_path), options=unfiltered, registry=registry)
    assert verify(Folder.at(str(tmp_path))) == []
    card = (tmp_path / "README.md").read_text().splitlines(keepends=True)
    assert card[0].startswith("**WARNING")
    (tmp_path / "README.md").write_text("".join(card[2:]))
    assert [problem.name for problem in verify(Folder.at(str(tmp_path)))] == ["README.md"]


def test_repair_asks_for_a_strangers_archive_to_be_moved_and_changes_nothing(
    copy: Path, digests: Any, whole: Any, registry: Registry
) -> None:
    """It is no shard of any plan, so it is not ours to remove; beside the shards it would be read with them."""
    (copy / "x.tar").write_text("mine")
    flip(copy / "train-000001.tar")
    before = digests(copy)
    with pytest.raises(DatasetError) as error:
        repair(Folder.at(str(copy)), bundle=str(whole.options.bundle), registry=registry, report=lambda line: None)
    assert str(error.value) == (
        f"{copy}/x.tar: is not part of this dataset, and not named as its shards are; move it elsewhere, "
        f"then run: echosdk repair {copy}"
    )
    assert digests(copy) == before


def test_repair_of_a_whole_dataset_makes_nothing(whole: Any, copy: Path, digests: Any, registry: Registry) -> None:
    assert (
        repair(Folder.at(str(copy)), bundle=str(whole.options.bundle), registry=registry, report=lambda line: None)
        == []
    )
    assert digests(copy) == digests(whole.folder)


def test_a_damaged_manifest_is_an_error_that_says_what_to_do(copy: Path) -> None:
    (copy / "dataset.json").write_text("{")
    with pytest.raises(DatasetError) as error:
        verify(Folder.at(str(copy)))
    assert f"remove it and run: echosdk merge {copy}" in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "damaged: JSONDecodeError: "),
        ("[]", "damaged: ValueError: holds no table; "),
        ("{}", "schema None; this version reads 1"),
        ('{"schema": 2}', "schema 2; this version reads 1"),
        ('{"schema": 1}', "damaged: KeyError: plan; "),
        ("[" * 99999, "damaged: ValueError: more than 64 tables and lists lie in each other; "),
        ('{"schema": ' + "1" * 5000 + "}", "damaged: ValueError: Exceeds the limit (4300 digits)"),
    ],
    ids=lambda value: value[:20],
)
@pytest.mark.parametrize("command", ["verify", "reproduce", "repair", "merge"])
def test_a_manifest_that_is_none_is_one_line_and_status_two(
    command: str, text: str, says: str, tmp_path: Path, run_echosdk: Any
) -> None:
    (tmp_path / "dataset.json").write_text(text)
    outcome = run_echosdk(command, str(tmp_path))
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(f"echosdk: {tmp_path}/dataset.json: {says}")
    assert outcome.err.count("\n") == 1


def another_label(path: Path) -> None:
    about = json.loads(path.read_text())
    about["samples"][0]["labels"]["simulated_EF"] = 11.0
    path.write_text(json.dumps(about))


def another_count_of_rejections(path: Path) -> None:
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "sealed": "00" * 32}))


def a_plan_that_nobody_made(path: Path) -> None:
    about = json.loads(path.read_text())
    about["plan"]["seed"] = 7
    path.write_text(json.dumps(about))


def a_table_without_end(path: Path) -> None:
    path.write_text("[" * 99999)


UNJOINED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "bytes": ("val-000000.tar", flip, "val-000000.tar: its bytes are not those that val-000000.json says; run: echosdk repair {}"),
    "label": ("val-000000.json", another_label, "val-000000.json: does not say what was written with val-000000.tar; run: echosdk repair {}"),
    "counts": (
        "test-000000.json",
        another_count_of_rejections,
        "test-000000.json: does not say what was written with test-000000.tar; run: echosdk repair {}",
    ),
    "the first plan": ("test-000000.json", a_plan_that_nobody_made, "remove its shards from here"),
    "depth": ("val-000000.json", a_table_without_end, "1 of 4 shards is missing, val-000000 first; run generate again, or: echosdk repair {}"),
    "nothing there": ("val-000000.tar", Path.unlink, "1 of 4 shards is missing, val-000000 first; run generate again, or: echosdk repair {}"),
}


@pytest.mark.parametrize("damage", UNJOINED)
def test_shards_that_were_changed_before_they_were_joined_are_named_and_repaired(
    damage: str, whole: Any, copy: Path, digests: Any, run_echosdk: Any
) -> None:
    """What the message says to do is then done, and is the way out."""
    name, do, says = UNJOINED[damage]
    (copy / "dataset.json").unlink()
    do(copy / name)
    ended = run_echosdk("merge", str(copy), "--bundle", str(whole.options.bundle))
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.endswith(says.format(copy) + "\n")
    assert ended.err.count("\n") == 1
    assert not (copy / "dataset.json").exists()
    ended = run_echosdk("repair", str(copy), "--bundle", str(whole.options.bundle), "--workers", "1")
    assert ended.out == f"{copy}: 1 shard made again: {name.partition('.')[0]}\n"
    assert digests(copy) == digests(whole.folder)


def test_shards_of_two_plans_that_were_both_made_are_no_damage(
    whole: Any, copy: Path, digests: Any, registry: Registry, tmp_path: Path
) -> None:
    other = attrs.evolve(whole.options, seed=1)
    generate(str(tmp_path / "other"), options=other, shards="1:2", registry=registry)
    for path in (tmp_path / "other").iterdir():
        shutil.copy(path, copy)
    (copy / "dataset.json").unlink()
    before = digests(copy)
    with pytest.raises(PlanError, match="holds shards of two plans: train-000001 is of the plan"):
        repair(Folder.at(str(copy)), bundle=str(whole.options.bundle), registry=registry, report=lambda line: None)
    assert digests(copy) == before


@pytest.mark.parametrize("data", [b"", b"garbage" * 200, None])
def test_an_archive_that_is_none_is_named_when_shards_are_joined(
    data: bytes | None, whole: Any, copy: Path, run_echosdk: Any
) -> None:
    (copy / "dataset.json").unlink()
    shard = copy / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:800] if data is None else data)
    outcome = run_echosdk("merge", str(copy), "--bundle", str(whole.options.bundle))
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == (
        f"echosdk: {copy}/train-000000.tar: its bytes are not those that train-000000.json says; "
        f"run: echosdk repair {copy}\n"
    )


@pytest.mark.parametrize("plan", [{}, {"format": "exe"}, 7])
def test_a_damaged_plan_of_one_shard_is_no_plan_for_the_others(
    plan: Any, whole: Any, copy: Path, run_echosdk: Any
) -> None:
    (copy / "dataset.json").unlink()
    about = json.loads((copy / "test-000000.json").read_text())
    (copy / "test-000000.json").write_text(json.dumps({**about, "plan": plan}))
    outcome = run_echosdk("merge", str(copy), "--bundle", str(whole.options.bundle))
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(f"echosdk: {copy}: ")
    assert "test-000000" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["plan"].update(colour="red"), "ValueError: no plan: ForbiddenExtraKeysError: "),
        (lambda m: m["plan"].pop("seed"), "ValueError: no plan: seed is missing or no such value"),
        (lambda m: m["plan"].update(seed="0"), "ValueError: no plan: seed is missing or no such value"),
        (lambda m: m["plan"].update(fps=-1), "ValueError: no plan: ValueError: 'fps' must be > 0: -1"),
        (lambda m: m["shards"].pop(), "ValueError: lists other shards than its plan has"),
        (lambda m: m["shards"].append(7), "TypeError: "),
        (lambda m: m.pop("files"), "KeyError: files"),
        (lambda m: m["counts"].clear(), "ValueError: counts no samples"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_damaged(change: Any, says: str, copy: Path, run_echosdk: Any) -> None:
    manifest = json.loads((copy / "dataset.json").read_text())
    change(manifest)
    (copy / "dataset.json").write_text(json.dumps(manifest))
    outcome = run_echosdk("verify", str(copy))
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(f"echosdk: {copy}/dataset.json: damaged: {says}")
    assert outcome.err.endswith(f"; remove it and run: echosdk merge {copy}\n")


def test_a_bundle_that_was_moved_can_be_named_and_two_workers_use_it(
    whole: Any, copy: Path, digests: Any, tiny_bundle: Path, registry: Registry
) -> None:
    moved = Path(str(whole.options.bundle) + "-moved")
    Path(str(whole.options.bundle)).rename(moved)
    try:
        for shard in copy.glob("*.tar"):
            shard.unlink()
        repair(Folder.at(str(copy)), bundle=str(moved), registry=registry, workers=2, report=lambda line: None)
    finally:
        moved.rename(str(whole.options.bundle))
    assert digests(copy) == digests(whole.folder)
