"""`echosdk repair`: generate again what is damaged."""

from __future__ import annotations

import click

from echosdk.cli import options


@click.command("repair")
@click.argument("out")
@click.option("--bundle", metavar="NAME|PATH|URL", help="The bundle, where it lies elsewhere now.")
@click.option("--workers", type=click.IntRange(1), help="Processes [default: one a CPU core].")
def command(out: str, bundle: str | None, workers: int | None) -> None:
    """Generate the damaged and missing shards of OUT again, and join."""
    from echosdk.generation.dataset import read_plan
    from echosdk.generation.files import Folder
    from echosdk.generation.redo import repair

    plan = read_plan(Folder.at(out))
    workers = options.pick_workers(workers, out, plan.device, plan.threads)
    redone = repair(Folder.at(out), bundle=bundle, workers=workers, report=options.say)
    click.echo(f"{out}: {len(redone)} shards made again{': ' if redone else ''}{', '.join(redone)}")
