"""What a user writes: it is checked by mypy --strict against an installed echosdk, and run by no test."""

from pathlib import Path
from typing import Literal

import torch

import echosdk


def main(out: Path) -> None:
    registry: echosdk.Registry = echosdk.Registry.discover()
    names: list[str] = registry.names("privacy_filter")
    manifest = echosdk.generate(
        str(out), options=echosdk.Options(plugin_set="default", num_videos=4, use=(f"privacy_filter={names[0]}",)),
        registry=registry, workers=1,
    )  # fmt: skip
    if manifest is None:
        raise SystemExit("shards are missing")
    samples: int = manifest["counts"]["samples"]
    for sample in echosdk.open_dataset(str(out), split="train", shuffle=100):
        video: torch.Tensor = sample["video"]
        print(samples, video.shape, sample["labels"])
    try:
        registry.build("encoder", "none-such", {})
    except echosdk.PluginSetError as error:
        print(error)


class Filter:
    """Checked against the protocol: a component need inherit from nothing."""

    space: Literal["latent", "image"] = "latent"

    def calibrate(self, train: echosdk.References, holdout: echosdk.References, generator: torch.Generator) -> None:
        self.train = train.items

    def judge(self, stills: torch.Tensor) -> echosdk.Verdict:
        distance = torch.cdist(stills.flatten(1), self.train.flatten(1)).amin(1)
        return echosdk.Verdict(keep=distance >= 1.0, distance=distance, tau=1.0)


mine: echosdk.PrivacyFilter = Filter()


@echosdk.hookimpl
def echosdk_privacy_filters() -> list[echosdk.Component[Filter]]:
    return [echosdk.Component(name="mine", build=Filter, summary="Mine.")]
