"""Does the re-identification network know a patient that it has never seen, from another video?

    python benchmarks/reidentification.py --patients 500
"""

from __future__ import annotations

import json

import click
import numpy as np
import torch
from echosdk_phantom import PhantomSource
from echosdk_reid.distances import standardise
from numpy.typing import NDArray
from scipy.stats import binomtest

import echosdk
from echosdk.bundle import Bundle
from echosdk.clips.images import to_images
from echosdk.clips.video import resample_indices


def scores(bundle: Bundle, registry: echosdk.Registry, patients: int, first: int) -> dict[str, NDArray[np.float64]]:
    """Return how alike a random frame of each patient's first video is to one of each patient's second, `n n`.

    By the pair head (logits; above 0 they are taken for one patient's) and by the filter's correlation (minus the
    distance).
    """
    parts = {}
    for kind in ("encoder", "privacy_filter"):
        parts[kind] = bundle.plugin_set.build(registry, kind)
        bundle.load(kind, parts[kind], bundle.plugin_set.choices[kind].use)
    source = PhantomSource(patients=patients, videos=2, frames=80, first=first)
    clips = sorted(
        (clip for split in ("train", "val", "test") for clip in source.clips(split)), key=lambda clip: clip.id
    )
    rng = np.random.default_rng(0)
    frames = []
    for clip in clips:
        kept = clip.frames[resample_indices(80, clip.fps, bundle.manifest.fps)]
        frames.append(kept[rng.integers(len(kept))])
    images = to_images(np.stack(frames))
    latents = torch.cat([parts["encoder"].encode(part) for part in images.split(32)])
    assert [clip.group for clip in clips[0::2]] == [clip.group for clip in clips[1::2]]

    reid = parts["privacy_filter"]
    one, two = (reid.embed(part) for part in (latents[0::2], latents[1::2]))
    with torch.no_grad():
        logits = torch.stack([reid._network.fc_end((row - two).abs())[:, 0] for row in one])
    correlation = standardise(one) @ standardise(two).T
    return {"pair head": logits.double().numpy(), "pearson": (correlation - 1).numpy()}


@click.command()
@click.option("--bundle", "name", default="phantom", show_default=True)
@click.option("--patients", default=500, show_default=True)
@click.option("--first", default=1_000_000, show_default=True, help="Number of the first patient: none was trained on.")
@click.option("--json", "as_json", is_flag=True)
def main(name: str, patients: int, first: int, as_json: bool) -> None:
    """Print recall and specificity (higher is better) for one random frame of each of two videos of a patient."""
    registry = echosdk.Registry.discover()
    found = scores(Bundle.open(name, registry), registry, patients, first)
    logits = found["pair head"]
    others = ~np.eye(patients, dtype=bool)
    report = {"patients": patients}
    for what, score in found.items():
        same, other = np.diag(score), score[others]
        limit = np.quantile(other, 0.95)
        hits = int((same > limit).sum())
        interval = binomtest(hits, patients).proportion_ci(0.95, "exact")
        report[what] = {
            "recall_at_95_specificity": hits / patients,
            "interval_95": [float(interval.low), float(interval.high)],
            "recall_at_99_specificity": float((same > np.quantile(other, 0.99)).mean()),
            "nearest_is_own": float((score.argmax(1) == np.arange(patients)).mean()),
        }
    report["pair head"] |= {
        "recall": float((np.diag(logits) > 0).mean()),
        "specificity": float((logits[others] <= 0).mean()),
    }
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    for what in ("pair head", "pearson"):
        r = report[what]
        click.echo(
            f"{what:10} n = {patients}: recall {r['recall_at_95_specificity']:.3f} at 95 % specificity "
            f"({r['interval_95'][0]:.3f} to {r['interval_95'][1]:.3f}), {r['recall_at_99_specificity']:.3f} at 99 %; "
            f"own video nearest of all: {r['nearest_is_own']:.3f}"
        )
    click.echo(
        f"pair head at logit 0: recall {report['pair head']['recall']:.3f}, "
        f"specificity {report['pair head']['specificity']:.3f}"
    )


if __name__ == "__main__":
    main()
