"""Are the long videos of a dataset continuous? Seam ratio, and the label read window by window.

    echosdk generate --plugin-set default --out long --num-videos 32 --frames 192
    python benchmarks/continuity.py long
"""

from __future__ import annotations

import json

import attrs
import click

import echosdk
from echosdk.bundle import Bundle
from echosdk.clips.images import to_frames
from echosdk.evaluation.continuity import label_by_window, later_as_good_as_first, seam_ratio, window_starts
from echosdk.generation.dataset import read_manifest
from echosdk.generation.files import Folder
from echosdk.plugin_set import PluginSet


@click.command()
@click.argument("dataset")
@click.option("--json", "as_json", is_flag=True)
def main(dataset: str, as_json: bool) -> None:
    """Print the seam ratio (1 is best; wanted within 15 %) and the label's error in each window (smaller is better)."""
    plan = read_manifest(Folder.at(dataset))["plan"]
    registry = echosdk.Registry.discover()
    bundle = Bundle.open(plan["bundle"], registry)
    validator = bundle.plugin_set.build(registry, "downstream_validator")
    bundle.load("downstream_validator", validator, plan["plugin_set"]["downstream_validator"]["use"])
    samples = list(echosdk.open_dataset(dataset))
    videos = [to_frames(sample["video"]) for sample in samples]
    window = plan["plugin_set"]["video_animator"]["window"]
    stitcher = PluginSet.from_plain(plan["plugin_set"], where="plan").build(registry, "stitcher")
    seams = stitcher.seams(plan["num_frames"], window)
    starts = window_starts(plan["num_frames"], window, seams)
    ratio = seam_ratio(videos, seams)
    windows = label_by_window(videos, [s["labels"] for s in samples], validator.label, validator, window, starts)
    if as_json:
        click.echo(json.dumps({"seams": attrs.asdict(ratio), "windows": [attrs.asdict(w) for w in windows]}, indent=2))
        return
    click.echo(f"{ratio.videos} videos of {plan['num_frames']} frames, {len(seams)} seams in each")
    click.echo(f"seam ratio {ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f}); within 15 %: {ratio.within(0.15)}")
    click.echo(f"{validator.label} read from each window, in points:")
    for w in windows:
        click.echo(
            f"  frames {w.first:4}-{w.last:4}: mean absolute error {w.mae:5.2f} +- {w.standard_error:.2f}, "
            f"bias {w.bias:+.2f}"
        )
    click.echo(f"later windows as good as the first: {later_as_good_as_first(windows)}")


if __name__ == "__main__":
    main()
