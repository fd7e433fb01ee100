"""What cannot be made is refused before any work, in one line that says why."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from echosdk import InputError, Registry
from echosdk.generation.generate import generate, make_plan
from echosdk.generation.plan import parse_shards, parse_splits


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--splits", "trian=4"], "--splits trian=4: 'trian=4' is not SPLIT=NUMBER with a split of train, val, test"),
        (["--splits", "train=-1"], "'train=-1' is not SPLIT=NUMBER"),
        (["--splits", "train=1.5"], "'train=1.5' is not SPLIT=NUMBER"),
        (["--splits", "train=\u00b2"], "is not SPLIT=NUMBER"),
        (["--splits", "train"], "'train' is not SPLIT=NUMBER"),
        (["--splits", "train=1,"], "'' is not SPLIT=NUMBER"),
        (["--splits", "train=4,train=5"], "'train' is there twice; say it once"),
        (["--splits", "train=0"], "no videos are asked for; --num-videos wants at least 1"),
        (["--num-videos", "9"], "--num-videos 9: --splits adds up to 10; say one of them"),
        (["--num-videos", "0"], "'--num-videos': 0 is not in the range x>=1"),
        (["--frames", "0"], "'--frames': 0 is not in the range x>=1"),
        (["--splits", ""], "--splits : '' is not SPLIT=NUMBER"),
        (["--threads", "100000"], "--threads 100000: at most 32 on this machine, 16 a CPU core"),
        (["--set", "image_prior.num_inference_steps=100000000"], "num_inference_steps: must be <= 1000: 100000000"),
        (["--set", "video_animator.num_inference_steps=1001"], "num_inference_steps: must be <= 1000: 1001"),
        (["--set", f"image_prior.num_inference_steps={'1' * 5000}"], "Exceeds the limit (4300 digits)"),
        (["--set", f"image_prior.num_inference_steps={'1' * 400}"], "wants a number of at most 64 bits, got 1111"),
        (["--set", f"video_animator.guidance_scale={'1' * 400}"], "wants a number of at most 64 bits, got 1111"),
        (["--set", f"image_prior.num_inference_steps={'[' * 9999}"], "more than 64 tables and lists lie in each other"),
        (["--shards", "0:5"], "--shards 0:5: wants A:B with 0 <= A < B <= 4"),
        (["--shards", "2:2"], "--shards 2:2: wants A:B"),
        (["--shards", "3:1"], "--shards 3:1: wants A:B"),
        (["--shards", "-1:2"], "--shards -1:2: wants A:B"),
        (["--shards", "1"], "--shards 1: wants A:B"),
        (["--set", "stitcher.micro_batch=0"], "stitcher"),
        (["--set", "video_animator.window=4"], "'window' is fixed once 'lvdm' is trained"),
        (["--use", "privacy_filter=pearsn-reid"], "did you mean 'pearson-reid'"),
        (["--bundle", "/nowhere"], "/nowhere: no bundle here"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: list[str],
    says: str,
    as_arguments: Any,
    run_echosdk: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    outcome = run_echosdk(*as_arguments(tmp_path / "out", *arguments))
    assert outcome.status == 2
    assert says in outcome.err
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"num_videos": 0, "splits": None}, "no videos are asked for"),
        ({"splits": {}}, "no videos are asked for"),
        ({"splits": {"trian": 3}}, "trian=3"),
        ({"splits": {"train": 3, "val": -1}}, "val=-1"),
        ({"num_frames": 0}, "num_frames"),
        ({"shard_size": 0}, "shard_size"),
        ({"micro_batch": 0}, "micro_batch"),
        ({"format": "gif"}, "gif"),
        ({"dtype": "int8"}, "dtype"),
    ],
)
def test_the_library_refuses_them_too_and_corrects_nothing(
    changed: dict[str, Any], says: str, options: Any, registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        generate(str(tmp_path / "out"), options=attrs.evolve(options, **changed), registry=registry)
    assert says in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_gpu_that_was_named_is_used_and_the_plan_says_only_its_kind(
    workers: int, options: Any, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import echosdk.generation.generate as module

    class Loaded(Exception): ...

    def load(plan: Any, bundle: Any, registry: Any, device: Any) -> Any:
        raise Loaded(plan.device, device)

    def run(self: Any, task: Any, shards: Any) -> Any:
        return iter([task(shard) for shard in shards])

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(module.Pipeline, "load", load)
    monkeypatch.setattr(module.Local, "run", run)  # a second worker's task, in this process
    wanted = attrs.evolve(options, device="cuda:3")
    with pytest.raises(Loaded) as loaded:
        generate(str(tmp_path / "out"), options=wanted, registry=registry, workers=workers)
    assert loaded.value.args == ("cuda", "cuda:3")


def test_frames_of_an_odd_side_are_refused_for_mp4_before_any_work(
    options: Any, tiny_bundle: Path, registry: Registry, tmp_path: Path
) -> None:
    manifest = json.loads((tiny_bundle / "bundle.json").read_text())
    manifest["frame_shape"] = [33, 32]
    (tiny_bundle / "bundle.json").write_text(json.dumps(manifest))
    odd = attrs.evolve(options, bundle=str(tiny_bundle))
    with pytest.raises(InputError) as error:
        generate(str(tmp_path / "out"), options=odd, registry=registry)
    assert (
        str(error.value)
        == "mp4: frames of 33 x 32 have an odd side, which browsers cannot play; choose mkv, avi or npy"
    )
    make_plan(attrs.evolve(odd, format="mkv"), registry)


def test_the_order_in_which_splits_are_said_makes_no_difference(options: Any, registry: Registry) -> None:
    plans = [
        make_plan(attrs.evolve(options, splits=parse_splits(text)), registry)[0]
        for text in ("train=7,val=2,test=1", "test=1,train=7,val=2")
    ]
    assert json.dumps(plans[0].public()) == json.dumps(plans[1].public())


def test_shards_hold_samples_of_one_split_and_number_them_through(options: Any, registry: Registry) -> None:
    plan, _ = make_plan(options, registry)
    assert [(s.number, s.name, s.split, list(s.samples)) for s in plan.shards] == [
        (0, "train-000000", "train", [0, 1, 2, 3]),
        (1, "train-000001", "train", [4, 5, 6]),
        (2, "val-000000", "val", [7, 8]),
        (3, "test-000000", "test", [9]),
    ]
    assert parse_shards(None, 4) == range(4)
    assert parse_shards("1:3", 4) == range(1, 3)
