"""The gate fails closed: whatever a filter does wrong, nothing passes, and the message names filter and plugin."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import define, field

from echosdk import PrivacyError, References, Registry, Verdict
from echosdk.bundle import Bundle
from echosdk.plugin_set import open_source
from echosdk.privacy.gate import IMAGE_BATCH, Gate

NAME = "mean of strangers (echosdk-strangers 1.0)"
SHAPE = (1, 4, 4)


@define(slots=False)
class MeanFilter:
    """Distance: how far an item's mean is from that of the nearest reference."""

    space: Any = "latent"
    tau: float = 0.5
    shown: list[torch.Tensor] = field(factory=list)
    groups: tuple[str, ...] = ()
    _train: Any = field(init=False, default=None)
    _tau: float = field(init=False, default=math.nan)

    def calibrate(self, train: References, holdout: References, generator: torch.Generator) -> None:
        self._train, self.groups = train.items.mean((1, 2, 3)), holdout.groups
        self._tau = self.tau

    def judge(self, stills: torch.Tensor) -> Verdict:
        self.shown.append(stills)
        distance = (stills.mean((1, 2, 3))[:, None] - self._train).abs().amin(1)
        return Verdict(keep=distance >= self._tau, distance=distance, tau=self._tau)


class Doubling:
    """An encoder whose images are twice the latents."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return 2 * latents


def level(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None, None].expand(-1, *SHAPE).clone()


def gate_of(privacy_filter: Any, encoder: Any = None) -> Gate:
    return Gate(NAME, privacy_filter, encoder)


def calibrated(privacy_filter: Any = None, encoder: Any = None) -> Gate:
    gate = gate_of(privacy_filter or MeanFilter(), encoder)
    holdout = References(items=level(5, 6, 7, 1, 2, 3), groups=["a", "a", "a", "b", "b", "b"])
    gate.calibrate(References(items=level(0, 10), groups=["x", "y"]), holdout, torch.tensor([0, 0, 0, 1, 1, 1]), b"key")
    return gate


def breaking(**broken: Any) -> Callable[[torch.Tensor], Any]:
    def judge(stills: torch.Tensor) -> Any:
        n = len(stills)
        good = {"keep": torch.ones(n, dtype=torch.bool), "distance": torch.ones(n), "tau": 0.5}
        return Verdict(**{**good, **{key: value(n) for key, value in broken.items()}})

    return judge


def mutate(stills: torch.Tensor) -> Any:
    verdict = breaking()(stills)
    stills.mul_(0)
    return verdict


def explode(stills: torch.Tensor) -> Any:
    raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize(
    ("judge", "says"),
    [
        (explode, "the filter failed: ZeroDivisionError: division by zero"),
        (mutate, "judge() changed the stills that it was shown"),
        (lambda stills: None, "judge() returned NoneType, not echosdk.Verdict"),
        (breaking(keep=lambda n: torch.ones(n + 1, dtype=torch.bool)), "but keep has shape (4,)"),
        (breaking(distance=lambda n: torch.ones(n, 1)), "but distance has shape (3, 1)"),
        (breaking(keep=torch.ones), "keep is torch.float32, not bool"),
        (breaking(keep=lambda n: [True] * n), "keep is list, not torch.Tensor"),
        (breaking(distance=lambda n: torch.full((n,), math.nan)), "a distance or tau is not a number"),
        (breaking(distance=lambda n: torch.full((n,), math.inf)), "a distance or tau is not a number"),
        (breaking(tau=lambda n: math.nan), "a distance or tau is not a number"),
        (breaking(tau=lambda n: None), "tau is NoneType, not float"),
        (breaking(tau=lambda n: True), "tau is bool, not float"),
        (breaking(distance=lambda n: torch.ones(n, dtype=torch.bool)), "distance is torch.bool; it is to be a plain float"),
        (breaking(tau=lambda n: 1.5), "keeps an item that is nearer than its own tau"),
    ],
)
def test_a_filter_that_breaks_its_contract_closes_the_gate(judge: Any, says: str) -> None:
    gate = calibrated()
    gate._filter.judge = judge
    for ask in (lambda: gate.judge_stills(level(1, 2, 3)), lambda: gate.judge_videos(level(1, 2, 3)[None])):
        with pytest.raises(PrivacyError) as error:
            ask()
        assert str(error.value).startswith(f"{NAME}: ")
        assert says in str(error.value)


def test_what_the_model_broke_is_not_blamed_on_the_filter() -> None:
    with pytest.raises(PrivacyError) as error:
        calibrated().judge_stills(level(1, math.nan))
    assert str(error.value) == f"what {NAME} is to judge holds values that are not numbers: the model made them"


def test_a_filter_that_fails_to_calibrate_closes_the_gate() -> None:
    class Failing(MeanFilter):
        def calibrate(self, train: References, holdout: References, generator: torch.Generator) -> None:
            raise RuntimeError("no GPU")

    with pytest.raises(PrivacyError, match="RuntimeError: no GPU") as error:
        calibrated(Failing())
    assert str(error.value).startswith(NAME)


def test_it_judges_no_video_before_it_is_calibrated() -> None:
    with pytest.raises(PrivacyError, match="before it was calibrated"):
        gate_of(MeanFilter()).judge_videos(level(1)[:, None])


def test_a_copy_in_any_one_frame_rejects_a_video() -> None:
    """The published code looks at nothing after animation, and at frame 0 only."""
    gate = calibrated()
    innocent = level(5, 5, 5)
    for frame in range(3):
        copied = innocent.clone()
        copied[frame] = 10
        assert gate.judge_videos(torch.stack([innocent, copied])).keep.tolist() == [True, False]


def test_a_frame_that_is_rejected_though_it_is_far_rejects_a_video() -> None:
    """A filter may have other reasons than distance; a video's threshold knows of distances alone."""

    class Particular(MeanFilter):
        def judge(self, stills: torch.Tensor) -> Verdict:
            verdict = super().judge(stills)
            return Verdict(keep=verdict.keep & (stills.mean((1, 2, 3)) != 4), distance=verdict.distance, tau=verdict.tau)

    gate = calibrated(Particular())
    assert gate.judge_stills(level(5, 4)).keep.tolist() == [True, False]
    videos = torch.stack([level(5, 5, 5), level(5, 4, 5), level(4, 4, 4)])
    assert gate.judge_videos(videos).keep.tolist() == [True, False, False]


@pytest.mark.parametrize("rejected", [0, 1, 5, 20])
def test_a_videos_tau_follows_the_rate_at_which_the_filter_rejects_innocent_stills(rejected: int) -> None:
    """Whatever a filter's parameter is called: one that rejects a tenth of the innocents rejects a tenth of the videos."""
    strict = MeanFilter(tau=0.5 + rejected)
    holdout = References(items=level(*range(1, 21)).repeat(2, 1, 1, 1), groups=[str(i) for i in range(20)] * 2)
    gate = gate_of(strict)
    gate.calibrate(References(items=level(0), groups=["x"]), holdout, torch.arange(20).repeat(2), b"key")
    # The held-out videos come as near as 1, 2 ... 20
    smallest = torch.arange(1, 21, dtype=torch.float64)
    assert gate.thresholds(2) == {"still": 0.5 + rejected, "video": smallest[min(rejected, 19)].item()}
    videos = level(*range(1, 21))[:, None]
    assert gate.judge_videos(videos).keep.sum() == 20 - min(rejected, 19)


def test_the_share_of_strangers_that_are_rejected_is_measured_again_on_the_test_split() -> None:
    figure = calibrated().measure(level(0.1, 4, 5, 6, 7))
    assert (figure.value, figure.n, figure.better) == (0.2, 5, "lower")
    assert figure.interval_95 == pytest.approx((0.00505, 0.71642), abs=1e-5)  # Clopper-Pearson
    assert calibrated().measure(level()[:0]).value is None


def test_a_gate_that_rejects_most_strangers_is_closed() -> None:
    """Of a handful three of four may be chance, and nine of ten are not; of twenty and more, half is the limit."""
    gate = calibrated()
    assert gate.measure(level(0.1, 0.2, 0.3, 6)).value == 0.75
    assert gate.measure(level(*[0.1] * 10, *[6] * 10)).value == 0.5
    with pytest.raises(PrivacyError, match="rejects 11 of 20 patients of the test split"):
        gate.measure(level(*[0.1] * 11, *[6] * 9))
    with pytest.raises(PrivacyError) as error:
        gate.measure(level(*[0.1] * 9, 6))
    assert str(error.value) == (
        f"{NAME}: rejects 9 of 10 patients of the test split (95 % interval 55% to 100%), more than the policy's 50%: what it "
        "keeps is no fair choice; train it longer, or let it ask less"
    )


@pytest.mark.parametrize("space", [None, "pixels", 3])
def test_a_filter_that_does_not_say_what_it_wants_to_see_closes_the_gate(space: Any) -> None:
    with pytest.raises(PrivacyError) as error:
        gate_of(MeanFilter(space=space))
    assert str(error.value) == f"{NAME}: space is {space!r}; a filter says whether it wants 'latent' or 'image'"


def test_a_filter_without_a_space_closes_the_gate_by_its_name() -> None:
    class Spaceless:
        judge = calibrate = None

    with pytest.raises(PrivacyError, match="space is None") as error:
        gate_of(Spaceless())
    assert str(error.value).startswith(f"{NAME}: ")


def test_a_filter_that_wants_images_is_shown_few_at_once() -> None:
    """The images of all held-out frames, or of a whole video, are more than a memory holds."""
    privacy_filter = MeanFilter(space="image")
    gate = gate_of(privacy_filter, Doubling())
    gate.window = 25
    holdout = References(items=level(*range(100)), groups=[str(i % 4) for i in range(100)])
    gate.calibrate(References(items=level(-9), groups=["x"]), holdout, torch.arange(100) % 4, b"key")
    assert max(len(items) for items in privacy_filter.shown) <= IMAGE_BATCH
    assert gate.thresholds(100)["video"] == 18.0  # the nearest held-out frame: |2 * 0 - 2 * -9|
    verdict = gate.judge_videos(level(*range(-9, 91))[None])
    assert max(len(items) for items in privacy_filter.shown) <= IMAGE_BATCH
    assert (verdict.keep.tolist(), verdict.distance.tolist()) == ([False], [0.0])


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("[x] DefaultCPUAllocator: can't allocate memory")])  # fmt: skip
def test_a_filter_without_memory_is_no_broken_filter(error: Exception) -> None:
    def judge(stills: torch.Tensor) -> Any:
        raise error

    gate = calibrated()
    gate._filter.judge = judge
    with pytest.raises(type(error)) as raised:
        gate.judge_stills(level(1))
    assert raised.value is error


def test_it_is_calibrated_on_one_frame_of_each_held_out_patient() -> None:
    privacy_filter = MeanFilter()
    calibrated(privacy_filter)
    assert privacy_filter.groups == ("a", "b")


def test_a_filter_that_wants_images_is_shown_images() -> None:
    privacy_filter = MeanFilter(space="image")
    gate = calibrated(privacy_filter, Doubling())
    gate.judge_stills(level(1, 2))
    assert torch.equal(privacy_filter.shown[-1], level(2, 4))


def test_a_verdict_on_a_video_does_not_depend_on_the_others() -> None:
    gate = calibrated()
    videos = torch.randn(5, 3, *SHAPE, generator=torch.Generator().manual_seed(0)) + 4
    together = gate.judge_videos(videos)
    alone = [gate.judge_videos(video[None]) for video in videos]
    assert torch.equal(together.distance, torch.cat([v.distance for v in alone]))
    assert torch.equal(together.keep, torch.cat([v.keep for v in alone]))


def test_the_trained_filter_rejects_every_copy_of_a_reference_still_or_animated(
    trained_tiny: Bundle, registry: Registry
) -> None:
    privacy_filter = trained_tiny.plugin_set.build(registry, "privacy_filter")
    trained_tiny.load("privacy_filter", privacy_filter, "pearson-reid")
    train, holdout, video = trained_tiny.references()
    gate = gate_of(privacy_filter)
    gate.calibrate(train, holdout, video, trained_tiny.noise_key)
    assert not gate.judge_stills(train.items).keep.any()
    animated = holdout.items[:3].repeat(len(train.items) // 4, 1, 1, 1, 1)
    animated[:, 1] = train.items[::4]
    assert not gate.judge_videos(animated).keep.any()


def test_references_keep_several_frames_of_every_training_video(trained_tiny: Bundle) -> None:
    """The published code compares with frame 0 only, though the image model learns from all frames."""
    train, holdout, video = trained_tiny.references()
    counts = {group: train.groups.count(group) for group in train.groups}
    assert set(counts.values()) == {4}
    assert not set(train.groups) & set(holdout.groups)
    assert video.bincount().tolist() == [20] * len(set(holdout.groups))


def test_one_frame_of_each_patient_of_the_test_split_is_kept_and_is_no_reference(
    trained_tiny: Bundle, registry: Registry
) -> None:
    strangers = trained_tiny.strangers()
    assert strangers is not None
    test = open_source(registry, "phantom?patients=16&frames=40&size=32").clips("test")
    assert len(strangers) == len({clip.group for clip in test}) > 0
    train, holdout, _ = trained_tiny.references()
    for other in (train.items, holdout.items):
        assert (strangers[:, None] - other).flatten(2).abs().amax(2).min() > 0


def test_references_name_nobody(trained_tiny: Bundle) -> None:
    data = Path(trained_tiny.folder / "private" / "references.safetensors").read_bytes()
    assert b"phantom" not in data
    train, holdout, _ = trained_tiny.references()
    numbers = sorted({int(group) for group in (*train.groups, *holdout.groups)})
    assert numbers == list(range(len(numbers)))
