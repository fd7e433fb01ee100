"""What do the calibrations of the re-identification filter reject? Simulated features, no network and no patient.

    python benchmarks/calibrations.py

A patient is a random vector, a frame of theirs that vector plus noise; strangers are independent draws.
"""

from __future__ import annotations

import json
import math

import click
import numpy as np
import torch

import echosdk


@click.command()
@click.option("--train", default=7465, show_default=True, help="Training patients, one reference frame each.")
@click.option("--holdout", default=1288, show_default=True, help="Held-out patients.")
@click.option("--features", default=16, show_default=True)
@click.option("--noise", default=0.15, show_default=True, help="How far a frame lies from its patient's others.")
@click.option("--percentile", default=5.0, show_default=True)
@click.option("--tests", default=4000, show_default=True, help="Fresh strangers and fresh copies of every repetition.")
@click.option("--repetitions", default=20, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    train: int,
    holdout: int,
    features: int,
    noise: float,
    percentile: float,
    tests: int,
    repetitions: int,
    seed: int,
    as_json: bool,
) -> None:
    """Print, for each calibration, the share of strangers rejected and of copies missed (lower is better in both)."""
    echosdk.Registry.discover()
    from echosdk_reid.calibration import CALIBRATIONS, copy_tau, innocent_tau
    from echosdk_reid.distances import nearest, standardise

    alpha = percentile / 100
    draws = torch.Generator().manual_seed(seed)

    def patients(number: int) -> torch.Tensor:
        return torch.randn(number, features, generator=draws)

    def frames(of: torch.Tensor) -> torch.Tensor:
        return standardise(of + noise * torch.randn(of.shape, generator=draws))

    names = [*CALIBRATIONS, "conformal, copies too"]
    rejected: dict[str, list[float]] = {name: [] for name in names}
    missed: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repetitions):
        known, held_out = patients(train), patients(holdout)
        references, innocents = frames(known), frames(held_out)
        taus = {name: innocent_tau(name, alpha, references, innocents) for name in CALIBRATIONS}
        copies = 1 - (frames(held_out) * innocents).sum(1)
        taus[names[-1]] = max(taus["conformal"], copy_tau(copies, 1 - alpha))
        strangers = nearest(frames(patients(tests)), references)
        of_training = nearest(frames(known[:tests]), references)
        for name in names:
            rejected[name].append(float((strangers < taus[name]).double().mean()))
            missed[name].append(float((of_training >= taus[name]).double().mean()))
    k = math.ceil(alpha * (holdout + 1))
    report = {
        "train": train, "holdout": holdout, "features": features, "noise": noise, "percentile": percentile,
        "tests": tests, "repetitions": repetitions, "seed": seed, "k": k,
        "strangers_rejected": {name: _spread(values) for name, values in rejected.items()},
        "copies_missed": {name: _spread(values) for name, values in missed.items()},
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    click.echo(f"{train} training and {holdout} held-out patients, {features} features, {repetitions} repetitions")
    click.echo("calibration            strangers rejected           copies missed  (mean, smallest to largest)")
    for name in names:
        rate, miss = report["strangers_rejected"][name], report["copies_missed"][name]
        row = (f"{mean:7.2%} ({low:6.2%} to {high:7.2%})" for mean, low, high in (rate, miss))
        click.echo(f"{name:22} {'  '.join(row)}")


def _spread(values: list[float]) -> tuple[float, float, float]:
    return float(np.mean(values)), min(values), max(values)


if __name__ == "__main__":
    main()
