"""How far does it shift the re-identification filter to scale each item by itself, and not by the training split?

    python benchmarks/normalisation.py

The published weights were learnt on videos scaled each by itself; a bundle's own weights on one scale for all.
"""

from __future__ import annotations

import json

import click
import torch
from scipy.stats import binomtest, spearmanr

from echosdk import Registry
from echosdk.generation.generate import Options, make_plan
from echosdk.generation.pipeline import load_gate
from echosdk.plugin_set import PluginSet


@click.command()
@click.option("--bundle", default="phantom", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(bundle: str, as_json: bool) -> None:
    """Print tau and held-out patients' nearest distances under both, and how many verdicts differ."""
    torch.set_num_threads(1)
    registry = Registry.discover()
    _, opened = make_plan(Options(bundle=bundle), registry)
    train, holdout, video = opened.references()
    one_each = torch.tensor([int((video == number).nonzero()[0]) for number in video.unique()])
    distances, taus = {}, {}
    for normalisation in ("training", "item"):
        # No copies are asked for: a network that sees each item scaled by itself may not know them, and closes the gate
        asked = (f"privacy_filter.normalisation={normalisation}", "privacy_filter.copy_percentile=0")
        plan, _ = make_plan(Options(bundle=bundle, set_=asked), registry)
        plugin_set = PluginSet.from_plain(plan.whole_plugin_set(), where="plan")
        gate = load_gate(plugin_set, opened, registry, plugin_set.build(registry, "encoder"))
        gate.calibrate(train, holdout, video, opened.noise_key)
        verdict = gate.judge_stills(holdout.items[one_each])
        distances[normalisation], taus[normalisation] = verdict.distance, verdict.tau
    own, other = distances["training"], distances["item"]
    keeps = [distances[name] >= taus[name] for name in ("training", "item")]
    differ = int((keeps[0] != keeps[1]).sum())
    interval = binomtest(differ, len(own)).proportion_ci(0.95, "exact")
    report = {
        "patients": len(own),
        "tau": taus,
        "median_distance": {name: float(of.median()) for name, of in distances.items()},
        "median_shift": float((other - own).median()),
        "rank_correlation": float(spearmanr(own, other).statistic),
        "verdicts_that_differ": differ,
        "interval_95": [float(interval.low), float(interval.high)],
    }
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    for name, of in distances.items():
        click.echo(f"{name:<9} tau {taus[name]:.5f}   median distance {float(of.median()):.5f}")
    click.echo(
        f"shift     median {report['median_shift']:+.5f}, rank correlation {report['rank_correlation']:.2f}; {differ} "
        f"of {len(own)} held-out verdicts differ (95 % interval {interval.low:.1%} to {interval.high:.1%})"
    )


if __name__ == "__main__":
    main()
