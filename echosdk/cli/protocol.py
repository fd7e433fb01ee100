"""`echosdk protocol`: the paper's protocol, end to end."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from echosdk.cli import options

if TYPE_CHECKING:
    from echosdk.protocol_plan import Planned


@click.command("protocol")
@click.option(
    "--data",
    multiple=True,
    metavar="SOURCE",
    help="The real data: NAME[:LOCATION][?key=value&...]; may be repeated as for train: the first is audited.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for dataset and report."
)
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Every choice, a TOML file."
)
@click.option("--bundle", metavar="NAME|PATH|URL", help="Trained state [default: one is trained].")
@click.option("--plugin-set", "plugin_set", help="Name of a plugin set, or a TOML file [default: default].")
@click.option("--seed", type=click.IntRange(0), help="[default: 0]")
@click.option("--device", help="cpu, cuda or cuda:N [default: cuda where there is one].")
@click.option(
    "--step",
    "steps",
    multiple=True,
    type=click.Choice(["train", "generate", "audit", "evaluate", "validate", "report"]),
    help="Do only this step; may be repeated [default: all].",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, with expected time, and do nothing.")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Bundle, caches and models (private); default OUT.work.",
)
@click.option(
    "--private-audit",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for tau, distances, rejects, and a private edition of the report.",
)
@click.option("--workers", type=click.IntRange(1), help="Processes that generate [default: one a CPU core].")
@options.as_json
def command(
    data: tuple[str, ...],
    out: Path,
    config: Path | None,
    bundle: str | None,
    plugin_set: str | None,
    seed: int | None,
    device: str | None,
    steps: tuple[str, ...],
    dry_run: bool,
    work: Path | None,
    private_audit: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Train, generate (with the filter), audit, evaluate, validate, and write the report.

    The same command goes on after an interruption; a step that is done is not done again. Options win over the file.
    Exit status 1 where the audit does not meet its policy, or the dataset is not shown to be a substitute.
    """
    from echosdk.errors import PlanError
    from echosdk.protocol import STEPS, Protocol, run_protocol
    from echosdk.protocol_choices import read_choices
    from echosdk.protocol_plan import plan_protocol

    given = {"data": data or None, "bundle": bundle, "plugin_set": plugin_set, "seed": seed, "device": device}
    choices = read_choices(config, {name: value for name, value in given.items() if value is not None})
    protocol = Protocol(
        choices=choices,
        out=out,
        work=work or out.with_name(out.name + ".work"),
        private_audit=private_audit,
        progress=options.on_a_terminal(),
        say=options.say,
    )
    protocol.workers = options.pick_workers(workers, str(out), protocol.device, choices.generate.threads)
    if dry_run:
        planned = plan_protocol(protocol, steps or STEPS)
        _print_plan(planned, as_json)
        refused = next((each for each in planned if each.state == "refused"), None)
        if refused:
            raise PlanError(f"{out}: the step {refused.step} would be refused: {refused.what}")
        return
    ended = run_protocol(protocol, steps or STEPS)
    said = {"policy_met": ended.policy_met, "verdict": ended.verdict, "report": ended.report and str(ended.report)}
    if as_json:
        click.echo(json.dumps(said))
    else:
        audited = {None: "not asked", True: "met", False: "NOT MET"}[ended.policy_met]
        click.echo(f"privacy policy: {audited}")
        click.echo(f"verdict: {ended.verdict or 'not asked'}")
        if ended.report:
            click.echo(f"report:  {ended.report}")
    sys.exit(0 if ended.ok else 1)


def _print_plan(planned: list[Planned], as_json: bool) -> None:
    import attrs

    if as_json:
        click.echo(json.dumps([attrs.asdict(each) for each in planned]))
        return
    options.table(
        ("step", "state", "expected time", "what"),
        [*((each.step, each.state, _time(each), each.what) for each in planned), ("total", "", _total(planned), "")],
    )


def _total(planned: list[Planned]) -> str:
    unknown = [each.step for each in planned if each.seconds is None]
    seconds = sum(each.seconds for each in planned if each.seconds is not None)
    return f"about {_said(seconds)} (estimate)" + (f", without {', '.join(unknown)}" if unknown else "")


def _time(each: Planned) -> str:
    if each.state == "done":
        return "-"
    if each.seconds is None:
        return f"not known: {each.basis}"
    return f"about {_said(each.seconds)} (estimate: {each.basis})"


def _said(seconds: float) -> str:
    if seconds < 60:
        return "1 min at most"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
