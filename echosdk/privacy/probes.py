"""Ask the gate about real records: training patients, exact and altered, and patients that nothing was trained on.

Every figure is one query a patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from attrs import field, frozen
from numpy.typing import NDArray

from echosdk.abilities import SimulatedSource
from echosdk.clips.images import to_frames, to_images
from echosdk.clips.store import pixel_clips
from echosdk.clips.video import decode_video, encode_video
from echosdk.interfaces import Clip, Conditions, DataSource, Encoder, References
from echosdk.privacy.alterations import ALTERATIONS
from echosdk.privacy.gate import Gate
from echosdk.privacy.statistics import Figure, share
from echosdk.seeding import generator

ENCODE_BATCH = 32
REPORT_EVERY = 50
ALTERED_VIDEOS = 40
"""At no miss in 40, nine in ten are found with 95 % confidence; each is a whole video for each alteration."""

Frames = NDArray[Any]
Latents = list[tuple[torch.Tensor, Conditions]]
"""Videos `t c h w`, and their labels."""
Report = Callable[[str], None]


@frozen(kw_only=True, eq=False)
class Real:
    """The clips of some patients of one split, and how they are read: `fps`, at most `num_frames`, `kept` a clip."""

    source: DataSource
    patients: Sequence[Sequence[Clip]]
    fps: float
    num_frames: int
    kept: int

    def read(self, clip: Clip) -> Frames:
        """Read a clip's frames at the bundle's frame rate."""
        ((_, frames),) = pixel_clips([clip], self.fps)
        return frames

    def references(self, length: int) -> list[int]:
        """Return which frames of a clip a bundle keeps as references."""
        chosen = np.linspace(0, length - 1, min(self.kept, length)).round().astype(int)
        return [int(index) for index in chosen]


@frozen(kw_only=True, eq=False)
class Outsiders:
    """What is known of patients that nothing was trained on: figures, and latents as references are kept of others."""

    figures: list[Figure]
    latents: torch.Tensor = field(repr=False)
    owners: list[int] = field(repr=False)
    videos: Latents = field(repr=False)


def by_patient(clips: Iterable[Clip], at_most: int, seed: int) -> list[list[Clip]]:
    """Return the clips of at most so many patients, drawn at random; reads no frame."""
    patients: dict[str, list[Clip]] = {}
    for clip in clips:
        patients.setdefault(clip.group, []).append(clip)
    every = list(patients.values())
    order = torch.randperm(len(every), generator=generator("audit", "patients", seed))[:at_most]
    return [every[int(number)] for number in sorted(order.tolist())]


def encode(encoder: Encoder, images: torch.Tensor) -> torch.Tensor:
    """Encode images `n k H W` in batches."""
    return torch.cat([encoder.encode(part).float().cpu() for part in images.split(ENCODE_BATCH)])


def probe_stills(gate: Gate, encoder: Encoder, real: Real, seed: int, report: Report) -> list[Figure]:
    """Ask about a reference frame of each training patient, altered in each way, and about one that is no reference."""
    rejected = {name: [0, 0] for name in (*ALTERATIONS, "another-frame", "rendered-again")}
    for number, clips in enumerate(_told(real.patients, "training patients asked about", report)):
        draws = generator("audit", "probe", seed, number)
        clip = clips[int(torch.randint(len(clips), (), generator=draws))]
        frames = real.read(clip)
        references = real.references(len(frames))
        image = to_images(frames[references[0]][None])[0]
        asked = {name: alter(image, draws) for name, alter in ALTERATIONS.items()}
        between = sorted(set(range(len(frames))) - set(references))
        if between:
            other = between[int(torch.randint(len(between), (), generator=draws))]
            asked["another-frame"] = to_images(frames[other][None])[0]
        if isinstance(real.source, SimulatedSource):
            again = real.read(real.source.again(clip, noise=seed + 1))
            asked["rendered-again"] = to_images(again[references[0]][None])[0]
        verdict = gate.judge_stills(encode(encoder, torch.stack(list(asked.values()))))
        for name, keep in zip(asked, verdict.keep.tolist(), strict=True):
            rejected[name][0] += not keep
            rejected[name][1] += 1
    short = {
        "another-frame": "every frame of these clips is a reference",
        "rendered-again": "the source cannot render the same anatomy again",
    }
    return [_found(f"probe.{name}.still", hits, n, short.get(name, "")) for name, (hits, n) in rejected.items()]


def probe_videos(gate: Gate, encoder: Encoder, real: Real, seed: int, report: Report) -> tuple[list[Figure], Latents]:
    """Ask about a whole training video of each patient: as it is, as H.264 gives it back, and the first ones altered.

    All frames of a video are altered alike, but for noise. Returns the latents of the unaltered videos too.
    """
    counts = {name: [0, 0] for name in ("exact", "h264", *ALTERATIONS, "rendered-again")}
    latents = []
    for number, clips in enumerate(_told(real.patients, "training videos asked about", report)):
        frames = real.read(clips[0])[: real.num_frames]
        asked: dict[str, Frames] = {}
        if not (frames.shape[1] % 2 or frames.shape[2] % 2):
            asked["h264"] = decode_video(encode_video(frames, real.fps, "mp4"), grey=frames.ndim == 3)[0]
        if number < ALTERED_VIDEOS:
            asked |= {name: _altered(frames, name, number, seed) for name in ALTERATIONS if name != "exact"}
            if isinstance(real.source, SimulatedSource):
                asked["rendered-again"] = real.read(real.source.again(clips[0], noise=seed + 1))[: real.num_frames]
        encoded = _encoded(encoder, frames)
        latents.append((encoded, clips[0].labels))
        verdicts = {"exact": _keeps(gate, encoded)}
        verdicts |= {name: _keeps(gate, _encoded(encoder, shown)) for name, shown in asked.items()}
        for name, kept in verdicts.items():
            counts[name][0] += not kept
            counts[name][1] += 1
    short = {"h264": "H.264 wants even sides", "rendered-again": "the source cannot render the same anatomy again"}
    figures = [_found(f"probe.{name}.video", hits, n, short.get(name, "")) for name, (hits, n) in counts.items()]
    return figures, latents


def probe_other_videos(
    fresh_gate: Callable[[], Gate],
    holdout: tuple[References, torch.Tensor],
    key: bytes,
    encoder: Encoder,
    real: Real,
    seed: int,
    report: Report,
) -> Figure:
    """Enrol one video of each training patient who has several, and ask about a frame of another.

    The bundle's references hold every training video; so the filter is calibrated again with those that are enrolled.
    """
    several = [clips for clips in real.patients if len(clips) > 1]
    if not several:
        return _found("probe.another-video.still", 0, 0, "no patient of this source has two videos")
    enrolled, owners, queries = [], [], []
    for number, clips in enumerate(_told(several, "patients with two videos read", report)):
        frames = real.read(clips[0])
        kept = real.references(len(frames))
        enrolled.append(encode(encoder, to_images(frames[kept])))
        owners += [f"enrolled-{number}"] * len(kept)
        other = real.read(clips[1])
        draws = generator("audit", "other video", seed, number)
        chosen = int(torch.randint(len(other), (), generator=draws))
        queries.append(encode(encoder, to_images(other[chosen][None])))
    gate = fresh_gate()
    gate.calibrate(References(items=torch.cat(enrolled), groups=owners), *holdout, key)
    keep = gate.judge_stills(torch.cat(queries)).keep
    return attrs.evolve(
        _found("probe.another-video.still", int((~keep).sum()), len(keep), ""),
        note=f"with one video each of {len(keep)} patients as references, and the threshold calibrated for those",
    )


def ask_outsiders(gate: Gate, encoder: Encoder, real: Real, videos: int, seed: int, report: Report) -> Outsiders:
    """Ask about a random frame of each patient of the test split, and about whole videos of the first `videos`."""
    stills, whole = [0, 0], [0, 0]
    latents, owners = [], []
    videos_seen: Latents = []
    for number, clips in enumerate(_told(real.patients, "patients of the test split asked about", report)):
        read = [real.read(clip) for clip in clips]
        draws = generator("audit", "innocent", seed, number)
        drawn = read[int(torch.randint(len(read), (), generator=draws))]
        frame = int(torch.randint(len(drawn), (), generator=draws))
        kept = [frames[real.references(len(frames))] for frames in read]
        images = to_images(np.concatenate([drawn[frame][None], *kept]))
        encoded = encode(encoder, images)
        stills[0] += not bool(gate.judge_stills(encoded[:1]).keep[0])
        stills[1] += 1
        latents.append(encoded[1:])
        owners += [number] * (len(encoded) - 1)
        if number < videos:
            video = _encoded(encoder, read[0][: real.num_frames])
            videos_seen.append((video, clips[0].labels))
            whole[0] += not _keeps(gate, video)
            whole[1] += 1
    figures = [
        share(f"innocents.{what}", *counts, better="lower", what="patients of the test split, one query each",
              note="" if counts[1] else "the source has no test split")
        for what, counts in (("still", stills), ("video", whole))
    ]  # fmt: skip
    known = torch.cat(latents) if latents else torch.zeros(0, 1)
    # As a bundle keeps its references, so that no attack tells the two apart by their rounding
    return Outsiders(figures=figures, latents=known.half().float(), owners=owners, videos=videos_seen)


def _altered(frames: Frames, name: str, number: int, seed: int) -> Frames:
    """Alter a video; each frame draws alike, so that all are shifted or turned alike. Noise differs in each."""
    images = to_images(np.ascontiguousarray(frames))
    noise = name == "noise"
    draws = [generator("audit", "video", name, seed, number, t if noise else 0) for t in range(len(images))]
    return to_frames(torch.stack([ALTERATIONS[name](image, each) for image, each in zip(images, draws, strict=True)]))


def _encoded(encoder: Encoder, frames: Frames) -> torch.Tensor:
    return encode(encoder, to_images(np.ascontiguousarray(frames)))


def _keeps(gate: Gate, latents: torch.Tensor) -> bool:
    return bool(gate.judge_videos(latents[None]).keep[0])


def _found(name: str, rejected: int, n: int, why_none: str) -> Figure:
    what = "training patients, one query each"
    return share(name, rejected, n, better="higher", what=what, note="" if n else why_none)


def _told(patients: Sequence[Sequence[Clip]], what: str, report: Report) -> Iterator[Sequence[Clip]]:
    for done, clips in enumerate(patients, start=1):
        yield clips
        if done % REPORT_EVERY == 0 or done == len(patients):
            report(f"{done} of {len(patients)} {what}")
