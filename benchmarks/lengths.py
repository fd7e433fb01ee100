"""How many unrelated patients' videos does the gate reject, by length? Patients of the test split, one video each.

    python benchmarks/lengths.py --data "phantom?patients=1200&videos=2&frames=64&fps=16"
"""

from __future__ import annotations

import json
from typing import Any

import click
import numpy as np
import torch

from echosdk import Registry
from echosdk.clips.images import to_images
from echosdk.clips.store import pixel_clips
from echosdk.clips.video import decode_video, encode_video
from echosdk.generation.generate import Options, make_plan
from echosdk.generation.pipeline import Pipeline
from echosdk.plugin_set import open_source
from echosdk.privacy.probes import by_patient, encode
from echosdk.privacy.statistics import plain, share


@click.command()
@click.option("--bundle", default="phantom", show_default=True)
@click.option("--data", required=True, metavar="SOURCE")
@click.option("--patients", default=100, show_default=True)
@click.option("--lengths", default="1,8,32,64", show_default=True, help="Frames; those of a longer clip are cut off.")
@click.option("--json", "as_json", is_flag=True)
def main(bundle: str, data: str, patients: int, lengths: str, as_json: bool) -> None:
    """Print the share rejected of each length, with its exact interval; videos are written as mp4 and read again."""
    torch.set_num_threads(1)
    registry = Registry.discover()
    plan, opened = make_plan(Options(bundle=bundle, num_frames=1), registry)
    pipeline = Pipeline.load(plan, opened, registry)
    gate = pipeline.gate
    assert gate is not None
    counts: dict[int, list[int]] = {int(length): [0, 0] for length in lengths.split(",")}
    distances: dict[str, list[float]] = {"as it is": [], "written and read again": []}
    for clips in by_patient(open_source(registry, data).clips("test"), patients, 0):
        ((_, frames),) = pixel_clips(clips[:1], plan.fps)
        seen, _ = decode_video(encode_video(frames, plan.fps), grey=frames.ndim == 3)
        latents = encode(pipeline.encoder, to_images(seen))
        for length, count in counts.items():
            if len(latents) >= length:
                count[0] += not bool(gate.judge_videos(latents[None, :length]).keep[0])
                count[1] += 1
        plain_latents = encode(pipeline.encoder, to_images(frames))
        for what, items in zip(distances, (plain_latents, latents), strict=True):
            distances[what].append(float(gate.judge_stills(items[: gate.window]).distance.amin()))
    results: list[dict[str, Any]] = [
        {"frames": length, **plain(share(f"innocents.video.{length}", *count, better="lower", what="test patients"))}
        for length, count in counts.items()
    ]
    spread = {what: np.quantile(values, (0.05, 0.5)).tolist() for what, values in distances.items()}
    if as_json:
        click.echo(json.dumps({"rejected": results, "distance_5_50_percent": spread}, indent=2))
        return
    click.echo(f"{bundle}, windows of {gate.window} frames; share of unrelated patients' videos that is rejected")
    for one in results:
        low, high = one["interval_95"] or (float("nan"), float("nan"))
        rate = "not measured" if one["value"] is None else f"{one['value']:.1%} ({low:.1%} to {high:.1%})"
        click.echo(f"{one['frames']:>5} frames  {rate}, n = {one['n']}")
    for what, (low, middle) in spread.items():
        click.echo(f"smallest distance in a window, {what}: median {middle:.3f}, 5th percentile {low:.3f}")


if __name__ == "__main__":
    main()
