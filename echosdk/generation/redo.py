"""Do again what a manifest says: to compare the bytes, to join, to repair."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from attrs import frozen

from echosdk.bundle import Bundle
from echosdk.errors import DatasetError, InputError, PlanError
from echosdk.generation.dataset import MANIFEST, check_shards, foreign_shards, merge, read_plans, verify
from echosdk.generation.files import Folder
from echosdk.generation.generate import run_shards
from echosdk.generation.pipeline import Pipeline, noise_key
from echosdk.generation.plan import Plan, parse_shards, sealed, with_private
from echosdk.generation.progress import Report
from echosdk.generation.shards import make_shard, parse_result, read_result, two_plans
from echosdk.plugin_set import assign, option_value, split_options
from echosdk.registry import Registry


@frozen(kw_only=True)
class Reproduced:
    """Whether one shard came out with the same bytes."""

    shard: str
    same: bool


def plan_with_bundle(
    out: Folder, bundle_name: str | None, registry: Registry, set_: Sequence[str] = ()
) -> tuple[Plan, Bundle]:
    """Read a dataset's plan and open the bundle it was made from; another bundle is refused.

    `set_` says again what the plan does not tell, `KIND.KEY=VALUE`. Of shards that are not joined yet, one that was
    changed has no plan of this bundle: the first that has decides.
    """
    plans = read_plans(out)
    name = bundle_name or next((plan.bundle for plan in plans if plan.bundle in registry.names("bundle")), None)
    if name is None:
        raise InputError(
            f"{out.url}: was made from a bundle called {plans[0].bundle!r}; say where it lies: --bundle PATH"
        )
    bundle = Bundle.open(name, registry)
    for plan in plans:
        if _is_of(plan, bundle):
            return with_private(plan, _said_again(plan, set_), noise_key(bundle, plan)), bundle
    raise PlanError(
        f"{out.url}: was not made from the bundle {bundle.where} as it is now; name the right one with --bundle"
    )


def _is_of(plan: Plan, bundle: Bundle) -> bool:
    private = "" if bundle.stripped else bundle.private_digest
    return bundle.digest == plan.bundle_digest and sealed(plan, noise_key(bundle, plan), private).digest == plan.digest


def _said_again(plan: Plan, set_: Sequence[str]) -> dict[str, Any]:
    """Return the values of parameters that a plan does not tell, by name."""
    values: dict[str, dict[str, Any]] = {}
    names: set[str] = set()
    for key, value in split_options(set_, "--set", "KIND.KEY=VALUE"):
        kind, _, path = key.partition(".")
        name = f"{kind}.{path.partition('.')[0]}"
        if name not in plan.withheld:
            told = f"only {', '.join(plan.withheld)} can be said again" if plan.withheld else "it tells all of them"
            raise InputError(f"--set {key}: a dataset is made again with its own values, and {told}")
        assign(values.setdefault(kind, dict(plan.plugin_set[kind])), path, option_value(value, f"--set {key}"), key)
        names.add(name)
    return {name: values[name.partition(".")[0]][name.partition(".")[2]] for name in names}


def reproduce(
    out: Folder,
    *,
    shards: str | None = None,
    bundle: str | None = None,
    set_: Sequence[str] = (),
    registry: Registry | None = None,
    report: Report,
) -> list[Reproduced]:
    """Generate shards again, in memory, and compare their digests with those on disk."""
    registry = registry or Registry.discover()
    plan, opened = plan_with_bundle(out, bundle, registry, set_)
    pipeline = Pipeline.load(plan, opened, registry)
    scratch = Folder.at(f"memory://echosdk-reproduce/{plan.digest}")
    results = []
    for number in parse_shards(shards, len(plan.shards)):
        shard = plan.shards[number]
        again = make_shard(pipeline, shard, scratch, None, lambda progress: report(str(progress)))
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
    set_: Sequence[str] = (),
    registry: Registry | None = None,
    workers: int | None = None,
    report: Report,
    progress: bool = False,
) -> list[str]:
    """Generate again the shards that are damaged or missing, remove those of another plan, and join.

    Of shards that are not joined, one whose description was changed is damaged too. Returns the names of the shards
    that were made.
    """
    registry = registry or Registry.discover()
    plan, opened = plan_with_bundle(out, bundle, registry, set_)
    if MANIFEST in out.names():
        bad = {problem.name for problem in verify(out)}
    else:
        bad = {problem.name for problem in check_shards(out, plan, noise_key(opened, plan))}
        for name in sorted(bad & {f"{shard.name}.json" for shard in plan.shards}):
            there = parse_result(out.read(name)) if name in out.names() else None
            with suppress(ValueError):  # what is no plan was changed
                if there is not None and there.plan != plan.public() and _is_of(Plan.of_public(there.plan), opened):
                    raise two_plans(out, there, plan)
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
    if redo:
        plan.whole_plugin_set()  # raises before anything is removed
    for name in bad & foreign_shards(out, plan):
        report(f"{name}: is not part of this dataset; removed")
        out.delete(name)
    for shard in redo:
        for name in (f"{shard.name}.json", f"{shard.name}.tar"):
            if name in out.names():
                out.delete(name)
    numbers = [shard.number for shard in redo]
    run_shards(plan, out.url, numbers, opened, registry, workers=workers, report=report, progress=progress)
    merge(out, plan, opened)
    return [shard.name for shard in redo]


def merge_again(out: Folder, *, bundle: str | None = None, registry: Registry | None = None) -> dict[str, Any]:
    """Join a dataset's finished shards."""
    registry = registry or Registry.discover()
    plan, opened = plan_with_bundle(out, bundle, registry)
    return merge(out, plan, opened)
