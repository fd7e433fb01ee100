"""What a bundle makes to be measured, and is never written: reconstructions, stills before the filter, real ones moved.

The noise is keyed by the bundle's secret, and is none of the dataset's: nothing here tells which of its samples were
redrawn. Real stills are animated in memory, and stay there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from attrs import evolve, frozen
from numpy.typing import NDArray
from scipy.stats import binomtest

from echosdk.bundle import Bundle
from echosdk.clips.array import ArrayClip
from echosdk.clips.images import to_frames, to_images
from echosdk.errors import BundleError, EchoError, PrivacyError
from echosdk.evaluation.measurement import Measured, NotComputed
from echosdk.evaluation.seen import Seen, Tools, image_distances, said, see, video_distances
from echosdk.generation.labels import uniform_labels
from echosdk.generation.pipeline import Pipeline, decode
from echosdk.generation.plan import Plan
from echosdk.interfaces import Conditions, Encoder
from echosdk.registry import Registry
from echosdk.seeding import generator

BATCH = 16
Frames = NDArray[np.uint8]


@frozen(kw_only=True)
class DrawnStills:
    """Stills of the image prior, decoded: the first that were drawn, and as many that the filter keeps."""

    before: Frames
    after: Frames
    rejected: Measured


def draw_stills(pipeline: Pipeline, n: int, seed: int) -> DrawnStills:
    """Draw stills until the filter has kept n of them.

    Raises `PrivacyError` where there is no filter, or it keeps fewer than n of as many attempts as the plan allows.
    """
    if pipeline.gate is None:
        raise PrivacyError("the dataset was made without a privacy filter")
    drawn: list[torch.Tensor] = []
    keep: list[bool] = []
    while sum(keep) < n:
        if len(keep) >= n * pipeline.plan.max_attempts:
            raise PrivacyError(f"the filter kept {sum(keep)} of {len(keep)} stills, and {n} were asked for")
        numbers = range(len(keep), len(keep) + BATCH)
        noise = [generator(seed, i, 0, "a still to measure", key=pipeline.key) for i in numbers]
        wanted = [uniform_labels(pipeline.labels, seed, i, pipeline.key) for i in numbers]
        stills = pipeline.prior.sample(noise, wanted).float().cpu()
        drawn += stills
        keep += pipeline.gate.judge_stills(stills).keep.tolist()
    kept = [still for still, kept in zip(drawn, keep, strict=True) if kept]
    rejected = len(keep) - sum(keep)
    exact = binomtest(rejected, len(keep)).proportion_ci(0.95, "exact")
    return DrawnStills(
        before=decode(pipeline.encoder, torch.stack(drawn[:n])),
        after=decode(pipeline.encoder, torch.stack(kept[:n])),
        rejected=Measured(
            name="stills that the filter rejects, of those drawn",
            direction="lower",
            n=len(keep),
            value=rejected / len(keep),
            low=float(exact.low),
            high=float(exact.high),
            interval="exact binomial",
        ),
    )


def animate_real(
    pipeline: Pipeline, frames: Sequence[NDArray[Any]], labels: Sequence[Conditions], seed: int
) -> Iterator[ArrayClip]:
    """Yield a video of each real frame, animated with its own video's labels; none is judged, for none is kept."""
    size = pipeline.plan.micro_batch
    for first in range(0, len(frames), size):
        numbers = range(first, min(first + size, len(frames)))
        wanted = [labels[i] for i in numbers]
        stills = pipeline.encoder.encode(to_images(np.stack([frames[i] for i in numbers]))).float().cpu()
        noise = [generator(seed, i, 0, "a real still to measure", key=pipeline.key) for i in numbers]
        videos = pipeline.stitcher.animate(pipeline.animator, stills, wanted, pipeline.plan.num_frames, noise)
        for i, video in zip(numbers, videos.float().cpu(), strict=True):
            yield ArrayClip(id=f"{i}", group=f"{i}", labels=labels[i], frames=decode(pipeline.encoder, video))


def reconstruct(encoder: Encoder, clips: Iterable[ArrayClip]) -> Iterator[ArrayClip]:
    """Yield real clips as they come out of the encoder and back."""
    for clip in clips:
        parts = to_images(clip.frames).split(BATCH)
        frames = np.concatenate([to_frames(encoder.decode(encoder.encode(part))) for part in parts])
        yield evolve(clip, frames=frames)


@frozen(kw_only=True)
class InMemory:
    """What is drawn for this alone is measured against what was seen of `n` clips of either split, and twice as many.

    `held_out` are the n held-out clips, read again where they are wanted. Videos of real stills and reconstructions are
    made of those n, and compared with the other n.
    """

    wanted: frozenset[str]
    bundle: Bundle | None
    plan: Plan
    registry: Registry
    device: str
    seen: Mapping[str, Seen]
    tools: Tools
    held_out: Iterable[ArrayClip]
    n: int
    seed: int
    report: Callable[[str], None]

    def measure(self) -> dict[str, list[Measured]]:
        """Return by subject what was asked for, and say of the rest how to ask: the paper's tables 1 to 3."""
        found: dict[str, list[Measured]] = {}
        for option, (what, measure) in {
            "reconstructions": ("reconstructed videos", self._reconstructions),
            "stills": ("stills before and after the filter", self._stills),
            "real-stills": ("videos of real stills", self._real_stills),
        }.items():
            if option not in self.wanted:
                self.tools.missing.append(NotComputed(name=what, why="not asked for", remedy=f"--{option}"))
                continue
            self.report(what)
            try:
                found |= measure(what)
            except EchoError as error:
                self.tools.missing.append(NotComputed(name=what, why=str(error)))
        return found

    def _reconstructions(self, what: str) -> dict[str, list[Measured]]:
        if self.tools.encoder is None:
            raise BundleError("there is no encoder: the bundle is not here, or has none")
        return {what: self._distances(reconstruct(self.tools.encoder, self.held_out), what)}

    def _stills(self, _what: str) -> dict[str, list[Measured]]:
        drawn = draw_stills(self._pipeline(), self.n, self.seed)
        before, after = (
            image_distances(frames, self.seen, self.tools, self.seed) for frames in (drawn.before, drawn.after)
        )
        return {"stills before the filter": before, "stills after the filter": [drawn.rejected, *after]}

    def _real_stills(self, what: str) -> dict[str, list[Measured]]:
        real = self.seen["held-out"]
        videos = animate_real(self._pipeline(), real.frames[: self.n], real.labels[: self.n], self.seed)
        return {what: self._distances(videos, what)}

    def _distances(self, clips: Iterator[ArrayClip], what: str) -> list[Measured]:
        each = Seen()
        for clip in said(clips, self.n, what, self.report):
            see(clip, each, self.tools, self.plan.fps, self.seed, read=False)
        return [
            *image_distances(np.stack(each.frames), self.seen, self.tools, self.seed, sources=self.n),
            *video_distances(each, self.seen, self.tools, self.seed, sources=self.n),
        ]

    def _pipeline(self) -> Pipeline:
        if self.bundle is None:
            raise BundleError("the bundle that the dataset was made from is not here")
        if self.bundle.digest != self.plan.bundle_digest:
            raise BundleError(f"the dataset was made from another bundle than {self.bundle.where}")
        return Pipeline.load(self.plan, self.bundle, self.registry, self.device)
