"""`echosdk validate`: is a dataset a valid substitute?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from echosdk.cli import options

if TYPE_CHECKING:
    from echosdk.evaluation.validate import Validation


@click.command("validate")
@click.argument("outs", nargs=-1, required=True, metavar="OUT...")
@click.option("--data", "data", required=True, metavar="SOURCE", help="The real data: NAME[:LOCATION][?key=value&...]")
@click.option("--bundle", metavar="NAME|PATH|URL", help="Whose encoder reconstructs; default: the dataset's bundle.")
@click.option("--plugin-set", "plugin_set_name", help="Whose validator is trained; default: the dataset's own.")
@options.use
@options.set_
@click.option("--label", help="Which numeric label is read [default: the first].")
@click.option("--seeds", type=click.IntRange(2), default=3, show_default=True, help="Trainings of each arm.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--margin",
    type=click.FloatRange(0, min_open=True),
    default=0.5,
    show_default=True,
    help="How much larger the mean absolute error may be, in the label's unit.",
)
@click.option("--no-reconstruction", is_flag=True, help="Leave out the training on reconstructed real videos.")
@click.option("--relabel", is_flag=True, help="Also train on synthetic videos that the real-trained model labelled.")
@click.option("--augment", is_flag=True, help="Also train on real and synthetic together, and on a tenth of real.")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Caches, checkpoints and models (private); default OUT.validate.work.",
)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
@options.device
@options.as_json
def command(
    outs: tuple[str, ...],
    data: str,
    bundle: str | None,
    plugin_set_name: str | None,
    use: tuple[str, ...],
    set_: tuple[str, ...],
    label: str | None,
    seeds: int,
    seed: int,
    margin: float,
    no_reconstruction: bool,
    relabel: bool,
    augment: bool,
    work: Path | None,
    dtype: str,
    device: str,
    as_json: bool,
) -> None:
    """Train on the dataset OUT and on real data, and compare the two on the same real test patients.

    The verdict is `substitute`, `worse` or `not shown`; the exit status is 0 for the first and 1 for the others.
    Several OUT are several datasets of one kind. Ctrl-C is safe: the same command goes on where it stopped.
    """
    from echosdk.errors import InputError
    from echosdk.evaluation.validate import Wanted, validate
    from echosdk.plugin_set import open_source
    from echosdk.registry import Registry

    if work is None:
        if "://" in outs[0]:
            raise InputError(f"{outs[0]}: is no folder of this machine; say where caches and models go: --work DIR")
        work = Path(f"{outs[0].rstrip('/')}.validate.work")
    registry = Registry.discover()
    found = validate(
        outs,
        open_source(registry, data),
        data,
        work,
        Wanted(
            bundle=bundle,
            plugin_set=plugin_set_name,
            use=use,
            set_=set_,
            label=label,
            seeds=seeds,
            seed=seed,
            margin=margin,
            reconstruct=not no_reconstruction,
            relabel=relabel,
            augment=augment,
            device=options.pick_device(device),
            dtype=dtype,
        ),
        registry=registry,
        progress=options.on_a_terminal(),
        report=options.say,
    )
    if as_json:
        click.echo(json.dumps(found.plain(), indent=2))
    else:
        _print(found)
    sys.exit(0 if found.comparison.verdict == "substitute" else 1)


def _print(found: Validation) -> None:
    it, unit = found.comparison, f" {found.unit}" if found.unit else ""
    click.echo(f"verdict: {it.verdict}")
    click.echo(
        f"{found.label}: mean absolute error of {found.validator}, synthetic minus real: {it.difference:+.2f}{unit}, "
        f"95 % interval {it.low:+.2f} to {it.high:+.2f}; margin {it.margin:g}{unit}"
    )
    click.echo(
        f"{it.patients} test patients, {it.seeds} seeds, {it.datasets} dataset{'s' if it.datasets > 1 else ''}; "
        f"{it.df:.1f} degrees of freedom; p (not inferior) {it.p_noninferior:.3g}, "
        f"p (equivalent, TOST) {it.p_equivalent:.3g}"
    )
    click.echo(f"power at this size, were there no difference: {it.power:.0%}; 80 % would need")
    for size in found.needed:
        many = f"{size.patients} test patients" if size.patients else "more test patients than there can be"
        click.echo(f"  with {size.seeds} seeds: {many}")
    click.echo()
    head = ("trained on", "tested on", "n", "R2", "MAE", "RMSE", "MAE by seed")
    rows = []
    for row in found.rows:
        figures = (f"{each.value:.3f} ({each.low:.3f} to {each.high:.3f})" for each in (row.r2, row.mae, row.rmse))
        by_seed = ", ".join(f"{mae:.2f}" for mae in row.mae_by_seed)
        rows.append((row.trained_on, row.tested_on, str(row.mae.n), *figures, by_seed))
    options.table(head, rows)
    for missing in found.not_computed:
        remedy = f" Get it: {missing.remedy}" if missing.remedy else ""
        click.echo(f"not computed: {missing.name}: {missing.why}.{remedy}")
