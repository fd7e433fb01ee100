"""`echosdk reproduce`: generate again and compare."""

from __future__ import annotations

import json
import sys

import attrs
import click

from echosdk.cli import options


@click.command("reproduce")
@click.argument("out")
@click.option("--shards", metavar="A:B", help="Only these shards.")
@click.option("--bundle", metavar="NAME|PATH|URL", help="The bundle, where it lies elsewhere now.")
@click.option("--set", "set_", multiple=True, metavar="KIND.KEY=VALUE", help=options.SAID_AGAIN)
@options.as_json
def command(out: str, shards: str | None, bundle: str | None, set_: tuple[str, ...], as_json: bool) -> None:
    """Generate the dataset OUT again, in memory, and compare the bytes. Exit status 1 where they differ."""
    from echosdk.generation.files import Folder
    from echosdk.generation.redo import reproduce

    results = reproduce(Folder.at(out), shards=shards, bundle=bundle, set_=set_, report=options.say)
    if as_json:
        click.echo(json.dumps([attrs.asdict(result) for result in results]))
    else:
        for result in results:
            click.echo(f"{out}/{result.shard}.tar: {'same bytes' if result.same else 'OTHER bytes'}")
    sys.exit(0 if all(result.same for result in results) else 1)
