"""`echosdk doctor`: is this machine fit?"""

from __future__ import annotations

import json
import sys

import attrs
import click

from echosdk.cli import options


@click.command("doctor")
@options.as_json
def command(as_json: bool) -> None:
    """Say what is installed here, and whether videos can be written, bundles opened and plugins loaded.

    Exit status 1 where something does not work. Nothing is fetched, and nothing is left behind.
    """
    from echosdk.doctor import examine
    from echosdk.registry import Registry

    findings = examine(Registry.discover())
    well = all(finding.ok for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": well, "findings": [attrs.asdict(finding) for finding in findings]}, indent=2))
    else:
        rows = [(finding.what, "ok" if finding.ok else "WRONG", finding.says) for finding in findings]
        options.table(("what", "", "found"), rows)
    sys.exit(0 if well else 1)
