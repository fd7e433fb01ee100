"""What a bundle keeps of real data, so that a privacy filter has something to compare with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from echosdk.bundle import PRIVATE, REFERENCES, Bundle, amend
from echosdk.clips.images import mirrored, to_images
from echosdk.clips.store import pixel_clips
from echosdk.errors import DataError
from echosdk.integrity import file_digest, locked, write_whole
from echosdk.interfaces import Clip, DataSource, Encoder
from echosdk.seeding import generator

ENCODE_BATCH = 32

Latents = tuple[str, NDArray[Any]]
"""One clip's patient, and latents `t c h w`."""


def encode(encoder: Any, frames: NDArray[Any]) -> NDArray[Any]:
    """Return the latents `t c h w` of frames uint8 `t H W` or `t H W 3`."""
    parts = [encoder.encode(to_images(frames[first:last])).cpu() for first, last in _batches(len(frames), ENCODE_BATCH)]
    return torch.cat(parts).half().contiguous().numpy()


def evenly(length: int, count: int) -> NDArray[np.int64]:
    """Choose `count` of `length` frames, or all where they are fewer: the first, the last, and evenly between."""
    chosen: NDArray[np.int64] = np.linspace(0, length - 1, min(count, length)).round().astype(int)
    return chosen


def strangers(
    source: DataSource, encoder: Any, fps: float, key: bytes, skipped: Callable[[str], None] | None = None
) -> torch.Tensor:
    """Return latents `n c h w` of one frame of each patient of the test split; frames and order are drawn.

    With `skipped` a clip that cannot be read is reported, and the patient's next one taken; who has none is left out.
    """
    clips: dict[str, list[Clip]] = {}
    for clip in source.clips("test"):
        clips.setdefault(clip.group, []).insert(0, clip)
    found = []
    for group in sorted(clips):
        frames = _first_readable(clips[group], fps, skipped)
        if frames is None:
            continue
        chosen = int(torch.randint(len(frames), (), generator=generator("stranger", group, key=key)))
        found.append(torch.from_numpy(encode(encoder, frames[chosen : chosen + 1])))
    order = torch.randperm(len(found), generator=generator("strangers", key=key))
    return torch.cat(found)[order] if found else torch.zeros(0, *encoder.latent_shape)


def _first_readable(clips: Sequence[Clip], fps: float, skipped: Callable[[str], None] | None) -> NDArray[Any] | None:
    for clip in clips:
        try:
            ((_, frames),) = pixel_clips([clip], fps)
        except DataError as error:
            if skipped is None:
                raise
            skipped(f"skipped {clip.id}: {error}")
            continue
        return frames
    return None


def keep_references(
    bundle: Bundle,
    encoder: Encoder,
    train: Sequence[Latents],
    holdout: Sequence[Latents],
    test: torch.Tensor | None = None,
) -> Bundle:
    """Keep what a filter compares with: latents of some frames of training clips, and of one clip a held-out patient.

    Of one frame of each training patient, the mirror image too. And `test`, on which the share of strangers that it
    rejects is measured again, one frame a patient. Patients are numbered in an order drawn with the noise key, so that
    a number says nothing.
    """
    from safetensors.torch import save

    groups = sorted({group for group, _ in (*train, *holdout)})
    order = torch.randperm(len(groups), generator=generator("pseudonyms", key=bundle.noise_key)).tolist()
    pseudonym = dict(zip(groups, order, strict=True))

    def numbers(clips: Sequence[Latents]) -> torch.Tensor:
        return torch.tensor([pseudonym[group] for group, latents in clips for _ in latents])

    lengths = torch.tensor([len(latents) for _, latents in holdout])
    shown = torch.from_numpy(np.concatenate([latents for _, latents in train])).half()
    one_each = {group: latents[0] for group, latents in reversed(train)}
    tensors = {
        "train": shown,
        "train_mirrored": _mirrored(bundle, encoder, shown, torch.from_numpy(np.stack([*one_each.values()])).float()),
        "train_group": numbers(train),
        "holdout": torch.from_numpy(np.concatenate([latents for _, latents in holdout])).half(),
        "holdout_group": numbers(holdout),
        "holdout_video": torch.repeat_interleave(torch.arange(len(lengths)), lengths),
    }
    if test is not None and len(test):
        tensors["test"] = test.half()
    content = save(tensors)
    digest = hashlib.sha256(content).hexdigest()
    path = bundle.folder / PRIVATE / REFERENCES
    with locked(path.parent):
        if not path.is_file() or file_digest(path) != digest:
            write_whole(path, content, mode=0o600)
    return amend(bundle, references=digest)


def _mirrored(bundle: Bundle, encoder: Encoder, train: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Return the mirror images of `items`: those that are there, if they are of the same references."""
    if bundle.manifest.references:
        there, _, _ = bundle.references()
        if there.mirrored is not None and torch.equal(there.items, train.float()):
            return there.mirrored.half()
    return mirrored(encoder, items).half()


def _batches(length: int, size: int) -> Iterable[tuple[int, int]]:
    return pairwise([*range(0, length, size), length])
