"""A folder of videos that are wider than tall goes the whole way, with the default components."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from echosdk import Registry, open_dataset
from echosdk.clips import encode_video
from echosdk.generation.generate import Options, generate
from echosdk.plugin_set import PluginSet, open_source, resolve
from echosdk.training.stages import Training, train_bundle

SPLITS = ["TRAIN"] * 8 + ["VAL"] * 2 + ["TEST"]


def test_videos_that_are_wider_than_tall_are_learnt_from_and_made(registry: Registry, tmp_path: Path) -> None:
    """The regressor sees them as they are, as in `default`; `default-tiny` would show it squares."""
    (tmp_path / "data" / "Videos").mkdir(parents=True)
    rows = ["FileName,EF,Split"]
    for number, split in enumerate(SPLITS):
        frames = np.random.default_rng(number).integers(0, 256, (12, 32, 48), np.uint8)
        (tmp_path / "data" / "Videos" / f"v{number}.avi").write_bytes(encode_video(frames, 16, "avi"))
        rows.append(f"v{number},{30 + 3 * number},{split}")
    (tmp_path / "data" / "FileList.csv").write_text("\n".join(rows))
    name = f"echonet-dynamic:{tmp_path / 'data'}"
    bundle = train_bundle(
        Training(
            plugin_set=resolve(
                registry, PluginSet.find("default-tiny", registry), set_=("downstream_validator.size=0",)
            ),
            registry=registry, source=open_source(registry, name), source_name=name,
            out=tmp_path / "bundle", work=tmp_path / "work",
        )
    )  # fmt: skip
    assert bundle.manifest.frame_shape == (32, 48)
    options = Options(
        plugin_set="default-tiny", bundle=str(tmp_path / "bundle"), num_videos=1, num_frames=10, max_attempts=500
    )
    generate(str(tmp_path / "out"), options=options, registry=registry)
    (sample,) = open_dataset(str(tmp_path / "out"))
    assert sample["video"].shape == (10, 1, 32, 48)
