"""The loaded components of one plan, and the way of one sample through them.

Labels, stills, judge, redraw the rejected, animate and stitch, judge the finished video, redraw, decode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from attrs import define, field, frozen
from numpy.typing import NDArray

from echosdk.bundle import Bundle
from echosdk.clips.images import to_frames
from echosdk.devices import pick_device
from echosdk.errors import OutOfMemory, PluginError, PrivacyError
from echosdk.generation.labels import uniform_labels
from echosdk.generation.plan import Plan, Shard
from echosdk.interfaces import Category, Conditions, Encoder, ImagePrior, Label, Stitcher, VideoAnimator
from echosdk.plugin_set import PluginSet
from echosdk.privacy.gate import Gate
from echosdk.registry import Registry
from echosdk.seeding import generator

DECODE_BATCH = 16


@frozen(kw_only=True)
class Rejection:
    """One rejected draw: private."""

    sample: int
    attempt: int
    what: str
    distance: float
    tau: float
    image: NDArray[np.uint8]


@frozen(kw_only=True)
class Made:
    """One finished sample; `distance` (to the nearest reference, of its video) and `attempt` are private."""

    sample: int
    labels: Conditions
    frames: NDArray[np.uint8]
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

    @classmethod
    def load(cls, plan: Plan, bundle: Bundle, registry: Registry, device: str | None = None) -> Self:
        """Build and load every component, and calibrate the gate. Fails closed.

        `device` says which one of the plan's kind it is, where there are several.
        """
        device = pick_device(device or plan.device)
        torch.set_num_threads(plan.threads)
        plugin_set = PluginSet.from_plain(plan.plugin_set, where="plan")
        dtype: torch.dtype = getattr(torch, plan.dtype)

        def loaded(kind: str) -> Any:
            component = plugin_set.build(registry, kind)
            bundle.load(kind, component, plugin_set.choices[kind].use)
            if hasattr(component, "to"):
                component.to(device, dtype)
            return component

        encoder = loaded("encoder")
        gate = None
        if plan.privacy_filter:
            if bundle.stripped:
                raise PrivacyError(
                    f"bundle {bundle.where} was stripped of what the privacy filter needs, so nothing is generated "
                    "from it; use the whole bundle, or say --no-privacy-filter, which is written on everything that "
                    "comes out"
                )
            name = plugin_set.choices["privacy_filter"].use
            offer = registry.offer("privacy_filter", name)
            train, holdout, video = bundle.references()
            privacy_filter = plugin_set.build(registry, "privacy_filter")
            bundle.load("privacy_filter", privacy_filter, name)
            gate = Gate(f"{name} of {offer.plugin}", privacy_filter, encoder)
            gate.calibrate(train, holdout, video, bundle.noise_key)
        return cls(
            plan=plan,
            labels=bundle.manifest.labels,
            key=noise_key(bundle, plan),
            encoder=encoder,
            prior=loaded("image_prior"),
            animator=loaded("video_animator"),
            stitcher=loaded("stitcher"),
            gate=gate,
        )

    def make(self, shard: Shard, tally: Tally) -> Iterator[Made]:
        """Make a shard's samples in order, in batches of the plan's micro-batch."""
        for first in range(0, len(shard.samples), self.plan.micro_batch):
            samples = list(shard.samples[first : first + self.plan.micro_batch])
            try:
                yield from self._make_batch(samples, tally)
            except (torch.OutOfMemoryError, MemoryError) as error:
                raise OutOfMemory(
                    f"{shard.name}: out of memory with micro-batches of {self.plan.micro_batch}; "
                    f"try --micro-batch {max(1, self.plan.micro_batch // 2)} (this is another plan)"
                ) from error

    def _make_batch(self, samples: list[int], tally: Tally) -> Iterator[Made]:
        conditions = {s: uniform_labels(self.labels, self.plan.seed, s, self.key) for s in samples}
        attempts = dict.fromkeys(samples, 0)
        finished: dict[int, tuple[torch.Tensor, float | None]] = {}
        while waiting := [s for s in samples if s not in finished]:
            stills = self._stills(waiting, attempts, conditions, tally)
            noise = [self._generator(s, attempts[s], "video") for s in waiting]
            wanted = [conditions[s] for s in waiting]
            videos = self.stitcher.animate(self.animator, stills, wanted, self.plan.num_frames, noise).float().cpu()
            if videos.shape[:2] != (len(waiting), self.plan.num_frames):
                raise PluginError(
                    f"stitcher: made {tuple(videos.shape)} for {len(waiting)} videos of {self.plan.num_frames} frames"
                )
            tally.videos += len(waiting)
            verdict = self.gate.judge_videos(videos) if self.gate else None
            for i, sample in enumerate(waiting):
                if verdict is None or verdict.keep[i]:
                    finished[sample] = videos[i], float(verdict.distance[i]) if verdict else None
                    continue
                tally.rejected_videos += 1
                tally.rejections.append(self._rejection(sample, attempts[sample], "video", verdict, i, videos[i, :1]))
                self._next(attempts, sample, tally)
        for sample in samples:
            video, distance = finished[sample]
            yield Made(
                sample=sample,
                labels=conditions[sample],
                frames=to_frames(self._decode(video)),
                attempt=attempts[sample],
                distance=distance,
            )

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
                tally.rejections.append(
                    self._rejection(sample, attempts[sample], "still", verdict, i, stills[i : i + 1])
                )
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

    def _decode(self, video: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.encoder.decode(part).cpu() for part in video.split(DECODE_BATCH)])

    def _rejection(self, sample: int, attempt: int, what: str, verdict: Any, i: int, still: torch.Tensor) -> Rejection:
        return Rejection(
            sample=sample,
            attempt=attempt,
            what=what,
            distance=float(verdict.distance[i]),
            tau=verdict.tau,
            image=to_frames(self._decode(still))[0],
        )

    def _generator(self, sample: int, attempt: int, purpose: str) -> torch.Generator:
        return generator(self.plan.seed, sample, attempt, purpose, key=self.key)


def noise_key(bundle: Bundle, plan: Plan) -> bytes:
    """Return the bundle's secret; a stripped bundle has none, and then noise is public (and the output says so)."""
    return b"" if bundle.stripped and not plan.privacy_filter else bundle.noise_key
