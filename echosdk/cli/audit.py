"""`echosdk audit`: privacy audit of a dataset."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from echosdk.cli import options


@click.command("audit")
@click.argument("out")
@click.option(
    "--data", required=True, metavar="SOURCE", help="What the bundle was trained on: NAME[:LOCATION][?key=value&...]"
)
@click.option("--bundle", metavar="NAME|PATH|URL", help="What OUT was made from [default: where it is installed].")
@click.option("--policy", metavar="FILE", help="Limits for the verdict, a TOML file [default: echosdk's own].")
@click.option("--patients", type=click.IntRange(1), default=3000, show_default=True, help="At most so many of a split.")
@click.option("--videos", type=click.IntRange(0), default=100, show_default=True, help="Of them, asked about whole.")
@click.option("--frames", type=click.IntRange(1), default=4, show_default=True, help="Looked at of a synthetic video.")
@click.option(
    "--stills", type=click.IntRange(0), default=300, show_default=True, help="Drawn anew, before and after the filter."
)
@click.option(
    "--probe-patients",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Simulated patients besides, enrolled as references and not trained on.",
)
@click.option(
    "--anatomy-patients",
    type=click.IntRange(10),
    help="Other simulated patients, on whom it is learnt whose anatomy a still shows: the filter's misses by that.",
)
@click.option(
    "--second-network",
    type=click.Path(path_type=Path, file_okay=False),
    help="Private folder of another network to compare records in; it is trained where there is none.",
)
@options.use
@options.set_
@click.option("--seed", default=0, show_default=True)
@options.device
@options.as_json
def command(
    out: str,
    data: str,
    bundle: str | None,
    policy: str | None,
    patients: int,
    videos: int,
    frames: int,
    stills: int,
    probe_patients: int,
    anatomy_patients: int | None,
    second_network: Path | None,
    use: tuple[str, ...],
    set_: tuple[str, ...],
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Audit the dataset OUT against the real data that its bundle was trained on.

    Asks the gate about real records, exact and altered, and looks for training patients in the samples and in the
    models. Exit status 1 where the policy is not met. The report holds counts and rates, and is evidence for an
    assessment by people.
    """
    from echosdk.privacy.audit import Audit, audit
    from echosdk.registry import Registry

    asked = Audit(
        out=out,
        source=data,
        bundle=bundle,
        policy=policy,
        patients=patients,
        videos=videos,
        frames=frames,
        stills=stills,
        probe_patients=probe_patients,
        anatomy_patients=anatomy_patients or 0,
        second_network=second_network,
        use=use,
        set_=set_,
        seed=seed,
        device=device,
    )
    report = audit(asked, Registry.discover(), options.say)
    if as_json:
        click.echo(json.dumps(report))
    else:
        options.table(
            ("figure", "better", "value", "95 % interval", "n", "of", "in what is published"),
            [
                (
                    f["name"],
                    f["better"],
                    _number(f["value"]),
                    _interval(f["interval_95"]),
                    str(f["n"]),
                    f["of"],
                    _expected(f["expected"]),
                )
                for f in report["figures"]
            ],
        )
        click.echo()
        for claim in report["claims"]:
            click.echo(claim)
        click.echo()
        for finding in report["findings"]:
            verdict = "met    " if finding["met"] else "NOT MET"
            click.echo(f"{verdict}  {finding['figure']}: {_number(finding['reached'])}, wants {finding['wants']}")
        click.echo(f"{report['policy']}: {'met' if report['ok'] else 'NOT MET'}")
    sys.exit(0 if report["ok"] else 1)


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _interval(interval: list[float] | None, digits: int = 3) -> str:
    return "" if interval is None else f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def _expected(expected: dict[str, Any] | None) -> str:
    return (
        ""
        if expected is None
        else f"{expected['value']:.1f} ({_interval(expected['interval_95'], 1)}) {expected['of']}"
    )
