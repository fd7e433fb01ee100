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
@click.option(
    "--empirical", is_flag=True, help="Also train on synthetic videos drawn so that their labels are as the real ones."
)
@click.option(
    "--label-noise",
    type=click.FloatRange(0),
    default=0.0,
    metavar="SD",
    help="Also train on real videos whose labels err by so much, in the label's unit [default: no such row].",
)
@click.option("--augment", is_flag=True, help="Also train on real and synthetic together, and on fractions of real.")
@click.option(
    "--fraction",
    "fractions",
    multiple=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Of the real patients, for --augment; may be repeated [default: 0.1].",
)
@click.option(
    "--cutoff",
    "cutoffs",
    multiple=True,
    type=float,
    help="Value of the label with a ROC curve of its own; may be repeated [default: the validator's own].",
)
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
    empirical: bool,
    label_noise: float,
    augment: bool,
    fractions: tuple[float, ...],
    cutoffs: tuple[float, ...],
    work: Path | None,
    dtype: str,
    device: str,
    as_json: bool,
) -> None:
    """Train on the dataset OUT and on real data, and compare the two on the same real test patients.

    The verdict is `substitute`, `worse` or `not shown`; the exit status is 0 for the first and 1 for the others.
    Several OUT are datasets that differ in their seed alone. Ctrl-C is safe: the same command goes on where it stopped.
    """
    from echosdk.errors import InputError
    from echosdk.evaluation.validate import FRACTIONS, Wanted, validate
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
            empirical=empirical,
            label_noise=label_noise,
            augment=augment,
            fractions=fractions or FRACTIONS,
            cutoffs=cutoffs or None,
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
    if found.why_blind:
        click.echo(found.why_blind)
    click.echo(found.margin_from)
    click.echo(
        f"{it.patients} test patients, {it.seeds} seeds, {it.datasets} dataset{'s' if it.datasets > 1 else ''}; "
        f"{it.df:.1f} degrees of freedom; p (not inferior) {it.p_noninferior:.3g}, "
        f"p (equivalent, TOST) {it.p_equivalent:.3g}"
    )
    if found.needed:
        click.echo(f"power at this size, were there no difference: {it.power:.0%}; 80 % would need")
    for size in found.needed:
        many = f"{size.patients} test patients" if size.patients else "more test patients than there can be"
        of = f" of each of {size.datasets} datasets" if it.datasets > 1 else ""
        click.echo(f"  with {size.seeds} seeds{of}: {many}")
    click.echo()
    head = ("trained on", "tested on", "n", "R2", "MAE", "RMSE", "MAE by seed", "MAE minus that of")
    rows = []
    for row in found.rows:
        figures = (f"{each.value:.3f} ({each.interval_in_words('.3f')})" for each in (row.r2, row.mae, row.rmse))
        by_seed = ", ".join(f"{mae:.2f}" for mae in row.mae_by_seed)
        minus = (
            row.minus and f"{row.minus.against}: {row.minus.value:+.2f} ({row.minus.low:+.2f} to {row.minus.high:+.2f})"
        )
        rows.append((row.trained_on, row.tested_on, str(row.mae.n), *figures, by_seed, minus or "-"))
    options.table(head, rows)
    for row in found.rows:
        if row.note:
            click.echo(f"{row.trained_on}: {row.note}")
    if it.datasets > 1:
        click.echo("; ".join(f"synthetic {number} is {name}" for number, name in enumerate(found.datasets, 1)))
    areas = [(each, roc) for each in found.agreements for roc in each.roc]
    if areas:
        click.echo()
        what = ("trained on", "tested on", "told apart", "clips under it", "AUC (higher is better)", "n")
        options.table(
            what,
            [
                (each.trained_on, each.tested_on, f"{found.label} under {roc.cutoff:g}", str(roc.below),
                 f"{roc.area.value:.3f} ({roc.area.interval_in_words('.3f')})", str(roc.area.n))
                for each, roc in areas
            ],
        )  # fmt: skip
    for missing in found.not_computed:
        remedy = f" Get it: {missing.remedy}" if missing.remedy else ""
        click.echo(f"not computed: {missing.name}: {missing.why}.{remedy}")
