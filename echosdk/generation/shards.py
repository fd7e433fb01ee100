"""One shard: a pure function of (plan, bundle, shard number), written as `SHARD.tar` and `SHARD.json`."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import cattrs
import numpy as np
import torch
from attrs import field, frozen

from echosdk.clips.video import encode_video
from echosdk.errors import InputError, PlanError
from echosdk.generation.files import Folder
from echosdk.generation.pipeline import Pipeline, Tally, decode
from echosdk.generation.plan import Plan, Shard


@frozen(kw_only=True)
class ShardResult:
    """What `SHARD.json` holds: the plan, the tar's digest, counts, and one row a sample. All of it is public."""

    plan: dict[str, Any]
    shard: str
    split: str
    sha256: str
    size: int
    counts: dict[str, int]
    samples: list[dict[str, Any]] = field(factory=list)


def make_shard(
    pipeline: Pipeline,
    shard: Shard,
    out: Folder,
    private_audit: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> ShardResult | None:
    """Make a shard and write it; returns None where another process is making it."""
    import webdataset

    plan = pipeline.plan
    with out.lock(shard.name) as mine:
        if not mine:
            return None
        there = read_result(out, shard, plan)
        if there is not None:
            return there  # another process has just made it
        tally, rows, private_rows = Tally(), [], []
        buffer = io.BytesIO()
        with webdataset.TarWriter(buffer, encoder=False, mtime=0, user="", group="", mode=0o644) as tar:
            for made in pipeline.make(shard, tally):
                key = sample_key(made.sample)
                about = {
                    "labels": dict(made.labels),
                    "fps": plan.fps,
                    "num_frames": len(made.frames),
                    "split": shard.split,
                }
                video = encode_video(made.frames, plan.fps, plan.format)
                tar.write({"__key__": key, plan.format: video, "json": json.dumps(about, sort_keys=True).encode()})
                rows.append({"key": key, **about})
                private_rows.append({"key": key, "attempt": made.attempt, "distance": made.distance})
                report(f"{shard.name}: {len(rows)} of {len(shard.samples)} videos")
        data = buffer.getvalue()
        counts = {
            "samples": len(rows),
            "stills": tally.stills,
            "rejected_stills": tally.rejected_stills,
            "videos": tally.videos,
            "rejected_videos": tally.rejected_videos,
        }
        result = ShardResult(
            plan=plan.public(),
            shard=shard.name,
            split=shard.split,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            counts=counts,
            samples=rows,
        )
        if private_audit is not None:
            write_private_audit(private_audit, shard, pipeline, tally, private_rows)
        out.write(f"{shard.name}.tar", data)
        out.write(f"{shard.name}.json", (json.dumps(attrs.asdict(result)) + "\n").encode())
        return result


def read_result(out: Folder, shard: Shard, plan: Plan) -> ShardResult | None:
    """Return what is known of a finished shard of the plan; None where it is not finished.

    Raises `PlanError` where it was made from another plan: shards of two plans are never joined.
    """
    names = out.names()
    if f"{shard.name}.json" not in names or f"{shard.name}.tar" not in names:
        return None
    result = parse_result(out.read(f"{shard.name}.json"))
    if result is not None and result.plan != plan.public():
        theirs = str(result.plan.get("digest"))[:12]
        raise PlanError(
            f"{out.url}: holds shards of two plans: {shard.name} is of the plan {theirs}, wanted is {plan.digest[:12]} "
            f"({plan.compared(result.plan)}); choose another --out for one of them, and remove its shards from here"
        )
    return result


def parse_result(data: bytes) -> ShardResult | None:
    """Return what a `SHARD.json` says; None where it is damaged."""
    try:
        return _CONVERTER.structure(json.loads(data), ShardResult)
    except (ValueError, TypeError, KeyError, AttributeError, cattrs.BaseValidationError):
        return None


_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


def sample_key(sample: int) -> str:
    """Return the WebDataset `__key__` of a sample number."""
    return f"synthetic-{sample:08d}"


def write_private_audit(
    folder: Path, shard: Shard, pipeline: Pipeline, tally: Tally, rows: list[dict[str, Any]]
) -> None:
    """Write what would undo the gate if it were public: tau, attempts, distances, rejected images. Mode 0600."""
    rejections = [attrs.asdict(r, filter=attrs.filters.exclude("still")) for r in tally.rejections]
    tau = pipeline.gate.thresholds if pipeline.gate else None
    _private(
        folder / f"{shard.name}.json",
        json.dumps({"tau": tau, "samples": rows, "rejected": rejections}, indent=1).encode(),
    )
    if tally.rejections:
        images = io.BytesIO()
        stills = torch.stack([rejection.still for rejection in tally.rejections])
        np.save(images, decode(pipeline.encoder, stills), allow_pickle=False)
        _private(folder / f"{shard.name}-rejected.npy", images.getvalue())


def make_private_folder(folder: Path) -> None:
    """Make the folder of the private audit, before any work: for its owner alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InputError(f"--private-audit {folder}: cannot be written to: {error.strerror or error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--private-audit {folder}: cannot be written to: it is read-only")


def _private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)  # the file may have been there
        file.write(data)


