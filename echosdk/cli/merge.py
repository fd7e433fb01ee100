"""`echosdk merge`: join finished shards."""

from __future__ import annotations

import click


@click.command("merge")
@click.argument("out")
@click.option("--bundle", metavar="NAME|PATH|URL", help="The bundle, where it lies elsewhere now.")
def command(out: str, bundle: str | None) -> None:
    """Join the finished shards at OUT: write manifest, index, card and preview."""
    from echosdk.generation.files import Folder
    from echosdk.generation.redo import merge_again
    from echosdk.words import count

    manifest = merge_again(Folder.at(out), bundle=bundle)
    click.echo(f"{out}: {count(len(manifest['shards']), 'shard')}, {count(manifest['counts']['samples'], 'sample')}")
