"""One shard: a pure function of (plan, bundle, shard number), written as `SHARD.tar` and `SHARD.json`."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import cattrs
import numpy as np
import torch
from attrs import field, frozen
from scipy.stats import binomtest

from echosdk.devices import threads
from echosdk.documents import read_json
from echosdk.errors import DatasetError, InputError, PlanError
from echosdk.generation.files import Folder
from echosdk.generation.pipeline import Pipeline, Tally, decode
from echosdk.generation.plan import Plan, Shard
from echosdk.generation.progress import Progress, Watch
from echosdk.privacy.statistics import Figure

AUDITED_PLAN = "plan.digest"
COUNTS = ("stills", "rejected_stills", "videos", "rejected_videos")


@frozen(kw_only=True)
class ShardResult:
    """What `SHARD.json` holds: the plan, the tar's digest, what made it, and one row a sample. All of it is public.

    How often the filter said no is `sealed` with the bundle's secret: where a shard holds one sample, the count would
    be that sample's number of attempts. Whoever joins the shards has the bundle, and publishes the totals.
    """

    plan: dict[str, Any]
    shard: str
    split: str
    sha256: str
    size: int
    sealed: str
    versions: dict[str, str]
    hardware: dict[str, str]
    samples: list[dict[str, Any]] = field(factory=list)
    strangers: dict[str, Any] = field(factory=dict)


def make_shard(
    pipeline: Pipeline,
    shard: Shard,
    out: Folder,
    private_audit: Path | None = None,
    watch: Watch = lambda progress: None,
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
        tally = Tally()
        rows: list[dict[str, Any]] = []
        private_rows: list[dict[str, Any]] = []
        buffer = io.BytesIO()
        with webdataset.TarWriter(buffer, encoder=False, mtime=0, user="", group="", mode=0o644) as tar:

            def say() -> None:
                kept = tally.stills - tally.rejected_stills
                watch(Progress(shard=shard.name, videos=len(rows), of=len(shard.samples), stills=kept))

            for made in pipeline.make(shard, tally, say):
                key = sample_key(made.sample)
                about = {
                    "labels": dict(made.labels),
                    "fps": plan.fps,
                    "num_frames": made.num_frames,
                    "split": shard.split,
                }
                tar.write({"__key__": key, plan.format: made.video, "json": json.dumps(about, sort_keys=True).encode()})
                rows.append({"key": key, **about})
                private_rows.append({"key": key, "attempt": made.attempt, "distance": made.distance})
                say()
        data = buffer.getvalue()
        digest = hashlib.sha256(data).hexdigest()
        counts = [getattr(tally, name) for name in COUNTS]
        result = ShardResult(
            plan=plan.public(),
            shard=shard.name,
            split=shard.split,
            sha256=digest,
            size=len(data),
            sealed=_padded(struct.pack(">4Q", *counts), pipeline.key, digest).hex(),
            versions=dict(pipeline.versions),
            hardware=dict(pipeline.hardware),
            samples=rows,
            strangers=told(pipeline.strangers),
        )
        if private_audit is not None:
            write_private_audit(private_audit, shard, pipeline, tally, private_rows)
        out.write(f"{shard.name}.tar", data)
        out.write(f"{shard.name}.json", write_result(result))
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
        raise two_plans(out, attrs.evolve(result, shard=shard.name), plan)
    return result


def two_plans(out: Folder, result: ShardResult, plan: Plan) -> PlanError:
    """Return the error that a shard is of another plan than the one that is wanted."""
    theirs = str(result.plan.get("digest"))[:12]
    return PlanError(
        f"{out.url}: holds shards of two plans: {result.shard} is of the plan {theirs}, wanted is {plan.digest[:12]} "
        f"({plan.compared(result.plan)}); choose another --out for one of them, and remove its shards from here"
    )


def read_counts(result: ShardResult, key: bytes) -> dict[str, int]:
    """Return how many stills and videos the filter was asked about and rejected, with the bundle's secret.

    Raises `DatasetError` where they contradict each other: the file was changed.
    """
    try:
        numbers = struct.unpack(">4Q", _padded(bytes.fromhex(result.sealed), key, result.sha256))
    except (ValueError, struct.error):
        numbers = (0, 1, 0, 1)
    stills, rejected_stills, videos, rejected_videos = numbers
    samples = len(result.samples)
    if (stills - rejected_stills, videos - rejected_videos) != (videos, samples):
        raise DatasetError(f"{result.shard}.json: its counts are not those that were written; run: echosdk repair")
    return {"samples": samples, **dict(zip(COUNTS, numbers, strict=True))}


def _padded(counts: bytes, key: bytes, digest: str) -> bytes:
    """Add a pad of the secret and the shard's digest; adding it twice gives the counts again."""
    pad = hmac.new(key, f"counts of {digest}".encode(), hashlib.sha256).digest()
    return bytes(a ^ b for a, b in zip(counts, pad, strict=True))


def write_result(result: ShardResult) -> bytes:
    """Return the bytes of `SHARD.json`."""
    plain = attrs.asdict(result)
    if not result.strangers:  # as in all of an earlier version
        del plain["strangers"]
    return (json.dumps(plain) + "\n").encode()


def told(strangers: Figure | None) -> dict[str, Any]:
    """Return how many patients of the test split the filter rejected, with the exact 95 % interval of their share."""
    if strangers is None or strangers.value is None:
        return {}
    return rate(round(strangers.value * strangers.n), strangers.n)


def rate(hits: int, n: int) -> dict[str, Any]:
    """Return a rate with its exact (Clopper-Pearson) 95 % interval."""
    if not n:
        return {"hits": 0, "n": 0, "rate": None, "interval_95": None}
    interval = binomtest(hits, n).proportion_ci(0.95, "exact")
    return {"hits": hits, "n": n, "rate": hits / n, "interval_95": [float(interval.low), float(interval.high)]}


def parse_result(data: bytes) -> ShardResult | None:
    """Return what a `SHARD.json` says; None where it is damaged."""
    try:
        return _CONVERTER.structure(read_json(data), ShardResult)
    except (ValueError, TypeError, OverflowError, KeyError, AttributeError, cattrs.BaseValidationError):
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
    tau = pipeline.gate.thresholds(pipeline.plan.num_frames) if pipeline.gate else None
    _private(
        folder / f"{shard.name}.json",
        json.dumps({"tau": tau, "samples": rows, "rejected": rejections}, indent=1).encode(),
    )
    if tally.rejections:
        images = io.BytesIO()
        stills = torch.stack([rejection.still for rejection in tally.rejections])
        with threads(pipeline.plan.threads):  # bits depend on them
            np.save(images, decode(pipeline.encoder, stills), allow_pickle=False)
        _private(folder / f"{shard.name}-rejected.npy", images.getvalue())


def make_private_folder(folder: Path, plan: str, finished: Sequence[str], out: str) -> None:
    """Make the folder of one plan's private audit, before any work: for its owner alone.

    Raises `InputError` where it is another plan's, cannot be written to, or lacks the audit of a finished shard.
    """
    of = folder / AUDITED_PLAN
    if of.is_file() and of.read_text().strip() != plan:
        raise InputError(f"--private-audit {folder}: holds the audit of another dataset; choose another place")
    without = [shard for shard in finished if not (folder / f"{shard}.json").is_file()]
    if without:
        raise InputError(
            f"--private-audit {folder}: has no audit of {', '.join(without)}, finished at {out} by a run without it, "
            "and it can only be written while a shard is made; leave the option out, or remove the .tar and .json of "
            f"{'that shard' if len(without) == 1 else 'those shards'} and run the same command again, which makes the "
            "same bytes"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InputError(f"--private-audit {folder}: cannot be written to: {error.strerror or error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--private-audit {folder}: cannot be written to: it is read-only")
    _private(of, f"{plan}\n".encode())


def _private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)  # the file may have been there
        file.write(data)
