"""`echosdk bundle`: trained state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from echosdk.cli import options
from echosdk.interfaces import KINDS


@click.group("bundle")
def command() -> None:
    """Show, strip or import a bundle."""


@command.command("show")
@click.argument("name", metavar="NAME|PATH|URL")
@options.as_json
def show(name: str, as_json: bool) -> None:
    """Show what a bundle was trained as and on, and what is known of each stage."""
    from echosdk.bundle import Bundle, summary
    from echosdk.registry import Registry

    about = summary(Bundle.open(name, Registry.discover()))
    if as_json:
        click.echo(json.dumps(about, indent=2))
        return
    private = "none: this bundle was stripped" if about["stripped"] else f"{_mb(about['private_bytes'])}, never publish"
    click.echo(f"bundle:  {name}")
    click.echo(f"size:    {_mb(about['public_bytes'])}; private: {private}")
    click.echo(f"frames:  {'x'.join(map(str, about['frame_shape']))} at {about['fps']:g} frames/s")
    for label in about["labels"]:
        click.echo(f"label:   {options.label(label)}")
    data = dict(about["data"])
    what = data.pop("summary", None)
    click.echo(f"data:    {_facts(data)}")
    if what:
        click.echo(f"that is: {what}")
    if about["sampling"]:
        click.echo(f"default: {_facts(about['sampling'])}")
    click.echo()
    rows = []
    for kind in KINDS:
        choice = about["plugin_set"][kind]
        stage = about["stages"].get(kind)
        size = _mb(stage["public_bytes"] + stage["private_bytes"]) if stage else "-"
        figures = _facts(stage["provenance"].get("facts", {})) if stage else "no trained state"
        rows.append((kind, choice["use"], size, figures))
    options.table(("kind", "component", "size", "figures"), rows)


@command.command("strip")
@click.argument("name", metavar="NAME|PATH|URL")
@click.argument("out", type=click.Path(path_type=Path))
def strip(name: str, out: Path) -> None:
    """Copy a bundle to OUT without what derives from single patients: references, filter, tau and the noise key.

    This does not clear the weights for publication.
    """
    from echosdk import bundle
    from echosdk.registry import Registry

    bundle.strip(bundle.Bundle.open(name, Registry.discover()), out)
    click.echo(f"stripped: {out}")
    click.echo(
        "This does NOT clear the weights for publication: they were trained on real data and may have memorised some "
        "of it; that is for people to judge. Nothing is generated from this copy without --no-privacy-filter."
    )


@command.command("import")
@click.argument("location", metavar="FOLDER|URL")
@click.option("--from", "layout", required=True, metavar="NAME", help="The layout in which the weights were published.")
@click.option("--variant", help="Which of the sets of weights that lie there.")
@click.option("--data", metavar="SOURCE", help="The real data, for the filter's references; without: stripped.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The bundle's new folder.")
@click.option(
    "--references",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Frames of every training clip that the bundle keeps for the privacy filter.",
)
@options.device
def import_(
    location: str, layout: str, variant: str | None, data: str | None, out: Path, references: int, device: str
) -> None:
    """Make a bundle of weights that somebody else published."""
    from echosdk.plugin_set import open_source
    from echosdk.registry import Registry
    from echosdk.training.import_bundle import Import, import_bundle

    registry = Registry.discover()
    bundle = import_bundle(
        Import(
            layout_name=layout,
            parameters={"location": location} | ({} if variant is None else {"variant": variant}),
            registry=registry,
            out=out,
            source=open_source(registry, data) if data else None,
            source_name=data or "",
            references_a_clip=references,
            device=options.pick_device(device),
            report=options.say,
        )
    )
    click.echo(f"bundle: {bundle.folder}  stages: {', '.join(bundle.manifest.stages)}")
    if bundle.stripped:
        click.echo(
            "Imported as a stripped bundle: without --data there are no references to judge with, so nothing is "
            "generated from it without --no-privacy-filter. Give the data that the weights were trained on: --data"
        )


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


def _facts(facts: dict[str, Any], prefix: str = "") -> str:
    parts = []
    for key, value in facts.items():
        if isinstance(value, dict):
            parts.append(_facts(value, f"{prefix}{key}."))
        else:
            short = value[:12] if key in ("fingerprint", "sha256") else value
            shown = f"{value:.4g}" if isinstance(value, float) else short
            parts.append(f"{prefix}{key} {shown}")
    return ", ".join(filter(None, parts))
