"""`echosdk verify`: check a dataset."""

from __future__ import annotations

import json
import sys

import attrs
import click

from echosdk.cli import options


@click.command("verify")
@click.argument("out")
@options.as_json
def command(out: str, as_json: bool) -> None:
    """Check every checksum and count of the dataset OUT. Exit status 1 where something is wrong."""
    from echosdk.generation.dataset import read_manifest, verify
    from echosdk.generation.files import Folder
    from echosdk.words import count

    folder = Folder.at(out)
    problems = verify(folder)
    if as_json:
        click.echo(json.dumps({"ok": not problems, "problems": [attrs.asdict(problem) for problem in problems]}))
    elif not problems:
        manifest = read_manifest(folder)
        shards, samples = count(len(manifest["shards"]), "shard"), count(manifest["counts"]["samples"], "sample")
        click.echo(f"{out}: {shards}, {samples}: all as written")
    for problem in () if as_json else problems:
        click.echo(f"{out}/{problem.name}: {problem.message}")
    sys.exit(1 if problems else 0)
