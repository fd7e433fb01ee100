"""`echosdk data`: real data in."""

from __future__ import annotations

import json

import click

from echosdk.cli import options

SOURCE = "NAME[:LOCATION][?key=value&...]"


@click.group("data")
def command() -> None:
    """Show or export a data source."""


@command.command("show")
@click.argument("source", metavar=SOURCE)
@options.as_json
def show(source: str, as_json: bool) -> None:
    """Show labels, splits, patients and frame rates. No frame is read."""
    from echosdk.clips.summary import summarise
    from echosdk.plugin_set import open_source
    from echosdk.registry import Registry

    about = summarise(open_source(Registry.discover(), source))
    if as_json:
        click.echo(json.dumps({"source": source, **about}, indent=2))
        return
    click.echo(f"source: {source}")
    rows = []
    for split, of in about["splits"].items():
        fps = "-" if of["fps"] is None else options.span(*of["fps"])
        rows.append((split, str(of["clips"]), str(of["patients"]), fps))
    options.table(("split", "clips", "patients", "frames/s"), rows)
    for label in about["labels"]:
        seen = about["seen"][label["name"]]
        missing = f", missing in {seen['missing']} clips" if seen["missing"] else ""
        found = options.span(*seen["range"]) if "range" in seen else options.counts(seen.get("counts", {}))
        click.echo(f"label {options.label(label)}; found: {found or 'nothing'}{missing}")
    if about["patients_in_two_splits"]:
        click.echo(
            f"WRONG: {about['patients_in_two_splits']} patients are in more than one split; training refuses this"
        )


@command.command("export")
@click.argument("source", metavar=SOURCE)
@click.argument("directory")
@click.option("--layout", metavar="NAME[?key=value&...]", help="A data source that can write [default: the only one].")
@options.as_json
def export(source: str, directory: str, layout: str | None, as_json: bool) -> None:
    """Write the clips of a source to DIRECTORY in the layout of another data source, which then reads them."""
    from echosdk.plugin_set import open_layout, open_source
    from echosdk.registry import Registry
    from echosdk.words import count

    registry = Registry.discover()
    counts = open_layout(registry, directory, layout).write(open_source(registry, source))
    if as_json:
        click.echo(json.dumps({"directory": directory, "clips": dict(counts)}))
        return
    click.echo(f"{directory}: {count(sum(counts.values()), 'clip')} ({options.counts(counts)})")
