"""How many of a bundle's stills does its privacy filter reject?

    python benchmarks/rejections.py --stills 1000
"""

from __future__ import annotations

import json

import click
import torch
from scipy.stats import binomtest

import echosdk
from echosdk.generation.generate import Options, make_plan
from echosdk.generation.labels import uniform_labels
from echosdk.generation.pipeline import Pipeline
from echosdk.seeding import generator

BATCH = 32


@click.command()
@click.option("--bundle", default="phantom", show_default=True)
@click.option("--stills", default=1000, show_default=True)
@click.option("--use", multiple=True, metavar="KIND=NAME")
@click.option("--set", "set_", multiple=True, metavar="KIND.KEY=VALUE")
@click.option("--threads", default=torch.get_num_threads(), show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    bundle: str, stills: int, use: tuple[str, ...], set_: tuple[str, ...], threads: int, as_json: bool
) -> None:
    """Print the share of fresh stills that are rejected, with its exact 95 % interval.

    The filter's own tau sets what share of innocents it rejects; what lies above that is the prior repeating itself.
    """
    registry = echosdk.Registry.discover()
    plan, opened = make_plan(Options(bundle=bundle, use=use, set_=set_, threads=threads), registry)
    pipeline = Pipeline.load(plan, opened, registry)
    assert pipeline.gate is not None
    rejected = 0
    for first in range(0, stills, BATCH):
        numbers = range(first, min(first + BATCH, stills))
        noise = [generator("rejections", number) for number in numbers]
        conditions = [uniform_labels(pipeline.labels, plan.seed, number, pipeline.key) for number in numbers]
        drawn = pipeline.prior.sample(noise, conditions).float().cpu()
        rejected += int((~pipeline.gate.judge_stills(drawn).keep).sum())
    interval = binomtest(rejected, stills).proportion_ci(0.95, "exact")
    report = {
        "stills": stills,
        "rejected": rejected,
        "rate": rejected / stills,
        "interval_95": [float(interval.low), float(interval.high)],
        "filter": plan.plugin_set["privacy_filter"]["use"],
    }
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    click.echo(
        f"{report['filter']}: rejects {rejected} of {stills} stills: {report['rate']:.3f} "
        f"({interval.low:.3f} to {interval.high:.3f})"
    )


if __name__ == "__main__":
    main()
