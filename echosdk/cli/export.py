"""`echosdk export`: a dataset in another format."""

from __future__ import annotations

import json

import click

from echosdk.cli import options


@click.command("export")
@click.argument("out")
@click.argument("directory")
@click.option(
    "--to",
    "format",
    required=True,
    metavar="FORMAT",
    help="folder: plain videos and a list; or NAME[?key=value&...], the layout of a data source that can write.",
)
@options.as_json
def command(out: str, directory: str, format: str, as_json: bool) -> None:
    """Write the videos of the dataset OUT to the new folder DIRECTORY in another format, with the dataset's card."""
    from echosdk.export.export import export
    from echosdk.registry import Registry
    from echosdk.words import count

    counts = export(out, format, directory, Registry.discover())
    if as_json:
        click.echo(json.dumps({"directory": directory, "format": format, "videos": counts}))
        return
    click.echo(f"{directory}: {count(sum(counts.values()), 'video')} ({options.counts(counts)})")
