"""The same plan gives the same bytes: whoever makes it, in how many pieces, and however often it is killed."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import fsspec
import pytest

from echosdk import DatasetError, InputError, OutOfMemory, PlanError, Registry
from echosdk.generation import files
from echosdk.generation.executors import Local, Task
from echosdk.generation.files import Folder
from echosdk.generation.generate import generate
from echosdk.generation.redo import merge_again, reproduce
from echosdk.generation.shards import ShardResult

# Where tests run in the background SIGINT is ignored, and every child inherits that: so it is asked for.
CLI = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from echosdk.cli import main; main()",
]
Digests = Callable[[Path], dict[str, str]]


def quiet(line: str) -> None: ...


def test_one_worker_and_three_write_the_same_files(
    whole: Any, digests: Digests, registry: Registry, tmp_path: Path
) -> None:
    """Two are at work in `test_a_bundle_that_was_moved_can_be_named_and_two_workers_use_it`."""
    lines: list[str] = []

    def report(line: str) -> None:  # cannot be sent to another process, and need not be
        lines.append(line)

    generate(
        str(tmp_path / "out"),
        options=whole.options,
        workers=3,
        registry=registry,
        private_audit=tmp_path / "audit",
        report=report,
    )
    assert digests(tmp_path / "out") == digests(whole.folder)
    assert digests(tmp_path / "audit") == digests(whole.audit)
    finished = sorted(line.partition(";")[0] for line in lines if "finished" in line)
    assert finished == [
        "test-000000: finished, 1 video",
        "train-000000: finished, 4 videos",
        "train-000001: finished, 3 videos",
        "val-000000: finished, 2 videos",
    ]
    told = {line.partition(" videos,")[0] for line in lines if line.startswith("train-000000: ")}
    assert {f"train-000000: {done} of 4" for done in (0, 4)} <= told, "the workers say how far they are"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_run_killed_again_and_again_ends_in_the_same_files(
    whole: Any, digests: Digests, as_arguments: Any, registry: Registry, tmp_path: Path
) -> None:
    """By SIGKILL, after a random number of videos and a random part of the next: the command, then forks of this process."""
    chance = random.Random(20240607)
    out = tmp_path / "out"
    with subprocess.Popen([*CLI, *as_arguments(out)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stderr
        while (line := run.stderr.readline()) and " videos" not in line:
            pass
        run.send_signal(signal.SIGKILL)
        run.communicate()
    deaths = [run.returncode]
    for _ in range(5):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                generate(
                    str(out),
                    options=whole.options,
                    registry=registry,
                    report=lambda line, to=writing: os.write(to, b"."),
                )
            finally:
                os._exit(0)
        os.close(writing)
        os.read(reading, chance.randint(1, 2))
        time.sleep(chance.random() * 0.3)
        os.kill(child, signal.SIGKILL)
        deaths.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        os.close(reading)
    assert deaths.count(-signal.SIGKILL) >= 3
    generate(str(out), options=whole.options, registry=registry)
    assert digests(out) == digests(whole.folder)


def test_a_run_that_dies_at_any_write_ends_in_the_same_files(
    whole: Any, digests: Digests, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, replace = tmp_path / "out", os.replace
    deaths = 0

    class Died(BaseException): ...

    def dies_at_second(source: Any, target: Any) -> None:
        if Path(source).parent == out:
            dies_at_second.calls += 1  # type: ignore[attr-defined]
            if dies_at_second.calls == 2:  # type: ignore[attr-defined]
                raise Died
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", dies_at_second)
    for _ in range(20):
        dies_at_second.calls = 0  # type: ignore[attr-defined]
        try:
            generate(str(out), options=whole.options, registry=registry)
        except Died:
            deaths += 1
            if deaths == 12:
                monkeypatch.undo()
            continue
        break
    assert deaths > 4
    assert digests(out) == digests(whole.folder)


def test_what_killed_runs_left_behind_is_swept_away(
    whole: Any, digests: Digests, registry: Registry, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(whole.folder, tmp_path / "out"))
    for name in (".train-000000.tar.99999.partial", ".val-000000.lock"):
        (out / name).write_text("cut off")
    generate(str(out), options=whole.options, registry=registry)
    assert digests(out) == digests(whole.folder)


def test_pieces_and_merge_equal_a_whole_run(whole: Any, digests: Digests, registry: Registry, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert generate(out, options=whole.options, shards="2:4", registry=registry) is None
    with pytest.raises(DatasetError) as error:
        merge_again(Folder.at(out), bundle=str(whole.options.bundle), registry=registry)
    assert str(error.value) == f"{out}: 2 of 4 shards are missing, train-000000 first; run generate again, or: echosdk repair {out}"
    assert generate(out, options=whole.options, shards="0:1", registry=registry) is None
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert generate(out, options=whole.options, shards="1:2", registry=registry) is not None
    assert digests(tmp_path / "out") == digests(whole.folder)
    (tmp_path / "out" / "dataset.json").unlink()
    merge_again(Folder.at(out), bundle=str(whole.options.bundle), registry=registry)
    assert digests(tmp_path / "out") == digests(whole.folder)


def test_a_dataset_in_memory_has_the_same_bytes(whole: Any, digests: Digests, registry: Registry) -> None:
    out = "memory://echosdk-tests/generated"
    generate(out, options=whole.options, registry=registry)
    folder = Folder.at(out)
    try:
        assert folder.names() == sorted(digests(whole.folder))
        for name in folder.names():
            assert folder.read(name) == (whole.folder / name).read_bytes()
    finally:
        fsspec.filesystem("memory").rm("/echosdk-tests", recursive=True)


def test_a_dataset_in_memory_cannot_be_made_by_several_processes(whole: Any, registry: Registry) -> None:
    with pytest.raises(InputError, match="use one worker"):
        generate("memory://echosdk-tests/two", options=whole.options, registry=registry, workers=2)


def test_a_caller_that_asks_for_no_workers_starts_no_process(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script without a main guard would run itself again in each of them."""
    import echosdk.generation.executors as module

    monkeypatch.setattr(module, "ProcessPoolExecutor", lambda *_, **__: pytest.fail("processes were started"))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert generate(str(tmp_path / "out"), options=whole.options, shards="2:4") is None
    assert len(list((tmp_path / "out").glob("*.tar"))) == 2


@pytest.mark.parametrize(("asked", "workers"), [((), 2), (("--threads", "2"), 1), (("--workers", "3"), 3)])
def test_the_command_starts_a_process_for_each_core_that_it_may_use(
    asked: tuple[str, ...], workers: int, as_arguments: Any, run_echosdk: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container or a batch system gives fewer cores than the machine has."""
    import echosdk.generation.generate as module

    def generated(out: str, **given: Any) -> None:
        given_workers.append(given["workers"])

    given_workers: list[int] = []
    monkeypatch.setattr(module, "generate", generated)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    words = as_arguments(tmp_path / "out")
    at = words.index("--workers")
    del words[at : at + 2]
    assert run_echosdk(*words, *asked).status == 0
    assert given_workers == [workers]


def test_another_executor_runs_the_tasks_and_the_bytes_are_the_same(
    whole: Any, digests: Digests, registry: Registry, tmp_path: Path
) -> None:
    """What a cluster does: each task travels as bytes, and loads its own pipeline where it arrives."""

    class Travelling:
        def run(self, task: Task, shards: Iterable[int]) -> Iterator[ShardResult | None]:
            sent.extend(shards)
            for shard in reversed(sent):
                yield pickle.loads(pickle.dumps(task))(shard)

    sent: list[int] = []
    generate(str(tmp_path / "out"), options=whole.options, executor=Travelling(), registry=registry)
    assert sent == [0, 1, 2, 3]
    assert digests(tmp_path / "out") == digests(whole.folder)


def test_an_executor_and_a_number_of_workers_are_one_too_many(whole: Any, registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers 2: the executor has its own; say one of them"):
        generate(str(tmp_path / "out"), options=whole.options, workers=2, executor=Local(1), registry=registry)


def test_a_rerun_makes_nothing_again(
    whole: Any, digests: Digests, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import echosdk.generation.generate as module

    monkeypatch.setattr(module.Pipeline, "load", lambda *arguments: pytest.fail("a pipeline was loaded"))
    before = digests(whole.folder)
    lines: list[str] = []
    assert generate(str(whole.folder), options=whole.options, registry=registry, report=lines.append) == whole.manifest
    assert lines == ["4 of 4 shards are there already"]
    assert digests(whole.folder) == before


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"seed": 1}, "seed"),
        ({"num_frames": 13}, "num_frames"),
        ({"set_": ("privacy_filter.percentile=6",)}, "plugin_set"),
        ({"micro_batch": 2}, "micro_batch"),
        ({"splits": {"train": 7, "val": 2}}, "counts"),
        ({"privacy_filter": False}, "privacy_filter"),
    ],
)
def test_another_plan_in_the_same_place_is_refused(
    changed: dict[str, Any], says: str, whole: Any, digests: Digests, registry: Registry
) -> None:
    """The published code's stricter second run leaves samples in place that it rejects."""
    before = digests(whole.folder)
    with pytest.raises(PlanError) as error:
        generate(str(whole.folder), options=attrs.evolve(whole.options, **changed), registry=registry)
    assert str(error.value) == (
        f"{whole.folder}: holds a dataset of another plan (it differs in {says}); "
        "choose another --out, or remove what is there"
    )
    assert digests(whole.folder) == before


def test_the_command_refuses_another_plan_with_status_two(whole: Any, as_arguments: Any, run_echosdk: Any) -> None:
    outcome = run_echosdk(*as_arguments(whole.folder, "--seed", "3"))
    assert outcome.status == 2
    assert outcome.err == (
        f"echosdk: {whole.folder}: holds a dataset of another plan (it differs in seed); "
        "choose another --out, or remove what is there\n"
    )


def test_shards_of_two_plans_are_never_joined(
    whole: Any, digests: Digests, as_arguments: Any, registry: Registry, run_echosdk: Any, tmp_path: Path
) -> None:
    """Array jobs that were started with two seeds, at one time into one folder."""
    mixed, other = tmp_path / "mixed", tmp_path / "other"
    seeded = attrs.evolve(whole.options, seed=1)
    assert generate(str(other), options=seeded, shards="1:2", registry=registry) is None
    shutil.copytree(whole.folder, mixed)
    for path in other.iterdir():
        shutil.copy(path, mixed)
    (mixed / "dataset.json").unlink()
    before = digests(mixed)
    plans = [json.loads((mixed / f"{name}.json").read_text())["plan"]["digest"][:12] for name in ("train-000001", "test-000000")]
    says = (
        f"{mixed}: holds shards of two plans: train-000001 is of the plan {plans[0]}, wanted is {plans[1]} "
        "(it differs in seed); choose another --out for one of them, and remove its shards from here"
    )
    for call in (
        lambda: generate(str(mixed), options=whole.options, shards="1:2", registry=registry),
        lambda: merge_again(Folder.at(str(mixed)), bundle=str(whole.options.bundle), registry=registry),
    ):
        for name in ("index.csv", "README.md", "preview.html"):
            (mixed / name).unlink(missing_ok=True)
        with pytest.raises(PlanError) as error:
            call()
        assert str(error.value) == says
    assert digests(mixed) == {n: d for n, d in before.items() if n.endswith((".tar", "0.json", "1.json"))}
    (mixed / "dataset.json").write_bytes((whole.folder / "dataset.json").read_bytes())
    ended = run_echosdk("verify", str(mixed))
    assert ended.status == 1
    assert f"{mixed}/train-000001.json: was made from another plan (it differs in seed); run: echosdk repair" in ended.out


@pytest.mark.parametrize("name", ["README.md", "train-000009.tar"])
def test_a_place_that_holds_something_else_is_refused_and_left_as_it_is(
    name: str, whole: Any, registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(PlanError) as error:
        generate(str(tmp_path), options=whole.options, registry=registry)
    assert str(error.value) == f"{tmp_path}: holds {name}, which is none of this plan's; choose another --out"
    assert os.listdir(tmp_path) == [name]


def test_a_place_that_cannot_be_written_to_is_an_error_in_one_line(
    whole: Any, as_arguments: Any, run_echosdk: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    outcome = run_echosdk(*as_arguments(tmp_path / "file"))
    assert outcome.status == 2
    assert outcome.err.splitlines()[-1].startswith(f"echosdk: {tmp_path}/file: cannot be written to: ")
    assert (tmp_path / "file").read_text() == "mine"


def test_another_seed_gives_other_videos_and_labels(whole: Any, registry: Registry, tmp_path: Path) -> None:
    out = tmp_path / "out"
    generate(str(out), options=attrs.evolve(whole.options, seed=1), shards="3:4", registry=registry)
    from echosdk.generation.reading import read_samples

    (one,) = read_samples((out / "test-000000.tar").read_bytes())
    (other,) = read_samples((whole.folder / "test-000000.tar").read_bytes())
    assert one["mp4"] != other["mp4"]
    assert one["json"] != other["json"]


def test_reproducing_a_dataset_gives_the_same_bytes_and_says_so(whole: Any, run_echosdk: Any) -> None:
    outcome = run_echosdk("reproduce", str(whole.folder), "--shards", "1:3", "--bundle", str(whole.options.bundle))
    assert outcome.status == 0
    assert outcome.out.splitlines() == [
        f"{whole.folder}/train-000001.tar: same bytes",
        f"{whole.folder}/val-000000.tar: same bytes",
    ]


def test_reproducing_sees_bytes_that_were_changed_on_disk(whole: Any, registry: Registry, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole.folder, tmp_path / "out"))
    data = bytearray((out / "test-000000.tar").read_bytes())
    data[700] ^= 1
    (out / "test-000000.tar").write_bytes(data)
    (result,) = reproduce(
        Folder.at(str(out)), shards="3:4", bundle=str(whole.options.bundle), registry=registry, report=quiet
    )
    assert not result.same


def test_a_dataset_names_its_bundle_without_its_folder_and_asks_where_it_lies(whole: Any, registry: Registry) -> None:
    folder = str(Path(str(whole.options.bundle)).parent).encode()
    assert not any(folder in path.read_bytes() for path in whole.folder.iterdir())
    with pytest.raises(InputError, match="say where it lies: --bundle PATH"):
        reproduce(Folder.at(str(whole.folder)), registry=registry, report=quiet)


def test_reproducing_with_another_bundle_is_refused(whole: Any, tiny_bundle: Path, registry: Registry) -> None:
    references = tiny_bundle / "private" / "references.safetensors"
    references.write_bytes(references.read_bytes() + b"\0")
    with pytest.raises(PlanError, match="was not made from the bundle"):
        reproduce(Folder.at(str(whole.folder)), bundle=str(tiny_bundle), registry=registry, report=quiet)


def test_a_worker_that_is_killed_ends_the_run_with_an_error() -> None:
    with pytest.raises(OutOfMemory, match="a worker process was killed") as error:
        list(Local(2).run(os._exit, [1, 2]))  # type: ignore[arg-type]
    assert "fewer --workers" in str(error.value)
    assert "under `if __name__ == '__main__':`" in str(error.value)


def children_of(pid: int) -> set[int]:
    return {other for other in processes() if processes()[other] == pid}


def processes() -> dict[int, int]:
    """The parent of every process that has not ended."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(path.parent.name)] = int(parent)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="asks Linux which processes there are")
@pytest.mark.parametrize("ctrl_c", [False, True])
def test_workers_end_with_the_process_that_started_them(ctrl_c: bool, as_arguments: Any, tmp_path: Path) -> None:
    """Killed, it can no longer tell them; on Ctrl-C it says in one line how to go on, and they say nothing."""
    words = as_arguments(tmp_path / "out", "--workers", "2", "--splits", "train=4000", "--shard-size", "2000")
    pipe = subprocess.PIPE
    with subprocess.Popen([*CLI, *words], stderr=pipe, stdout=pipe, text=True, start_new_session=True) as run:
        assert run.stderr
        while (line := run.stderr.readline()) and " of 2000 videos" not in line:
            pass
        workers = children_of(run.pid)
        assert len(workers) >= 2
        if ctrl_c:
            os.killpg(run.pid, signal.SIGINT)
        else:
            run.send_signal(signal.SIGKILL)
        gone = any(not workers & {*processes()} or time.sleep(0.1) for _ in range(600))
        for worker in workers & {*processes()}:
            os.kill(worker, signal.SIGKILL)
        out, err = run.communicate()
    assert gone
    assert run.returncode == (130 if ctrl_c else -signal.SIGKILL)
    assert out == ""
    if ctrl_c:
        said = [line for line in err.splitlines() if line and " of 2000 videos" not in line]
        assert said == ["echosdk: stopped; the same command goes on from here"]


@pytest.mark.parametrize("terminal", [True, False])
def test_generation_draws_a_bar_on_a_terminal_and_says_lines_in_a_log(
    terminal: bool, as_arguments: Any, run_echosdk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    ended = run_echosdk(*as_arguments(tmp_path / "out", "--shards", "1:3"))
    assert ended.status == 0, ended.err
    assert ("\rgenerate: " in ended.err) == terminal
    assert ("/5 [" in ended.err) == terminal
    assert bool(re.search(r"^train-000001: 3 of 3 videos, \d+ stills kept$", ended.err, re.MULTILINE)) != terminal
    assert ended.err.rstrip("\r").rpartition("\r")[2].strip() == ("" if terminal else ended.err.strip())


def test_a_shard_that_another_process_is_making_is_left_to_it(
    whole: Any, registry: Registry, as_arguments: Any, run_echosdk: Any, tmp_path: Path
) -> None:
    out, lines = Folder.at(str(tmp_path)), []
    with out.lock("test-000000") as mine:
        assert mine
        assert (
            generate(str(tmp_path), options=whole.options, shards="3:4", registry=registry, report=lines.append) is None
        )
        outcome = run_echosdk(*as_arguments(tmp_path, "--shards", "3:4"))
        as_json = run_echosdk(*as_arguments(tmp_path, "--shards", "3:4", "--json"))
    assert lines == ["a shard is being made by another process; it is left to that"]
    assert outcome.out == f"{tmp_path}: not whole yet: some shards are missing, or being made by other processes\n"
    assert (as_json.status, json.loads(as_json.out)) == (0, {"whole": False})
    assert os.listdir(tmp_path) == []
