"""`echosdk plugins`: what the installed plugins offer, whether it keeps its contracts, and the start of another."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import click

from echosdk.cli import options


@click.group("plugins")
def command() -> None:
    """List, show and check what the installed plugins offer; begin a new one."""


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
    """Write a distribution with a component of KIND to the folder NAME, working and tested as it is."""
    from echosdk.plugin_template import write_plugin

    for path in write_plugin(kind, name, to):
        click.echo(path)
    click.echo(f"\ntry it: pip install -e '{to / name}[test]' && pytest {to / name} && echosdk plugins check {name}")


@command.command("check")
@click.argument("package")
@click.option(
    "--plugin-set", "plugin_set_name", metavar="NAME", help="Take parameters from a plugin set, or a TOML file."
)
@options.set_
@options.as_json
def check(package: str, plugin_set_name: str | None, set_: tuple[str, ...], as_json: bool) -> None:
    """Run the contract tests on all that PACKAGE offers: a distribution's name, or a plugin's.

    A component that learns is trained for two steps on a few made-up clips. One whose networks are large is checked in
    seconds at another shape: `--set KIND.KEY=VALUE`. Exit status 1 where something fails.
    """
    from echosdk.registry import Registry

    try:
        from echosdk.testing.installed import check_package
    except ModuleNotFoundError as error:
        if error.name != "pytest":
            raise
        raise click.UsageError("the contract tests need pytest: pip install 'echosdk[test]'") from error
    from echosdk.plugin_set import PluginSet

    registry = Registry.discover()
    plugin_set = PluginSet.find(plugin_set_name, registry) if plugin_set_name else None
    checked = check_package(registry, package, plugin_set=plugin_set, set_=set_, report=options.say)
    if as_json:
        plain = [attrs.asdict(each) for each in checked.checks]
        click.echo(json.dumps({"ok": checked.ok, "package": package, "checks": plain}, indent=2))
    else:
        rows = [(each.kind, each.name, each.outcome, _asked(each.test, each.message)) for each in checked.checks]
        options.table(("kind", "name", "result", "what is asked"), rows)
        said = Counter(each.outcome for each in checked.checks)
        click.echo(f"\n{package}: {options.counts(dict(sorted(said.items())))}")
    sys.exit(0 if checked.ok else 1)


def _asked(test: str, message: str) -> str:
    """Write a test's name as the sentence that it is, and why it failed or was skipped."""
    return f"{test.replace('_', ' ')}{': ' if message else ''}{message}"


def _default(parameter: dict[str, Any]) -> str:
    """Write a default as TOML would; what has none must be given."""
    if parameter["required"]:
        return "(required)"
    return "(none)" if parameter["default"] is None else json.dumps(parameter["default"])
