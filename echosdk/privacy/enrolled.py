"""Ask the gate about as many simulated patients as are wanted: they are enrolled as references, not trained on.

They are none of the bundle's; the filter is calibrated anew with their frames as the only references. A patient is
a few frames, rendered when they are asked for, and nothing of them is kept but what is compared.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from scipy import stats

from echosdk.abilities import SimulatedSource
from echosdk.clips.images import mirrored, to_images
from echosdk.clips.store import pixel_clips
from echosdk.errors import InputError
from echosdk.interfaces import Clip, DataSource, Encoder, References
from echosdk.privacy.alterations import ALTERATIONS
from echosdk.privacy.gate import Gate
from echosdk.privacy.probes import Report, encode
from echosdk.privacy.statistics import Figure, share
from echosdk.seeding import generator

FRAMES = 3
"""Of a patient's first video: the outer ones are references, the one between is another frame."""
MOST_AT_ONCE = 64
BESIDES = ("another-frame", "another-video", "rendered-again")


def check_simulated(source: DataSource, name: str) -> SimulatedSource:
    """Refuse a source that holds only the patients that it holds."""
    if not isinstance(source, SimulatedSource):
        raise InputError(
            f"--probe-patients: --data {name} has no other patients than its own; leave it out: --patients says how "
            "many of those are asked about"
        )
    return source


def probe_enrolled(
    fresh_gate: Callable[[], Gate],
    holdout: tuple[References, torch.Tensor],
    key: bytes,
    encoder: Encoder,
    source: SimulatedSource,
    number: int,
    seed: int,
    report: Report,
) -> list[Figure]:
    """Enrol `number` patients, and ask about one frame of each, altered in each way: one query a patient each.

    The verdicts are of a gate that was calibrated with all of them, so all are encoded before one is asked about.
    """
    both = source.others(number, FRAMES), source.others(number, FRAMES, noise=seed + 1)
    enrolled, asked = [], []
    for done, (clips, again) in enumerate(zip(*both, strict=True), start=1):
        frames, other, rendered = (_images(clip) for clip in (clips[0], clips[1], again[0]))
        draws = generator("audit", "enrolled", seed, done)
        queries = [alter(frames[0], draws) for alter in ALTERATIONS.values()]
        queries += [frames[1], other[int(torch.randint(FRAMES, (), generator=draws))], rendered[0]]
        encoded = encode(encoder, torch.stack([frames[0], frames[-1], *queries]))
        enrolled.append(encoded[:2])
        asked.append(encoded[2:])
        if done % MOST_AT_ONCE == 0 or done == number:
            report(f"{done} of {number} simulated patients enrolled")
    gate = fresh_gate()
    owners = [f"enrolled-{patient}" for patient in range(number) for _ in range(2)]
    items = torch.cat(enrolled)
    gate.calibrate(References(items=items, groups=owners, mirrored=mirrored(encoder, items[::2])), *holdout, key)
    parts = torch.stack(asked).split(MOST_AT_ONCE)  # patient, query, c h w
    keep = torch.cat([gate.judge_stills(part.flatten(0, 1)).keep for part in parts])
    keep = keep.reshape(number, -1)
    return [
        _found(f"enrolled.{name}.still", int((~keep[:, column]).sum()), number)
        for column, name in enumerate((*ALTERATIONS, *BESIDES))
    ]


def _images(clip: Clip) -> torch.Tensor:
    ((_, frames),) = pixel_clips([clip], clip.fps)
    return to_images(frames)


def _found(name: str, rejected: int, n: int) -> Figure:
    """Return a share of patients found; its note has the one-sided bound, of which people speak."""
    found = share(name, rejected, n, better="higher", what="simulated patients, enrolled as references, one query each")
    bound = stats.binomtest(rejected, n, alternative="greater").proportion_ci(0.95, "exact").low
    note = f"one-sided 95 % lower bound {bound:.5f}; the threshold is calibrated for these references"
    return attrs.evolve(found, note=note)
