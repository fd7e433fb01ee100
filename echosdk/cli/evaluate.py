"""`echosdk evaluate`: how good a dataset is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from echosdk.cli import options

if TYPE_CHECKING:
    from echosdk.evaluation.measurement import Measured


@click.command("evaluate")
@click.argument("out")
@click.option("--data", "data", required=True, metavar="SOURCE", help="The real data: NAME[:LOCATION][?key=value&...]")
@click.option("--bundle", metavar="NAME|PATH|URL", help="Trained state; default: the one the dataset was made from.")
@click.option("--videos", type=click.IntRange(1), default=500, show_default=True, help="Generated videos to look at.")
@click.option("--seed", default=0, show_default=True, help="Decides which videos, frames and resamples are drawn.")
@click.option("--reconstructions", is_flag=True, help="Also measure held-out videos after the encoder and back.")
@click.option("--stills", is_flag=True, help="Also draw stills from the bundle: before and after its filter.")
@click.option("--real-stills", is_flag=True, help="Also animate real held-out stills, in memory; none is kept.")
@options.device
@options.as_json
def command(
    out: str,
    data: str,
    bundle: str | None,
    videos: int,
    seed: int,
    reconstructions: bool,
    stills: bool,
    real_stills: bool,
    device: str,
    as_json: bool,
) -> None:
    """Measure the dataset OUT against real data: images, videos, motion, labels, reconstruction.

    Everything is compared with the training and with the held-out split, at one size, with its 95 % interval, and with
    what real data scores against other real data of that size (the floor).
    """
    from echosdk.evaluation.evaluate import evaluate
    from echosdk.evaluation.measurement import BETTER
    from echosdk.plugin_set import open_source
    from echosdk.registry import Registry

    registry = Registry.discover()
    found = evaluate(
        out,
        open_source(registry, data),
        data,
        bundle=bundle,
        videos=videos,
        seed=seed,
        reconstructions=reconstructions,
        stills=stills,
        real_stills=real_stills,
        device=options.pick_device(device),
        registry=registry,
        report=options.say,
    )
    if as_json:
        click.echo(json.dumps(found.plain(), indent=2))
        return
    click.echo(f"{out}: {found.n} videos against {found.n} real ones of each split; 95 % intervals")
    if found.n < videos:
        why = "a comparison takes half of a split's patients at most, and no more than there are"
        click.echo(f"not the {videos} asked for: {why}")
    for subject, figures in found.measured.items():
        click.echo(f"\n{subject}")
        head = ("measure", "against", "n", "value", "interval", "floor", "")
        options.table(head, [(*_row(figure), BETTER[figure.direction]) for figure in figures])
    click.echo("\nnot computed")
    for missing in found.not_computed:
        remedy = f" Get it: {missing.remedy}" if missing.remedy else ""
        click.echo(f"{missing.name}: {missing.why}.{remedy}")


def _row(figure: Measured) -> tuple[str, ...]:
    floor = figure.floor
    real = f"{floor.value:.4g} ({floor.low:.4g} to {floor.high:.4g})" if floor else "-"
    value, interval = f"{figure.value:.4g}", figure.interval_in_words()
    return figure.name, figure.against or "-", str(figure.n), value, interval, real
