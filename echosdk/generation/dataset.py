"""A dataset on disk: joining its shards, checking it, and opening it for training."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cattrs
import numpy as np
from attrs import frozen

from echosdk.bundle import Bundle
from echosdk.documents import read_json
from echosdk.errors import DatasetError
from echosdk.generation.card import render_card
from echosdk.generation.files import Folder
from echosdk.generation.made_with import joined
from echosdk.generation.pipeline import noise_key
from echosdk.generation.plan import Plan, first_reason
from echosdk.generation.reading import frames_in, read_samples, shard_samples
from echosdk.generation.shards import (
    COUNTS,
    ShardResult,
    parse_result,
    rate,
    read_counts,
    read_result,
    write_result,
)
from echosdk.interfaces import SPLITS, Category, Label
from echosdk.words import count

if TYPE_CHECKING:
    import webdataset

SCHEMA_VERSION = 1
MANIFEST = "dataset.json"
JOINED = (MANIFEST, "index.csv", "README.md", "preview.html")
"""What `merge` writes."""
HISTOGRAM_BINS = 14
NO_FILTER = (
    "WARNING: generated without a privacy filter (--no-privacy-filter): no sample was compared with any patient."
)


@frozen(kw_only=True)
class Problem:
    """What is wrong with one shard or file of a dataset."""

    name: str
    message: str


@frozen(kw_only=True)
class _Entry:
    shard: str
    split: str
    sha256: str
    size: int
    samples: int
    description: str


@frozen(kw_only=True)
class _Read:
    """What is read again of `dataset.json`; the rest of it is for people."""

    plan: Mapping[str, Any]
    counts: Mapping[str, int]
    shards: tuple[_Entry, ...]
    files: Mapping[str, str]


def read_manifest(out: Folder) -> dict[str, Any]:
    """Read `dataset.json`, checked: it has a plan, and lists the plan's shards."""
    if MANIFEST not in out.names():
        raise DatasetError(
            f"{out.url}: no dataset here: {MANIFEST} is missing; if shards are, run: echosdk merge {out.url}"
        )
    try:
        manifest: dict[str, Any] = read_json(out.read(MANIFEST))
        if not isinstance(manifest, dict):
            raise ValueError("holds no table")
        if manifest.get("schema") != SCHEMA_VERSION:
            raise DatasetError(
                f"{out.url}/{MANIFEST}: schema {manifest.get('schema')!r}; this version reads {SCHEMA_VERSION}"
            )
        read = cattrs.structure(manifest, _Read)
        plan = Plan.of_public(manifest["plan"])
        if [entry.shard for entry in read.shards] != [shard.name for shard in plan.shards]:
            raise ValueError("lists other shards than its plan has")
        if "samples" not in read.counts:
            raise ValueError("counts no samples")
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, cattrs.BaseValidationError) as error:
        raise DatasetError(
            f"{out.url}/{MANIFEST}: damaged: {first_reason(error)}; remove it and run: echosdk merge {out.url}"
        ) from error
    return manifest


def dataset_around(path: Path) -> Path | None:
    """Return the dataset on this machine in which a path lies, or which it is; None where there is none."""
    place = path.resolve()
    return next((folder for folder in (place, *place.parents) if _is_dataset(folder)), None)


def _is_dataset(folder: Path) -> bool:
    with suppress(OSError, ValueError):  # others call files so, too
        return {"plan", "shards"} <= {*json.loads((folder / MANIFEST).read_text())}
    return False


def read_plan(out: Folder) -> Plan:
    """Return the plan of a dataset, or of the shards of one that is not joined yet."""
    return read_plans(out)[0]


def read_plans(out: Folder) -> list[Plan]:
    """Return the plan of a dataset, or every one that shards which are not joined yet say they are of."""
    plans: dict[str, Plan] = {}
    for plan in _plans(out):
        plans.setdefault(json.dumps(plan.public()), plan)
    if not plans:
        raise DatasetError(f"{out.url}: no dataset here: neither {MANIFEST} nor a finished shard")
    return list(plans.values())


def find_plan(out: Folder) -> Plan | None:
    """Return the plan that `dataset.json` or any finished shard was made from; None where there is neither."""
    return next(_plans(out), None)


def _plans(out: Folder) -> Iterator[Plan]:
    names = out.names()
    if MANIFEST in names:
        yield Plan.of_public(read_manifest(out)["plan"])
        return
    for name in names:
        if name.endswith(".json") and f"{name.removesuffix('.json')}.tar" in names:
            result = parse_result(out.read(name))
            if result is not None:
                try:
                    plan = Plan.of_public(result.plan)
                except ValueError:  # damaged: the next one will do
                    continue
                yield plan


def merge(out: Folder, plan: Plan, bundle: Bundle) -> dict[str, Any]:
    """Write `dataset.json`, `index.csv`, the card and the preview, once all shards are there.

    Raises `PlanError` where one of them was made from another plan, `DatasetError` where one is damaged.
    """
    from echosdk.report.preview import render_preview

    results = [read_result(out, shard, plan) for shard in plan.shards]
    missing = [shard.name for shard, result in zip(plan.shards, results, strict=True) if result is None]
    if missing:
        are = f"{count(len(results), 'shard')} {'is' if len(missing) == 1 else 'are'}"
        raise DatasetError(
            f"{out.url}: {len(missing)} of {are} missing, {missing[0]} first; run generate again, or: "
            f"echosdk repair {out.url}"
        )
    for problem in check_shards(out, plan, noise_key(bundle, plan)):
        raise DatasetError(f"{out.url}/{problem.name}: {problem.message}; run: echosdk repair {out.url}")
    done = [result for result in results if result is not None]
    manifest = describe(plan, bundle, done)
    rows = [row for result in done for row in result.samples]
    preview = render_preview(manifest, rows, lambda key: read_video_bytes(out, done, key, plan.format))
    files = {
        "index.csv": _index(done, plan.format),
        "README.md": render_card(manifest).encode(),
        "preview.html": preview.encode(),
    }
    manifest |= {"files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}}
    files |= {MANIFEST: (json.dumps(manifest, indent=2) + "\n").encode()}
    with out.lock("dataset") as mine:  # another process that joins writes the same bytes
        if mine:
            for name, data in files.items():
                out.write(name, data)
            out.sweep()
    return manifest


def describe(plan: Plan, bundle: Bundle, results: Sequence[ShardResult]) -> dict[str, Any]:
    """Return the public manifest."""
    key = noise_key(bundle, plan)
    counts = dict.fromkeys(("samples", *COUNTS), 0)
    for result in results:
        for name, number in read_counts(result, key).items():
            counts[name] += number
    rejected = {
        what: rate(counts[f"rejected_{what}"], counts[what] if plan.privacy_filter else 0)
        for what in ("stills", "videos")
    }
    if counts["samples"] == 1:  # a total of one sample is its number of attempts: private
        counts, rejected = {"samples": 1}, {}
    samples = [row for result in results for row in result.samples]
    manifest: dict[str, Any] = {} if plan.privacy_filter else {"warning": NO_FILTER}
    strangers = {"strangers": results[0].strangers} if results[0].strangers else {}
    return manifest | {
        "schema": SCHEMA_VERSION,
        "what": "Synthetic videos made by echosdk. Evidence for your own assessment, not a certificate.",
        "plan": plan.public(),
        "counts": counts,
        "rejected": rejected,
        **strangers,
        "labels": [
            _label_statistics(label, [row["labels"][label.name] for row in samples]) for label in bundle.manifest.labels
        ],
        "trained_on": _without_fingerprints(bundle.manifest.data),
        "shards": [_entry(result) for result in results],
        "versions": joined(result.versions for result in results),
        "hardware": joined(result.hardware for result in results),
    }


def _without_fingerprints(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a bundle says of its data, and of every source besides, without what depends on real files."""
    kept = {key: value for key, value in data.items() if key != "fingerprint"}
    return {key: _without_fingerprints(value) if isinstance(value, Mapping) else value for key, value in kept.items()}


def _entry(result: ShardResult) -> dict[str, Any]:
    return {
        "shard": result.shard,
        "split": result.split,
        "sha256": result.sha256,
        "size": result.size,
        "samples": len(result.samples),
        "description": hashlib.sha256(write_result(result)).hexdigest(),
    }


def verify(out: Folder) -> list[Problem]:
    """Check every shard's digest and count and the list of samples; returns what is wrong."""
    manifest = read_manifest(out)
    names = set(out.names())
    problems = []
    for entry in manifest["shards"]:
        name = f"{entry['shard']}.tar"
        if name not in names:
            problems.append(Problem(name=name, message="missing"))
            continue
        data = out.read(name)
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            problems.append(Problem(name=name, message="its bytes are not those that were written"))
            continue
        samples = sum(1 for _ in read_samples(data))
        if samples != entry["samples"]:
            problems.append(Problem(name=name, message=f"holds {samples} samples, not {entry['samples']}"))
    plan = Plan.of_public(manifest["plan"])
    for shard, entry in zip(plan.shards, manifest["shards"], strict=True):
        name = f"{shard.name}.json"
        if name not in names:
            problems.append(Problem(name=name, message="missing"))
            continue
        data = out.read(name)
        result = parse_result(data)
        if result is not None and result.plan != plan.public():
            message = f"was made from another plan ({plan.compared(result.plan)}); run: echosdk repair"
            problems.append(Problem(name=name, message=message))
        elif result is None or _entry(result) != entry or write_result(result) != data:
            problems.append(Problem(name=name, message="does not say what the manifest says"))
    known = {f"{entry['shard']}.tar" for entry in manifest["shards"]}
    others = {name for name in names - known if name.endswith(".tar")} | foreign_shards(out, plan)
    problems += [Problem(name=name, message="is not part of this dataset") for name in sorted(others)]
    for name in JOINED[1:]:
        if name not in names:
            problems.append(Problem(name=name, message="missing; run: echosdk merge"))
    if "index.csv" in names:
        lines = len(out.read("index.csv").decode(errors="replace").strip().splitlines()) - 1
        if lines != manifest["counts"]["samples"]:
            problems.append(
                Problem(name="index.csv", message=f"lists {lines} samples, not {manifest['counts']['samples']}")
            )
            names.discard("index.csv")
    for name, written in manifest["files"].items():
        if name in names and hashlib.sha256(out.read(name)).hexdigest() != written:
            problems.append(Problem(name=name, message="its bytes are not those that were written; run: echosdk merge"))
    return problems


def check_shards(out: Folder, plan: Plan, key: bytes) -> Iterator[Problem]:
    """Yield what is wrong with the shards of a plan: what each says of itself is compared with it."""
    names = set(out.names())
    for shard in plan.shards:
        tar, description = f"{shard.name}.tar", f"{shard.name}.json"
        if not {tar, description} <= names:
            yield Problem(name=description if tar in names else tar, message="missing")
            continue
        result = parse_result(out.read(description))
        if result is None or result.plan != plan.public():
            yield Problem(name=description, message="damaged, or of another plan")
            continue
        data = out.read(tar)
        if hashlib.sha256(data).hexdigest() != result.sha256:
            yield Problem(name=tar, message=f"its bytes are not those that {description} says")
            continue
        try:
            read_counts(result, key)
            held = [{"key": one["__key__"], **json.loads(one["json"])} for one in read_samples(data)]
        except (DatasetError, tarfile.TarError, ValueError, KeyError, TypeError):
            held = []
        if (result.shard, result.split, result.samples) != (shard.name, shard.split, held):
            yield Problem(name=description, message=f"does not say what was written with {tar}")


def foreign_shards(out: Folder, plan: Plan) -> set[str]:
    """Return the files here that are named as shards are, and are none of this plan."""
    own = {shard.name for shard in plan.shards}
    named = (name for name in out.names() if re.fullmatch(rf"({'|'.join(SPLITS)})-\d{{6}}\.(tar|json)", name))
    return {name for name in named if name.rpartition(".")[0] not in own}


def read_video_bytes(out: Folder, results: Sequence[ShardResult], key: str, extension: str) -> bytes:
    """Return one sample's video file."""
    result = next(result for result in results if any(row["key"] == key for row in result.samples))
    name = f"{result.shard}.tar"
    try:
        sample = next(sample for sample in read_samples(out.read(name)) if sample["__key__"] == key)
        return bytes(sample[extension])
    except (tarfile.TarError, StopIteration, KeyError) as error:
        raise DatasetError(f"{out.url}/{name}: damaged; run: echosdk repair {out.url}") from error


def open_dataset(out: str, split: str | None = None, shuffle: int = 0) -> webdataset.WebDataset:
    """Open a generated dataset as a WebDataset pipeline of dicts.

    Each has `key`, `video` (float32 `t k H W` in [-1, 1]), `labels`, `fps` and `split`. `shuffle` is the size of the
    shuffle buffer; 0 keeps the order.
    """
    import webdataset

    manifest = read_manifest(Folder.at(out))
    extension = manifest["plan"]["format"]
    entries = {f"{out.rstrip('/')}/{e['shard']}.tar": e for e in manifest["shards"] if split in (None, e["split"])}
    if not entries:
        raise DatasetError(f"{out}: has no samples of the split {split!r}")

    pipeline = webdataset.DataPipeline(
        webdataset.SimpleShardList([*entries]),
        webdataset.split_by_node,
        webdataset.split_by_worker,
        partial(_opened, entries),
    )
    if shuffle:
        pipeline = pipeline.compose(webdataset.shuffle(shuffle))
    return pipeline.compose(webdataset.map(partial(_decoded, extension)))


def _opened(entries: Mapping[str, Any], shards: Any) -> Iterator[dict[str, Any]]:
    for shard in shards:
        yield from shard_samples(Folder.at(shard["url"].rpartition("/")[0]), entries[shard["url"]])


def _decoded(extension: str, sample: Mapping[str, bytes]) -> dict[str, Any]:
    from echosdk.clips.images import to_images

    return {"key": sample["__key__"], "video": to_images(frames_in(sample, extension)), **json.loads(sample["json"])}


def _index(results: Sequence[ShardResult], extension: str) -> bytes:
    text = io.StringIO()
    names = list(results[0].samples[0]["labels"]) if results and results[0].samples else []
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["key", "split", "shard", "file", "num_frames", "fps", *names])
    for result in results:
        for row in result.samples:
            labels = [row["labels"][name] for name in names]
            file = f"{row['key']}.{extension}"
            writer.writerow(
                [row["key"], row["split"], f"{result.shard}.tar", file, row["num_frames"], row["fps"], *labels]
            )
    return text.getvalue().encode()


def _label_statistics(label: Label | Category, values: Sequence[Any]) -> dict[str, Any]:
    if isinstance(label, Category):
        return {"name": label.name, "values": {value: values.count(value) for value in label.values}}
    numbers = np.array(values, float)
    counts, edges = np.histogram(numbers, HISTOGRAM_BINS, (label.low, label.high))
    return {
        "name": label.name,
        "unit": label.unit,
        "low": label.low,
        "high": label.high,
        "mean": float(numbers.mean()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }
