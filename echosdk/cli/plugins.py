"""`echosdk plugins`: what the installed plugins offer, and the beginning of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from echosdk.cli import options


@click.group("plugins")
def command() -> None:
    """List and show what the installed plugins offer; begin a new one."""


@command.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """List every component, data source, plugin set and bundle, and what is wrong with any plugin."""
    from echosdk.plugin_listing import list_offers
    from echosdk.registry import Registry

    listing = list_offers(Registry.discover())
    if as_json:
        click.echo(json.dumps(listing, indent=2))
        return
    rows = [
        (o["kind"], o["name"], f"{o['plugin']} ({o['distribution']} {o['version']})", o["summary"])
        for o in listing["offers"]
    ]
    options.table(("kind", "name", "plugin", "summary"), rows)
    if listing["problems"]:
        click.echo("\nproblems:")
    for p in listing["problems"]:
        click.echo(f"  {p['plugin']} ({p['distribution']} {p['version']}): {p['message']}")


@command.command("show")
@click.argument("name")
@click.option("--kind", metavar="KIND", help="Only what is offered for this kind.")
@options.as_json
def show(name: str, kind: str | None, as_json: bool) -> None:
    """Show what is offered under NAME: where it comes from, and its parameters.

    Parameters of the role `shape` are fixed once the component is trained; those of the role `run` may be set whenever
    it is used. Defaults are the component's own: those of a bundle come before them, and `echosdk bundle show BUNDLE
    --json` shows them under `plugin_set`.
    """
    from echosdk.plugin_listing import show_offers
    from echosdk.registry import Registry

    found = show_offers(Registry.discover(), name, kind)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for i, offer in enumerate(found):
        if i:
            click.echo()
        click.echo(f"{offer['kind']} {offer['name']}: {offer['summary']}")
        click.echo(f"plugin: {offer['plugin']} ({offer['distribution']} {offer['version']})")
        if "location" in offer:
            click.echo(f"location: {offer['location']}")
        elif offer["parameters"]:
            rows = [(p["name"], p["role"], _default(p), p["type"]) for p in offer["parameters"]]
            options.table(("parameter", "role", "default", "type"), rows)
        else:
            click.echo("no parameters")


@command.command("new")
@click.argument("kind")
@click.argument("name")
@click.option("--to", metavar="FOLDER", type=click.Path(path_type=Path), default=Path(), help="Where to put it.")
def new(kind: str, name: str, to: Path) -> None:
    """Write a distribution with a component of KIND (so far: privacy_filter) to the folder NAME, working and tested."""
    from echosdk.plugin_template import write_plugin

    for path in write_plugin(kind, name, to):
        click.echo(path)
    click.echo(f"\ntry it: pip install -e '{to / name}[test]' && pytest {to / name}")


def _default(parameter: dict[str, Any]) -> str:
    """Write a default as TOML would; what has none must be given."""
    if parameter["required"]:
        return "(required)"
    return "(none)" if parameter["default"] is None else json.dumps(parameter["default"])
