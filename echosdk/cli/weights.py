"""`echosdk weights`: other people's pretrained weights."""

from __future__ import annotations

import json
from pathlib import Path

import click

from echosdk.cli import options


@click.group("weights")
def command() -> None:
    """List and import other people's pretrained weights. Nothing is fetched over the network."""


@command.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """Show which weights are present, and how to get the others."""
    from echosdk.registry import Registry
    from echosdk.training.weights import fault, known_weights

    rows = [
        {
            "name": known.name,
            "what": known.what,
            "present": not (wrong := fault(known)),
            "fault": wrong,
            "package": f"{known.package}=={known.version}" if known.package else "",
            "get": known.remedy,
        }
        for known in known_weights(Registry.discover()).values()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    options.table(
        ("name", "what", "how"),
        [(str(row["name"]), str(row["what"]), _how(row)) for row in rows],
    )


def _how(row: dict[str, object]) -> str:
    from echosdk.training.weights import MISSING

    if row["present"]:
        return "present"
    return str(row["get"]) if row["fault"] == MISSING else f"{row['fault']} lie there: {row['get']}"


@command.command("import")
@click.argument("name")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def import_(name: str, path: Path | None) -> None:
    """Convert weights to safetensors in the cache folder.

    They are read from the file at PATH, or from the installed package that carries them. Nothing in the file is run.
    """
    from echosdk.registry import Registry
    from echosdk.training.weights import import_weights

    click.echo(import_weights(name, path, Registry.discover()))
