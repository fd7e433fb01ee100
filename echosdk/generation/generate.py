"""The main job: resolve a plan, make its shards, join them."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from echosdk.bundle import MANIFEST as BUNDLE_MANIFEST
from echosdk.bundle import Bundle
from echosdk.clips.video import VideoFormat, check_frame_size
from echosdk.devices import check_threads, pick_device
from echosdk.errors import InputError, PlanError, PrivacyError
from echosdk.generation.dataset import JOINED, find_plan, foreign_shards, merge
from echosdk.generation.executors import Executor, Local, tell
from echosdk.generation.files import Folder
from echosdk.generation.like import mirror
from echosdk.generation.pipeline import Pipeline
from echosdk.generation.plan import Plan, parse_shards, sealed, withhold
from echosdk.generation.progress import Report, Watch, watched
from echosdk.generation.shards import ShardResult, make_private_folder, make_shard, read_result
from echosdk.plugin_set import PluginSet, resolve
from echosdk.published import last_part
from echosdk.registry import Registry
from echosdk.words import count

DEFAULT_VIDEOS = 8
SMALLEST_SHARD, LARGEST_SHARD, USUAL_SHARDS = 4, 256, 16


def _silent(line: str) -> None:
    pass


@frozen(kw_only=True)
class Options:
    """What a user may say of a generation; None leaves the choice to the bundle or the number of videos."""

    plugin_set: str = "default"
    bundle: str | None = None
    use: tuple[str, ...] = field(default=(), converter=tuple[str, ...])
    set_: tuple[str, ...] = field(default=(), converter=tuple[str, ...])
    num_videos: int | None = None
    splits: Mapping[str, int] | None = None
    num_frames: int | None = None
    labels: str | None = None
    """`uniform` or `empirical`; None is empirical with `like`, and uniform without."""
    like: str | None = None
    """A real dataset, `NAME[:LOCATION][?key=value&...]`, whose counts, mean length and labels are mirrored."""
    seed: int = 0
    shard_size: int | None = None
    micro_batch: int = 4
    max_attempts: int = 20
    threads: int = 1
    device: str = "cpu"
    """`cpu`, `cuda`, `cuda:N` or `auto`; the plan keeps only its kind."""
    dtype: str | None = None
    format: VideoFormat = "mp4"
    privacy_filter: bool = True


@frozen(kw_only=True)
class ShardTask:
    """Make one shard of a plan. A task without a pipeline can be sent to another process, which loads its own."""

    plan: Plan
    out: str
    private_audit: Path | None
    watch: Watch = tell
    bundle: str = ""
    device: str | None = None
    pipeline: Pipeline | None = None

    def __call__(self, number: int) -> ShardResult | None:
        plan = self.plan
        pipeline = self.pipeline or _pipeline(json.dumps([plan.public(), plan.private]), self.bundle, self.device)
        return make_shard(pipeline, plan.shards[number], Folder.at(self.out), self.private_audit, self.watch)


def generate(
    out: str,
    *,
    options: Options | None = None,
    shards: str | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    private_audit: Path | None = None,
    registry: Registry | None = None,
    report: Report = _silent,
    progress: bool = False,
) -> dict[str, Any] | None:
    """Generate a dataset at `out` (a path or fsspec URL) and return its manifest.

    Shards that are there are kept: the same call goes on after an interruption. Returns None where, after the wanted
    `shards` (`"A:B"`), others are still missing. Raises `PlanError` where another plan lives at `out`, and `InputError`
    where a `private_audit` is wanted of shards that were finished without one.

    Progress is a bar on stderr with `progress`, else lines to `report`.

    Shards are made in this process, or by `workers` processes that discover plugins of their own; a script that asks
    for several does so under `if __name__ == "__main__":`. An `executor` runs the tasks elsewhere: `out` and the
    bundle's folder must be there too.
    """
    options = options or Options()
    registry = registry or Registry.discover()
    plan, bundle = make_plan(options, registry, report)
    folder = Folder.at(out)
    if private_audit is not None and _inside(private_audit, folder):
        raise InputError(
            f"--private-audit {private_audit}: lies inside {out}, which is to be shared; choose another place"
        )
    _refuse_private_place(folder)
    refuse_other_plan(folder, plan)
    wanted = parse_shards(shards, len(plan.shards))
    todo = [number for number in wanted if read_result(folder, plan.shards[number], plan) is None]
    if len(todo) < len(wanted):
        there = len(wanted) - len(todo)
        report(f"{there} of {count(len(wanted), 'shard')} {'is' if there == 1 else 'are'} there already")
    if private_audit is not None:
        finished = [plan.shards[number].name for number in wanted if number not in todo]
        make_private_folder(private_audit, plan.digest, finished, out)
    run_shards(
        plan,
        out,
        todo,
        bundle,
        registry,
        device=pick_device(options.device),
        workers=workers,
        executor=executor,
        private_audit=private_audit,
        report=report,
        progress=progress,
    )
    if any(read_result(folder, shard, plan) is None for shard in plan.shards):
        return None
    return merge(folder, plan, bundle)


def make_plan(options: Options, registry: Registry, report: Report = _silent) -> tuple[Plan, Bundle]:
    """Resolve everything that decides the dataset's bytes. Raises before any work where something does not fit."""
    asked = PluginSet.find(options.plugin_set, registry)
    name = options.bundle or asked.bundle
    if name is None:
        installed = ", ".join(registry.names("bundle")) or "none"
        raise InputError(f"{asked.where} names no bundle; say --bundle NAME, PATH or URL (installed: {installed})")
    bundle = Bundle.open(name, registry)
    plugin_set = resolve(
        registry, asked, use=options.use, set_=options.set_, bundle=bundle.plugin_set, trained=bundle.manifest.stages
    )
    plugin_set.build_all(registry)
    sampling = bundle.manifest.sampling
    labels = options.labels or ("uniform" if options.like is None else "empirical")
    if labels == "empirical" and options.like is None:
        raise InputError("--labels empirical: of which real dataset? Say --like SOURCE")
    mirrored = None if options.like is None else mirror(options.like, bundle, registry, report)
    videos = DEFAULT_VIDEOS if options.num_videos is None else options.num_videos
    counts = dict({"train": videos} if options.splits is None else options.splits)
    if mirrored is not None and options.splits is None and options.num_videos is None:
        counts = dict(mirrored.counts)
    num_frames = sampling.get("num_frames", 64) if options.num_frames is None else options.num_frames
    if mirrored is not None and options.num_frames is None:
        num_frames = mirrored.mean_length(report)
    total = sum(counts.values())
    if options.splits is not None and options.num_videos not in (None, total):
        raise InputError(f"--num-videos {options.num_videos}: --splits adds up to {total}; say one of them")
    if total < 1:
        raise InputError("no videos are asked for; --num-videos wants at least 1")
    height, width, *_ = bundle.manifest.frame_shape
    check_frame_size(options.format, height, width)
    if bundle.stripped and options.privacy_filter:
        raise PrivacyError(
            f"bundle {bundle.where} was stripped of what the privacy filter needs, so nothing is generated from it; "
            "use the whole bundle, or say --no-privacy-filter, which is written on everything that comes out"
        )
    check_threads(options.threads)
    key = b"" if bundle.stripped else bundle.noise_key
    try:
        plan = Plan(
            **withhold(plugin_set.to_plain(), key),
            bundle=name if name in registry.names("bundle") else last_part(name) or "bundle",
            bundle_digest=bundle.digest,
            counts=counts,
            num_frames=num_frames,
            fps=bundle.manifest.fps,
            labels=labels,
            label_bins=mirrored.label_bins(report) if mirrored is not None and labels == "empirical" else (),
            seed=options.seed,
            shard_size=_shard_size(total) if options.shard_size is None else options.shard_size,
            micro_batch=options.micro_batch,
            max_attempts=options.max_attempts,
            threads=options.threads,
            device=pick_device(options.device).partition(":")[0],
            dtype=options.dtype or sampling.get("dtype", "float32"),
            format=options.format,
            privacy_filter=options.privacy_filter,
        )
    except (ValueError, TypeError) as error:
        raise InputError(str(error.args[0] if error.args else error)) from error
    private = "" if bundle.stripped else bundle.private_digest
    return sealed(plan, key, private), bundle


def refuse_other_plan(folder: Folder, plan: Plan) -> None:
    """Raise `PlanError` where shards or a manifest of another plan lie here."""
    there = find_plan(folder)
    if there is None or there.digest == plan.digest:
        others = foreign_shards(folder, plan) | ({*folder.names()} & {*JOINED} if there is None else set())
        if others:
            raise PlanError(f"{folder.url}: holds {min(others)}, which is none of this plan's; choose another --out")
        return
    raise PlanError(
        f"{folder.url}: holds a dataset of another plan ({plan.compared(there.public())}); "
        "choose another --out, or remove what is there"
    )


def run_shards(
    plan: Plan,
    out: str,
    numbers: Sequence[int],
    bundle: Bundle,
    registry: Registry,
    *,
    device: str | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    private_audit: Path | None = None,
    report: Report = _silent,
    progress: bool = False,
) -> None:
    """Make shards: in this process, in several, or where an executor does. `device` says which of the plan's kind."""
    if workers is not None and executor is not None:
        raise InputError(f"workers {workers}: the executor has its own; say one of them")
    if not numbers:
        return
    workers = workers or 1
    if workers > 1 and out.startswith("memory:"):
        raise InputError(f"--workers {workers}: {out} lies in the memory of one process; use one worker")
    workers = min(workers, len(numbers))
    here = executor is None and workers == 1
    task = ShardTask(plan=plan, out=out, private_audit=private_audit, bundle=str(bundle.folder), device=device)
    if here:
        task = attrs.evolve(task, pipeline=Pipeline.load(plan, bundle, registry, device))
    videos = sum(len(plan.shards[number].samples) for number in numbers)
    with watched(videos, report, progress) as (watch, say):
        if here:
            task = attrs.evolve(task, watch=watch)
        results = (executor or Local(workers, watch)).run(task, numbers)
        try:
            for done, result in enumerate(results, start=1):
                if result is None:
                    say("a shard is being made by another process; it is left to that")
                elif not here:
                    made = count(len(result.samples), "video")
                    say(f"{result.shard}: finished, {made}; {done} of {count(len(numbers), 'shard')}")
        finally:
            if isinstance(results, Generator):  # ends the workers, whatever happened here
                results.close()


@lru_cache(maxsize=1)
def _pipeline(plan: str, bundle: str, device: str | None) -> Pipeline:
    """Load a worker's pipeline once; the plan's public and private part as JSON, the bundle's folder."""
    public, private = json.loads(plan)
    whole = attrs.evolve(Plan.of_public(public), private=private)
    return Pipeline.load(whole, Bundle.open(bundle), Registry.discover(), device)


def _shard_size(total: int) -> int:
    return min(LARGEST_SHARD, max(SMALLEST_SHARD, total // USUAL_SHARDS))


def _refuse_private_place(folder: Folder) -> None:
    """Raise where a dataset, which is to be shared, would lie in a bundle or in the `OUT.work` folder of a training."""
    place = folder.local_path
    for above in () if place is None else (place, *place.parents):
        caches = above.suffix == ".work" and any((above / kind).is_dir() for kind in ("pixels", "latents", "stages"))
        if caches or (above / BUNDLE_MANIFEST).is_file():
            raise InputError(f"{folder.url}: lies in {above}, which holds private data; choose another --out")


def _inside(path: Path, folder: Folder) -> bool:
    return folder.local_path is not None and path.resolve().is_relative_to(folder.local_path)
