"""The way of one sample: in little memory, on its own threads, and with an error that helps where memory ends."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from attrs import define, field

from echosdk import OutOfMemory, Registry, Verdict
from echosdk.generation.generate import generate, make_plan
from echosdk.generation.pipeline import DECODE_BATCH, Pipeline, Tally, decode
from echosdk.privacy.gate import Gate

NO_MEMORY = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "8796093022208 bytes. Error code 12 (Cannot allocate memory)"
)


@define
class Counting:
    """An encoder that counts what it decodes, and of its images those that are still held."""

    decoded: int = 0
    most: int = 0
    alive: Any = field(factory=weakref.WeakSet)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        self.decoded += len(latents)
        self.most = max(self.most, len(self.alive))
        images = latents.mean(1, keepdim=True) / 100
        self.alive.add(images)
        return images

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images


@define
class Failing:
    """A prior that raises."""

    error: Exception

    def sample(self, *_arguments: Any) -> Any:
        raise self.error


@define
class SaysNoTwice:
    """A gate that rejects the first two stills."""

    asked: int = 0

    def judge_stills(self, stills: torch.Tensor) -> Verdict:
        self.asked += 1
        keep = torch.tensor([self.asked > 2] * len(stills))
        return Verdict(keep=keep, distance=torch.zeros(len(stills)), tau=1.0)

    def judge_videos(self, videos: torch.Tensor) -> Verdict:
        return Verdict(keep=torch.tensor([True]), distance=torch.ones(1), tau=1.0)


@pytest.fixture
def pipeline(options: Any, registry: Registry) -> Pipeline:
    return Pipeline.load(*make_plan(options, registry), registry)


def test_a_video_is_decoded_a_few_frames_at_a_time_and_its_images_are_not_kept() -> None:
    """As float32 images, a video takes four times the memory of its frames, and copies of it more."""
    encoder = Counting()
    latents = torch.arange(10.0 * DECODE_BATCH).reshape(-1, 1, 1, 1).expand(-1, 4, 2, 2)
    frames = decode(encoder, latents)
    assert frames.dtype == np.uint8
    assert frames.shape == (10 * DECODE_BATCH, 2, 2)
    assert (np.diff(frames[:, 0, 0].astype(int)) >= 0).all()
    assert encoder.decoded == len(latents)
    assert encoder.most <= 1


def test_what_was_rejected_is_decoded_only_for_a_private_audit(
    pipeline: Pipeline,
) -> None:
    pipeline.encoder = encoder = Counting()  # type: ignore[assignment]
    pipeline.gate = SaysNoTwice()  # type: ignore[assignment]
    tally = Tally()
    made = list(pipeline.make(pipeline.plan.shards[3], tally))
    assert tally.rejected_stills == 2
    assert [rejection.still.shape for rejection in tally.rejections] == [(4, 8, 8)] * 2
    assert encoder.decoded == sum(one.num_frames for one in made) == 12


@pytest.mark.parametrize("threads", [1, 2])
def test_a_callers_torch_keeps_its_threads(threads: int, options: Any, registry: Registry) -> None:
    """The plan's threads hold for the plan's own work."""
    before, used = torch.get_num_threads(), []
    plan, bundle = make_plan(attrs.evolve(options, threads=threads + 1), registry)
    pipeline = Pipeline.load(plan, bundle, registry)
    assert torch.get_num_threads() == before
    animate = pipeline.stitcher.animate

    @define
    class Witness:
        def animate(self, *arguments: Any) -> torch.Tensor:
            used.append(torch.get_num_threads())
            return animate(*arguments)

    pipeline.stitcher = Witness()
    for _ in pipeline.make(plan.shards[3], Tally()):
        assert torch.get_num_threads() == before
    assert set(used) == {threads + 1}


@pytest.mark.parametrize(
    ("micro_batch", "says"),
    [
        (3, "with micro-batches of 3; try --micro-batch 1 (this is another plan), or fewer --workers, or a machine with more memory"),
        (1, "with one video at a time; try fewer --frames (this is another plan), or fewer --workers, or a machine with more memory"),
    ],
)
@pytest.mark.parametrize("error", [NO_MEMORY, MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_batch_that_does_not_fit_names_a_smaller_one_where_there_is_one(
    error: Exception, micro_batch: int, says: str, pipeline: Pipeline
) -> None:
    pipeline.prior = Failing(error)
    pipeline.plan = attrs.evolve(pipeline.plan, micro_batch=micro_batch)
    with pytest.raises(OutOfMemory) as raised:
        next(pipeline.make(pipeline.plan.shards[3], Tally()))
    assert str(raised.value) == f"test-000000: out of memory {says}"


def test_other_errors_are_not_taken_for_a_lack_of_memory(pipeline: Pipeline) -> None:
    pipeline.prior = Failing(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        next(pipeline.make(pipeline.plan.shards[3], Tally()))


def test_calibration_that_does_not_fit_says_so(
    options: Any, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calibrate(*_arguments: Any) -> None:
        raise NO_MEMORY

    monkeypatch.setattr(Gate, "calibrate", calibrate)
    with pytest.raises(OutOfMemory) as raised:
        generate(str(tmp_path / "out"), options=options, registry=registry, workers=1)
    assert str(raised.value) == (
        "out of memory while the components were loaded and the filter calibrated; "
        "try another --device, or fewer --workers, or a machine with more memory"
    )
