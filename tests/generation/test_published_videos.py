"""What the gate sees of a finished video is what is published: the file's frames, encoded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from attrs import define

from echosdk import PrivacyError, References, Registry, Verdict
from echosdk.bundle import Bundle
from echosdk.clips.images import to_images
from echosdk.generation.generate import generate, make_plan
from echosdk.generation.pipeline import Pipeline, read_frames
from echosdk.generation.reading import read_samples

FRAMES = 12


@define(slots=False)
class Watching:
    """Keep everything, and remember what was shown."""

    space = "latent"

    def calibrate(self, train: References, holdout: References, generator: torch.Generator) -> None:
        SHOWN.clear()

    def judge(self, stills: torch.Tensor) -> Verdict:
        SHOWN.append(stills.clone())
        distance = torch.ones(len(stills))
        return Verdict(keep=distance > 0, distance=distance, tau=0.5)


SHOWN: list[torch.Tensor] = []


@pytest.mark.parametrize("format", ["mp4", "npy"])
def test_a_video_is_judged_as_its_file_shows_it(
    format: Any, options: Any, with_filter: Any, trained_tiny: Bundle, tmp_path: Path
) -> None:
    wanted = attrs.evolve(options, use=("privacy_filter=strange",), splits={"test": 1}, format=format)
    registry = with_filter(Watching)
    generate(str(tmp_path), options=wanted, registry=registry)
    *_, still, video = SHOWN
    assert (len(still), len(video)) == (1, FRAMES)
    (sample,) = read_samples((tmp_path / "test-000000.tar").read_bytes())
    encoder = Pipeline.load(*make_plan(wanted, registry), registry).encoder
    seen = encoder.encode(to_images(read_frames(sample[format], format, grey=True)))
    torch.testing.assert_close(video, seen, atol=1e-5, rtol=1e-5)


def test_held_out_videos_that_are_too_short_close_the_gate_before_any_work(
    options: Any, trained_tiny: Bundle, registry: Registry, tmp_path: Path
) -> None:
    """The tiny bundle's held-out videos have 20 frames; `static` works in windows of 64."""
    wanted = attrs.evolve(options, use=("video_animator=static",), num_frames=40)
    with pytest.raises(PrivacyError, match="windows of 40 frames, and of 2 held-out patients' videos 0 are as long"):
        generate(str(tmp_path / "out"), options=wanted, registry=registry)
    assert not (tmp_path / "out").exists()


def test_a_video_longer_than_held_out_ones_is_judged_in_windows(options: Any, registry: Registry) -> None:
    plan, bundle = make_plan(attrs.evolve(options, num_frames=40), registry)
    gate = Pipeline.load(plan, bundle, registry).gate
    assert gate is not None
    assert gate.window == 8
    assert gate.thresholds(40) == gate.thresholds(8)
    assert gate.thresholds(4)["video"] >= gate.thresholds(8)["video"]

