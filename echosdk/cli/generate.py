"""`echosdk generate`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from echosdk.cli import options

if TYPE_CHECKING:
    from echosdk.clips.video import VideoFormat


@click.command("generate")
@options.components
@click.option("--bundle", metavar="NAME|PATH|URL", help="Trained state; default: the one the plugin set names.")
@click.option("--out", required=True, metavar="PATH|URL", help="Where the dataset goes.")
@click.option("--num-videos", type=click.IntRange(1), help="How many videos [default: 8].")
@click.option("--splits", metavar="train=N,val=N,test=N", help="How many videos of each split [default: all train].")
@click.option("--frames", type=click.IntRange(1), help="Length of every video [default: the bundle's].")
@click.option(
    "--like", metavar="SOURCE", help="Mirror a real dataset: its videos per split, their mean length, its labels."
)
@click.option(
    "--labels", type=click.Choice(["uniform", "empirical"]), help="[default: empirical with --like, else uniform]"
)
@click.option("--seed", default=0, show_default=True)
@click.option("--shard-size", type=click.IntRange(1), help="Videos a shard [default: a sixteenth, 4 to 256].")
@click.option("--micro-batch", type=click.IntRange(1), default=4, show_default=True, help="Videos made at once.")
@click.option("--max-attempts", type=click.IntRange(1), default=20, show_default=True, help="Draws before giving up.")
@click.option("--format", "format_", type=click.Choice(["mp4", "avi", "mkv", "npy"]), default="mp4", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="[default: the bundle's]")
@click.option("--executor", type=click.Choice(["local"]), default="local", show_default=True)
@click.option("--workers", type=click.IntRange(1), help="Processes [default: one a CPU core]; changes no byte.")
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads a task; part of the plan."
)
@click.option("--shards", metavar="A:B", help="Make only these shards, for array jobs.")
@click.option(
    "--no-privacy-filter", is_flag=True, help="Compare nothing with any patient; written on all that comes out."
)
@click.option(
    "--private-audit", type=click.Path(path_type=Path, file_okay=False), help="Folder for tau, distances, rejects."
)
@options.device
@options.as_json
def command(
    plugin_set_name: str,
    use: tuple[str, ...],
    set_: tuple[str, ...],
    bundle: str | None,
    out: str,
    num_videos: int | None,
    splits: str | None,
    frames: int | None,
    like: str | None,
    labels: str | None,
    seed: int,
    shard_size: int | None,
    micro_batch: int,
    max_attempts: int,
    format_: VideoFormat,
    dtype: str | None,
    executor: str,  # there is one so far
    workers: int | None,
    threads: int,
    shards: str | None,
    no_privacy_filter: bool,
    private_audit: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Generate a privacy-filtered synthetic dataset.

    The same command goes on after an interruption; another plan in the same place is refused.
    """
    import json

    from echosdk.generation.generate import Options, generate
    from echosdk.generation.plan import parse_splits
    from echosdk.privacy.holes import MOST, most_videos, rejections_a_patient
    from echosdk.words import count

    device = options.pick_device(device)
    wanted = Options(
        plugin_set=plugin_set_name,
        bundle=bundle,
        use=use,
        set_=set_,
        num_videos=num_videos,
        splits=None if splits is None else parse_splits(splits),
        num_frames=frames,
        labels=labels,
        like=like,
        seed=seed,
        shard_size=shard_size,
        micro_batch=micro_batch,
        max_attempts=max_attempts,
        threads=threads,
        device=device,
        dtype=dtype,
        format=format_,
        privacy_filter=not no_privacy_filter,
    )
    manifest = generate(
        out,
        options=wanted,
        shards=shards,
        workers=options.pick_workers(workers, out, device, threads),
        private_audit=private_audit,
        report=options.say,
        progress=options.on_a_terminal(),
    )
    if manifest is None and as_json:
        click.echo(json.dumps({"whole": False}))
        return
    if manifest is None:
        click.echo(f"{out}: not whole yet: some shards are missing, or being made by other processes")
        return
    if as_json:
        click.echo(json.dumps(manifest))
        return
    if "warning" in manifest:
        click.echo(manifest["warning"])
    said = [f"{rate['hits']} of {rate['n']} {what}" for what, rate in manifest["rejected"].items() if rate["n"]]
    click.echo(f"dataset:  {out}  ({count(manifest['counts']['samples'], 'video')})")
    nothing = "nothing was asked" if "warning" in manifest else "not told of a single video"
    click.echo(f"rejected: {', '.join(said) or nothing}")
    figure = rejections_a_patient(manifest)
    if figure.interval_95 is not None and figure.interval_95[1] > MOST:
        most = most_videos(figure, manifest["counts"]["samples"])
        click.echo(
            f"holes:    {figure.value:.2g} rejected stills and videos a training patient, 95 % upper bound "
            f"{figure.interval_95[1]:.2g}; the policy's {MOST:g} allows {count(most or 0, 'video')} at this rate, and "
            "more may show who was trained on (see the card)"
        )
    click.echo(f"preview:  {out.rstrip('/')}/preview.html")
