"""The loaded components of one plan, and the way of one sample through them.

Labels, stills, judge, redraw the rejected, animate and stitch, decode, write, judge what was written, redraw.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from attrs import define, field, frozen
from numpy.typing import NDArray

from echosdk.bundle import Bundle
from echosdk.clips.images import to_frames, to_images
from echosdk.clips.video import VideoFormat, decode_video, encode_video
from echosdk.devices import out_of_memory, pick_device, threads
from echosdk.errors import OutOfMemory, PluginError, PrivacyError
from echosdk.generation.labels import draw_labels
from echosdk.generation.made_with import hardware, versions
from echosdk.generation.plan import Plan, Shard
from echosdk.interfaces import Category, Conditions, Encoder, ImagePrior, Label, Stitcher, Verdict, VideoAnimator
from echosdk.plugin_set import PluginSet
from echosdk.privacy.gate import Gate
from echosdk.privacy.patients import refuse_too_few_patients
from echosdk.privacy.statistics import Figure
from echosdk.registry import Registry
from echosdk.seeding import generator

DECODE_BATCH = 16
ENCODE_BATCH = 32
LOADING = "out of memory while the components were loaded and the filter calibrated; try another --device"


@frozen(kw_only=True)
class Rejection:
    """One rejected draw, with its latents `c h w` (of a video, those of its first frame): private."""

    sample: int
    attempt: int
    what: str
    distance: float
    tau: float
    still: torch.Tensor


@frozen(kw_only=True)
class Made:
    """One finished sample and its video's file; `distance` (to the nearest reference) and `attempt` are private."""

    sample: int
    labels: Conditions
    video: bytes
    num_frames: int
    attempt: int
    distance: float | None


@define
class Tally:
    """How often the gate was asked, and said no."""

    stills: int = 0
    rejected_stills: int = 0
    videos: int = 0
    rejected_videos: int = 0
    rejections: list[Rejection] = field(factory=list)


@define
class Pipeline:
    """One plan's components with their trained state, on the plan's device."""

    plan: Plan
    labels: Sequence[Label | Category]
    key: bytes
    encoder: Encoder
    prior: ImagePrior
    animator: VideoAnimator
    stitcher: Stitcher
    gate: Gate | None
    strangers: Figure | None = None
    versions: Mapping[str, str] = field(factory=dict)
    hardware: Mapping[str, str] = field(factory=dict)

    @classmethod
    def load(cls, plan: Plan, bundle: Bundle, registry: Registry, device: str | None = None) -> Self:
        """Build and load every component, and calibrate the gate. Fails closed.

        `device` says which one of the plan's kind it is, where there are several.
        """
        device = pick_device(device or plan.device)
        with threads(plan.threads), _enough_memory(LOADING):
            return cls._load(plan, bundle, registry, device)

    @classmethod
    def _load(cls, plan: Plan, bundle: Bundle, registry: Registry, device: str) -> Self:
        plugin_set = PluginSet.from_plain(plan.whole_plugin_set(), where="plan")
        dtype: torch.dtype = getattr(torch, plan.dtype)

        def loaded(kind: str) -> Any:
            component = plugin_set.build(registry, kind)
            bundle.load(kind, component, plugin_set.choices[kind].use)
            if hasattr(component, "to"):
                component.to(device, dtype)
            return component

        encoder = loaded("encoder")
        gate, strangers = None, None
        if plan.privacy_filter:
            if bundle.stripped:
                raise PrivacyError(
                    f"bundle {bundle.where} was stripped of what the privacy filter needs, so nothing is generated "
                    "from it; use the whole bundle, or say --no-privacy-filter, which is written on everything that "
                    "comes out"
                )
            gate = load_gate(plugin_set, bundle, registry, encoder)
            gate.calibrate(*bundle.references(), bundle.noise_key)
            kept = bundle.strangers()
            strangers = None if kept is None else gate.measure(kept)
            gate.thresholds(plan.num_frames)  # raises here, before any work, where held-out videos are too short
        return cls(
            plan=plan,
            labels=bundle.manifest.labels,
            key=noise_key(bundle, plan),
            encoder=encoder,
            prior=loaded("image_prior"),
            animator=loaded("video_animator"),
            stitcher=loaded("stitcher"),
            gate=gate,
            strangers=strangers,
            versions=versions(plugin_set, registry),
            hardware=hardware(device),
        )

    def make(self, shard: Shard, tally: Tally, drawn: Callable[[], None] = lambda: None) -> Iterator[Made]:
        """Make a shard's samples in order, in batches of the plan's micro-batch; `drawn` is called after its stills."""
        for first in range(0, len(shard.samples), self.plan.micro_batch):
            samples = list(shard.samples[first : first + self.plan.micro_batch])
            with threads(self.plan.threads), _enough_memory(f"{shard.name}: {_batches(self.plan)}"):
                made = self._make_batch(samples, tally, drawn)
            yield from made

    def _make_batch(self, samples: list[int], tally: Tally, drawn: Callable[[], None]) -> list[Made]:
        conditions = {s: draw_labels(self.labels, self.plan, s, self.key) for s in samples}
        attempts = dict.fromkeys(samples, 0)
        finished: dict[int, Made] = {}
        while waiting := [s for s in samples if s not in finished]:
            stills = self._stills(waiting, attempts, conditions, tally)
            drawn()
            noise = [self._generator(s, attempts[s], "video") for s in waiting]
            wanted = [conditions[s] for s in waiting]
            videos = self.stitcher.animate(self.animator, stills, wanted, self.plan.num_frames, noise).float().cpu()
            if videos.shape[:2] != (len(waiting), self.plan.num_frames):
                raise PluginError(
                    f"stitcher: made {tuple(videos.shape)} for {len(waiting)} videos of {self.plan.num_frames} frames"
                )
            tally.videos += len(waiting)
            for sample, latents in zip(waiting, videos, strict=True):
                frames = decode(self.encoder, latents)
                video = encode_video(frames, self.plan.fps, self.plan.format)
                published = self._as_published(video, grey=frames.ndim == 3) if self.gate else None
                verdict = self.gate.judge_videos(published[None]) if self.gate and published is not None else None
                if verdict is None or verdict.keep[0]:
                    finished[sample] = Made(
                        sample=sample,
                        labels=conditions[sample],
                        video=video,
                        num_frames=len(latents),
                        attempt=attempts[sample],
                        distance=float(verdict.distance[0]) if verdict else None,
                    )
                    continue
                tally.rejected_videos += 1
                tally.rejections.append(_rejection(sample, attempts[sample], "video", verdict, 0, latents[0]))
                self._next(attempts, sample, tally)
        return [finished[sample] for sample in samples]

    def _as_published(self, video: bytes, grey: bool) -> torch.Tensor:
        """Return the latents `t c h w` of a video's file: what its format did to the frames is in them."""
        frames = read_frames(video, self.plan.format, grey)
        return torch.cat([self.encoder.encode(part).float().cpu() for part in to_images(frames).split(ENCODE_BATCH)])

    def _stills(
        self, samples: list[int], attempts: dict[int, int], conditions: dict[int, Conditions], tally: Tally
    ) -> torch.Tensor:
        """Draw a still for each sample until the gate keeps it."""
        kept: dict[int, torch.Tensor] = {}
        while waiting := [s for s in samples if s not in kept]:
            noise = [self._generator(s, attempts[s], "still") for s in waiting]
            stills = self.prior.sample(noise, [conditions[s] for s in waiting]).float().cpu()
            tally.stills += len(waiting)
            verdict = self.gate.judge_stills(stills) if self.gate else None
            for i, sample in enumerate(waiting):
                if verdict is None or verdict.keep[i]:
                    kept[sample] = stills[i]
                    continue
                tally.rejected_stills += 1
                tally.rejections.append(_rejection(sample, attempts[sample], "still", verdict, i, stills[i]))
                self._next(attempts, sample, tally)
        return torch.stack([kept[s] for s in samples])

    def _next(self, attempts: dict[int, int], sample: int, tally: Tally) -> None:
        attempts[sample] += 1
        if attempts[sample] >= self.plan.max_attempts:
            raise PrivacyError(
                f"the privacy filter rejected sample {sample} {self.plan.max_attempts} times; so far it rejected "
                f"{tally.rejected_stills} of {tally.stills} stills and {tally.rejected_videos} of {tally.videos} "
                "videos. The prior repeats its training data, or the filter does not fit this bundle; nothing of this "
                "shard is kept"
            )

    def _generator(self, sample: int, attempt: int, purpose: str) -> torch.Generator:
        return generator(self.plan.seed, sample, attempt, purpose, key=self.key)


def load_gate(plugin_set: PluginSet, bundle: Bundle, registry: Registry, encoder: Encoder) -> Gate:
    """Return a gate with the plugin set's filter as it was trained, not yet calibrated.

    Raises `PrivacyError` where the bundle's references are of too few patients.
    """
    train, holdout, _ = bundle.references()
    refuse_too_few_patients(train, holdout, bundle.where)
    name = plugin_set.choices["privacy_filter"].use
    offer = registry.offer("privacy_filter", name)
    privacy_filter = plugin_set.build(registry, "privacy_filter")
    bundle.load("privacy_filter", privacy_filter, name)
    window = plugin_set.build(registry, "video_animator").window
    return Gate(f"{name} of {offer.plugin}", privacy_filter, encoder, window)


def decode(encoder: Encoder, latents: torch.Tensor) -> NDArray[np.uint8]:
    """Decode latents `n c h w` to frames, a few at a time: as images, a whole video's are many times its frames."""
    return np.concatenate([to_frames(encoder.decode(part)) for part in latents.split(DECODE_BATCH)])


def read_frames(video: bytes, format: VideoFormat, grey: bool) -> NDArray[np.uint8]:
    """Return the frames of a sample's video file, `t H W` or `t H W 3`."""
    if format == "npy":
        frames: NDArray[np.uint8] = np.load(io.BytesIO(video), allow_pickle=False)
        return frames
    return decode_video(video, grey=grey)[0]


def _rejection(sample: int, attempt: int, what: str, verdict: Verdict, i: int, still: torch.Tensor) -> Rejection:
    return Rejection(
        sample=sample,
        attempt=attempt,
        what=what,
        distance=float(verdict.distance[i]),
        tau=verdict.tau,
        still=still.clone(),  # of a video, it would keep the whole
    )


@contextmanager
def _enough_memory(what: str) -> Iterator[None]:
    """Raise `OutOfMemory` with what was done, and what to do about it."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemory(f"{what}, or fewer --workers, or a machine with more memory") from error


def _batches(plan: Plan) -> str:
    if plan.micro_batch == 1:
        return "out of memory with one video at a time; try fewer --frames (this is another plan)"
    return (
        f"out of memory with micro-batches of {plan.micro_batch}; try --micro-batch {plan.micro_batch // 2} "
        "(this is another plan)"
    )


def noise_key(bundle: Bundle, plan: Plan) -> bytes:
    """Return the bundle's secret; a stripped bundle has none, and then noise is public (and the output says so)."""
    return b"" if bundle.stripped and not plan.privacy_filter else bundle.noise_key
