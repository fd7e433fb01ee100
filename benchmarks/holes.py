"""What can be seen of the holes that a gate leaves around training patients? Simulated features, no patient.

    python benchmarks/holes.py

A patient is a random vector, a frame of theirs that vector plus noise. All samples are of strangers; the gate rejects
those within tau of a training frame, tau being such that 5 % of strangers are. Who holds another frame of somebody asks
how far the nearest published sample is: far means trained on. He sees the filter's own features, or others that share
half of theirs.
"""

from __future__ import annotations

import json
from typing import Any

import click
import numpy as np
import torch
from attrs import frozen

import echosdk


@frozen(kw_only=True)
class World:
    """How many there are, and what their frames look like."""

    train: int = 400
    features: int = 6
    noise: float = 0.02
    alpha: float = 0.05
    seed: int = 0


def attack(world: World, videos: int) -> dict[str, Any]:
    """Publish so many kept samples, and return how well members and as many outsiders are told apart."""
    from echosdk_reid.calibration import innocent_tau
    from echosdk_reid.distances import nearest, standardise

    from echosdk.privacy.statistics import area_figure, found_at, plain

    draws = torch.Generator().manual_seed(world.seed)
    random = np.random.default_rng(world.seed)

    def people(number: int) -> torch.Tensor:
        return torch.randn(number, 2 * world.features, generator=draws)

    def frames(of: torch.Tensor) -> torch.Tensor:
        return of + world.noise * torch.randn(of.shape, generator=draws)

    def filtered(of: torch.Tensor) -> torch.Tensor:
        return standardise(of[:, : world.features])

    def others(of: torch.Tensor) -> torch.Tensor:
        return standardise(of[:, world.features // 2 : world.features // 2 + world.features])

    members, outsiders, held_out = people(world.train), people(world.train), people(1000)
    references = filtered(frames(members))
    tau = innocent_tau("conformal", world.alpha, references, filtered(frames(held_out)))
    kept, asked, rejected = [], 0, 0
    while sum(map(len, kept)) < videos:
        drawn = people(min(videos, 20_000))
        keep = nearest(filtered(drawn), references) >= tau
        asked, rejected = asked + len(drawn), rejected + int((~keep).sum())
        kept.append(drawn[keep])
    samples = torch.cat(kept)[:videos]
    queries = {"members": frames(members), "outsiders": frames(outsiders)}
    result: dict[str, Any] = {"videos": videos, "rejections_a_patient": videos * rejected / asked / world.train}
    for name, seen in (("with the filter", filtered), ("without", others)):
        ours, theirs = (nearest(seen(queries[who]), seen(samples)).numpy() for who in ("members", "outsiders"))
        area = area_figure(f"{name}.area", ours, theirs, random)
        found = found_at(f"{name}.found-at-1-percent", ours, theirs, 0.01)
        result[name] = {"area": plain(area), "found_at_1_percent": plain(found)}
    return result


@click.command()
@click.option("--train", default=400, show_default=True, help="Training patients, and as many outsiders.")
@click.option("--videos", multiple=True, type=int, default=(800, 2400, 8000, 80_000), show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(train: int, videos: tuple[int, ...], seed: int, as_json: bool) -> None:
    """Print, for each number of published videos, how well members and outsiders are told apart (lower is better)."""
    echosdk.Registry.discover()
    results = [attack(World(train=train, seed=seed), number) for number in videos]
    if as_json:
        click.echo(json.dumps(results, indent=2))
        return
    click.echo(f"{train} training patients and as many outsiders; 0.5 and 1 % are guessing (95 % interval)")
    click.echo(f"{'videos':>8}  {'rejections':>10}  {'attacker':<16} {'area':<24} found at 1 % false positives")
    for result in results:
        for name in ("with the filter", "without"):
            area, found = result[name]["area"], result[name]["found_at_1_percent"]
            click.echo(
                f"{result['videos']:>8}  {result['rejections_a_patient']:>10.2f}  {name:<16} "
                f"{area['value']:.3f} ({area['interval_95'][0]:.3f} to {area['interval_95'][1]:.3f})   "
                f"{found['value']:.1%} ({found['interval_95'][0]:.1%} to {found['interval_95'][1]:.1%})"
            )


if __name__ == "__main__":
    main()
