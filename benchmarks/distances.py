"""How long do Pearson distances take, block by block, against numpy.corrcoef over both sets?

    python benchmarks/distances.py --items 2000 --references 4000
"""

from __future__ import annotations

import time
import tracemalloc

import click
import numpy as np
import torch

import echosdk


@click.command()
@click.option("--items", default=2000, show_default=True)
@click.option("--references", default=4000, show_default=True)
@click.option("--features", default=128, show_default=True)
@click.option("--only-ours", is_flag=True, help="For sizes at which the whole matrix does not fit into memory.")
def main(items: int, references: int, features: int, only_ours: bool) -> None:
    """Print seconds and the ratio; smaller is better. numpy computes the (n + m) x (n + m) matrix."""
    echosdk.Registry.discover()
    from echosdk_reid.distances import nearest, standardise

    torch.set_num_threads(1)
    draws = torch.Generator().manual_seed(0)
    one, other = (torch.rand(n, features, generator=draws) for n in (items, references))
    began = time.perf_counter()
    ours = nearest(standardise(one), standardise(other))
    ours_s = time.perf_counter() - began
    click.echo(f"ours:  {items} x {references}: {ours_s:.2f} s")
    if only_ours:
        return
    tracemalloc.start()
    began = time.perf_counter()
    whole = np.corrcoef(np.concatenate([one.double().numpy(), other.double().numpy()]))
    theirs = 1 - whole[:items, items:].max(1)
    theirs_s = time.perf_counter() - began
    peak = tracemalloc.get_traced_memory()[1]
    click.echo(f"numpy: ({items} + {references})^2: {theirs_s:.2f} s, at its peak {peak / 1e6:.0f} MB")
    click.echo(f"ratio of time, ours to numpy's: {ours_s / theirs_s:.2f}")
    click.echo(f"largest difference of a distance: {np.abs(ours.numpy() - theirs).max():.1e}")


if __name__ == "__main__":
    main()
