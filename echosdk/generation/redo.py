"""Do again what a manifest says: to compare the bytes, to join, to repair."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from attrs import frozen

from echosdk.bundle import Bundle
from echosdk.errors import DatasetError, InputError, PlanError
from echosdk.generation.dataset import foreign_shards, merge, read_plan, verify
from echosdk.generation.files import Folder
from echosdk.generation.generate import run_shards
from echosdk.generation.pipeline import Pipeline, noise_key
from echosdk.generation.plan import Plan, parse_shards, sealed
from echosdk.generation.shards import make_shard, read_result
from echosdk.registry import Registry

Report = Callable[[str], None]


@frozen(kw_only=True)
class Reproduced:
    """Whether one shard came out with the same bytes."""

    shard: str
    same: bool


def plan_with_bundle(out: Folder, bundle_name: str | None, registry: Registry) -> tuple[Plan, Bundle]:
    """Read a dataset's plan and open the bundle it was made from; another bundle is refused."""
    plan = read_plan(out)
    if bundle_name is None and plan.bundle not in registry.names("bundle"):
        raise InputError(f"{out.url}: was made from a bundle called {plan.bundle!r}; say where it lies: --bundle PATH")
    bundle = Bundle.open(bundle_name or plan.bundle, registry)
    private = "" if bundle.stripped else bundle.private_digest
    if bundle.digest != plan.bundle_digest or sealed(plan, noise_key(bundle, plan), private).digest != plan.digest:
        raise PlanError(
            f"{out.url}: was not made from the bundle {bundle.where} as it is now; name the right one with --bundle"
        )
    return plan, bundle


def reproduce(
    out: Folder,
    *,
    shards: str | None = None,
    bundle: str | None = None,
    registry: Registry | None = None,
    report: Report,
) -> list[Reproduced]:
    """Generate shards again, in memory, and compare their digests with those on disk."""
    registry = registry or Registry.discover()
    plan, opened = plan_with_bundle(out, bundle, registry)
    pipeline = Pipeline.load(plan, opened, registry)
    scratch = Folder.at(f"memory://echosdk-reproduce/{plan.digest}")
    results = []
    for number in parse_shards(shards, len(plan.shards)):
        shard = plan.shards[number]
        again = make_shard(pipeline, shard, scratch, None, report)
        scratch.delete(f"{shard.name}.tar")
        scratch.delete(f"{shard.name}.json")
        assert again is not None
        name = f"{shard.name}.tar"
        same = name in out.names() and hashlib.sha256(out.read(name)).hexdigest() == again.sha256
        results.append(Reproduced(shard=shard.name, same=same))
    return results


def repair(
    out: Folder,
    *,
    bundle: str | None = None,
    registry: Registry | None = None,
    workers: int | None = None,
    report: Report,
) -> list[str]:
    """Generate again the shards that are damaged or missing, remove those of another plan, and join.

    Returns the names of the shards that were made.
    """
    registry = registry or Registry.discover()
    plan, opened = plan_with_bundle(out, bundle, registry)
    bad = {problem.name for problem in verify(out)}
    own = {f"{shard.name}.tar" for shard in plan.shards} | foreign_shards(out, plan)
    strange = sorted(name for name in bad if name.endswith(".tar") and name not in own)
    if strange:
        raise DatasetError(
            f"{out.url}/{strange[0]}: is not part of this dataset, and not named as its shards are; move it elsewhere, "
            f"then run: echosdk repair {out.url}"
        )
    redo = [
        shard
        for shard in plan.shards
        if {f"{shard.name}.tar", f"{shard.name}.json"} & bad or read_result(out, shard, plan) is None
    ]
    for name in bad & foreign_shards(out, plan):
        report(f"{name}: is not part of this dataset; removed")
        out.delete(name)
    for shard in redo:
        for name in (f"{shard.name}.json", f"{shard.name}.tar"):
            if name in out.names():
                out.delete(name)
    run_shards(plan, out.url, [shard.number for shard in redo], opened, registry, workers=workers, report=report)
    merge(out, plan, opened)
    return [shard.name for shard in redo]


def merge_again(out: Folder, *, bundle: str | None = None, registry: Registry | None = None) -> dict[str, Any]:
    """Join a dataset's finished shards."""
    registry = registry or Registry.discover()
    plan, opened = plan_with_bundle(out, bundle, registry)
    return merge(out, plan, opened)
