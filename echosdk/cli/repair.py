"""`echosdk repair`: generate again what is damaged."""

from __future__ import annotations

import click

from echosdk.cli import options


@click.command("repair")
@click.argument("out")
@click.option("--bundle", metavar="NAME|PATH|URL", help="The bundle, where it lies elsewhere now.")
@click.option("--set", "set_", multiple=True, metavar="KIND.KEY=VALUE", help=options.SAID_AGAIN)
@click.option("--workers", type=click.IntRange(1), help="Processes [default: one a CPU core].")
def command(out: str, bundle: str | None, set_: tuple[str, ...], workers: int | None) -> None:
    """Generate the damaged and missing shards of OUT again, and join."""
    from echosdk.generation.dataset import read_plan
    from echosdk.generation.files import Folder
    from echosdk.generation.redo import repair
    from echosdk.words import count

    plan = read_plan(Folder.at(out))
    workers = options.pick_workers(workers, out, plan.device, plan.threads)
    redone = repair(
        Folder.at(out),
        bundle=bundle,
        set_=set_,
        workers=workers,
        report=options.say,
        progress=options.on_a_terminal(),
    )
    click.echo(f"{out}: {count(len(redone), 'shard')} made again{': ' if redone else ''}{', '.join(redone)}")
