"""What a bundle draws to be measured, and is never written: stills before and after the filter, videos of real ones.

The noise is keyed by the bundle's secret, and is none of the dataset's: nothing here tells which of its samples were
redrawn. Real stills are animated in memory, and stay there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray
from scipy.stats import binomtest

from echosdk.bundle import Bundle
from echosdk.clips.array import ArrayClip
from echosdk.clips.images import to_images
from echosdk.errors import BundleError, EchoError, PrivacyError
from echosdk.evaluation.measurement import Measured, NotComputed
from echosdk.evaluation.seen import Seen, Tools, image_distances, said, see, video_distances
from echosdk.generation.labels import uniform_labels
from echosdk.generation.pipeline import Pipeline, decode
from echosdk.generation.plan import Plan
from echosdk.interfaces import Conditions
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


def measure_in_memory(
    wanted: set[str],
    bundle: Bundle | None,
    plan: Plan,
    registry: Registry,
    device: str,
    seen: Mapping[str, Seen],
    tools: Tools,
    n: int,
    seed: int,
    report: Callable[[str], None],
) -> dict[str, list[Measured]]:
    """Measure what is drawn for this alone, by subject: the paper's tables 2 and 3."""
    found: dict[str, list[Measured]] = {}
    for option, what in (("stills", "stills before and after the filter"), ("real-stills", "videos of real stills")):
        if option not in wanted:
            tools.missing.append(NotComputed(name=what, why="not asked for", remedy=f"--{option}"))
            continue
        try:
            if bundle is None:
                raise BundleError("the bundle that the dataset was made from is not here")
            if bundle.digest != plan.bundle_digest:
                raise BundleError(f"the dataset was made from another bundle than {bundle.where}")
            pipeline = Pipeline.load(plan, bundle, registry, device)
            report(what)
            if option == "stills":
                drawn = draw_stills(pipeline, n, seed)
                found["stills before the filter"] = image_distances(drawn.before, seen, tools, seed)
                found["stills after the filter"] = [
                    drawn.rejected,
                    *image_distances(drawn.after, seen, tools, seed),
                ]
                continue
            animated, real = Seen(), seen["held-out"]
            clips = animate_real(pipeline, real.frames[:n], real.labels[:n], seed)
            for clip in said(clips, n, what, report):
                see(clip, animated, tools, plan.fps, seed, read=False)
            found[what] = [
                *image_distances(np.stack(animated.frames), seen, tools, seed),
                *video_distances(animated, seen, tools, seed),
            ]
        except EchoError as error:
            tools.missing.append(NotComputed(name=what, why=str(error)))
    return found
