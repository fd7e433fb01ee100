"""Nothing is about hearts or squares: stills with class labels, slices of a volume, and colour go the whole way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from attrs import define
from safetensors.torch import load_file, save_file

import echosdk
from echosdk import Category, Clip, Label, Registry
from echosdk.bundle import Bundle
from echosdk.clips.store import open_store
from echosdk.generation.dataset import open_dataset, verify
from echosdk.generation.files import Folder
from echosdk.generation.generate import Options, generate
from echosdk.plugin_set import PluginSet, open_source, resolve
from echosdk.training.stages import Training, train_bundle

SPLIT = ("train", "train", "train", "val")


@define
class MadeUp:
    """One clip of each of 16 patients; a kind of data says what is seen."""

    fps: float = 16.0
    labels: tuple[Label | Category, ...] = ()

    def seen(self, number: int) -> tuple[Mapping[str, Any], Any]:
        raise NotImplementedError

    def clips(self, split: str) -> Iterator[Clip]:
        for number in range(16):
            if SPLIT[number % 4] == split:
                labels, _ = self.seen(number)
                yield Clip(
                    id=f"{number}", group=f"p{number}", split=split, fps=self.fps, labels=labels,
                    load=partial(self._load, number), window=self.window,
                )  # fmt: skip

    window = None

    def fingerprint(self) -> str:
        return type(self).__name__

    def _load(self, number: int) -> Any:
        return self.seen(number)[1]


@define
class Stills(MadeUp):
    """Clips of one frame, dark or bright."""

    labels: tuple[Label | Category, ...] = (Category(name="shade", values=("dark", "bright")),)

    def seen(self, number: int) -> tuple[Mapping[str, Any], Any]:
        shade = ("dark", "bright")[number // 4 % 2]
        level = {"dark": 70, "bright": 180}[shade]
        frames = np.random.default_rng(number).normal(level, 20, (1, 16, 16)) + np.linspace(-20, 20, 16)
        return {"shade": shade}, frames.clip(0, 255).astype(np.uint8)


@define
class Volumes(MadeUp):
    """Slices through a ball, 16-bit, of which levels 1000 to 3000 are shown; taller than wide."""

    fps: float = 2.0  # slices a millimetre
    labels: tuple[Label | Category, ...] = (Label(name="radius", unit="mm", low=3, high=6),)
    window = (1000.0, 3000.0)

    def seen(self, number: int) -> tuple[Mapping[str, Any], Any]:
        radius = 3 + 3 * number / 16
        z, y, x = np.ogrid[-6:6:12j, -8:8:32j, -6:6:24j]  # type: ignore[misc]
        inside = x**2 + y**2 + z**2 < radius**2
        noise = np.random.default_rng(number).normal(0, 100, inside.shape)
        return {"radius": radius}, (1200 + 2500 * inside + noise).astype(np.uint16)


@define
class Colours(MadeUp):
    """Colour videos in 16 bits, wider than tall, at another frame rate: a patch moves, redder in some patients."""

    fps: float = 12.5
    labels: tuple[Label | Category, ...] = (
        Label(name="redness", unit="", low=0, high=1),
        Category(name="way", values=("left", "right")),
    )
    window = (0.0, 4095.0)

    def seen(self, number: int) -> tuple[Mapping[str, Any], Any]:
        redness, way = number / 16, ("left", "right")[number % 2]
        frames = np.random.default_rng(number).integers(0, 800, (10, 16, 24, 3)).astype(np.uint16)
        for t in range(10):
            place = 2 * t if way == "right" else 18 - 2 * t
            frames[t, 4:12, place : place + 4] = [4095 * redness, 2000, 4095 * (1 - redness)]
        return {"redness": redness, "way": way}, frames


@define
class OfItsClass:
    """A prior that takes conditions: normal values about the mean of the class that is asked for."""

    _mean: dict[str, torch.Tensor] = attrs.field(init=False, factory=dict)

    def to(self, device: str, dtype: torch.dtype) -> None:
        pass

    def sample(self, generators: Sequence[torch.Generator], conditions: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        means = [self._mean[str(each["shade"])] for each in conditions]
        return torch.stack(
            [mean + 0.35 * torch.randn(mean.shape, generator=g) for mean, g in zip(means, generators, strict=True)]
        )

    def fit(self, data: echosdk.TrainingData, run: echosdk.Run) -> Mapping[str, Any]:
        (label,) = data.labels
        assert isinstance(label, Category)
        for value in label.values:
            own = [torch.from_numpy(clip.read()) for clip in data.train if clip.labels["shade"] == value]
            self._mean[value] = torch.cat(own).mean(0)
        return {"classes": len(self._mean)}

    def save(self, public: Path, private: Path) -> None:
        save_file(self._mean, public / "means.safetensors")

    def load(self, public: Path, private: Path | None) -> None:
        self._mean = load_file(public / "means.safetensors")


@pytest.fixture(scope="module")
def with_modalities(registry: Registry) -> Registry:
    module = ModuleType("modalities")

    def data_sources() -> Iterator[echosdk.Component[Any]]:
        for build in (Stills, Volumes, Colours):
            yield echosdk.Component(name=build.__name__.lower(), build=build, summary=str(build.__doc__))

    def image_priors() -> Iterator[echosdk.Component[Any]]:
        yield echosdk.Component(name="of-its-class", build=OfItsClass, summary="")

    module.echosdk_data_sources = echosdk.hookimpl(specname="echosdk_data_sources")(data_sources)  # type: ignore[attr-defined]
    module.echosdk_image_priors = echosdk.hookimpl(specname="echosdk_image_priors")(image_priors)  # type: ignore[attr-defined]
    return registry.with_modules(module)


@pytest.fixture
def whole_way(with_modalities: Registry, tmp_path: Path) -> Callable[..., tuple[Bundle, list[dict[str, Any]]]]:
    """Train `default-tiny` on a source, with other choices, and generate from it."""

    def go(name: str, num_frames: int, use: tuple[str, ...] = (), set_: tuple[str, ...] = ()) -> Any:
        source = open_source(with_modalities, name)
        tiny = PluginSet.find("default-tiny", with_modalities)
        tiny = attrs.evolve(tiny, fps=source.fps)
        bundle = train_bundle(
            Training(
                plugin_set=resolve(with_modalities, tiny, use=use, set_=set_), registry=with_modalities,
                source=source, source_name=name, out=tmp_path / "bundle", work=tmp_path / "work",
            )
        )  # fmt: skip
        assert {"encoder", "image_prior", "video_animator", "downstream_validator"} <= {*bundle.manifest.stages}
        options = Options(
            plugin_set="default-tiny", bundle=str(tmp_path / "bundle"), use=use, num_videos=6, num_frames=num_frames,
            max_attempts=500,
        )  # fmt: skip
        out = str(tmp_path / "out")
        generate(out, options=options, registry=with_modalities)
        assert verify(Folder.at(out)) == []
        return bundle, list(open_dataset(out))

    return go


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves the closing of its files to Python
def test_stills_with_class_labels_are_drawn_of_the_class_that_is_asked_for(whole_way: Any) -> None:
    use = (
        "encoder=identity", "image_prior=of-its-class", "privacy_filter=pixel-correlation",
        "video_animator=static", "downstream_validator=category-classifier",
    )  # fmt: skip
    few = ("downstream_validator.recipe.steps=2", "downstream_validator.recipe.batch_size=4")
    bundle, samples = whole_way("stills", 1, use, few)
    assert bundle.manifest.frame_shape == (16, 16)
    assert {sample["labels"]["shade"] for sample in samples} == {"dark", "bright"}
    for sample in samples:
        assert sample["video"].shape == (1, 1, 16, 16)
        assert (sample["video"].mean() > 0) == (sample["labels"]["shade"] == "bright")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_slices_of_a_volume_in_16_bits_that_are_not_square_are_a_clip(whole_way: Any, tmp_path: Path) -> None:
    """With the default components, all of them."""
    bundle, samples = whole_way("volumes", 12)
    assert bundle.manifest.frame_shape == (32, 24)
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["plan"]["fps"] == 2.0
    assert {tuple(sample["video"].shape) for sample in samples} == {(12, 1, 32, 24)}
    assert all(3 <= sample["labels"]["radius"] <= 6 for sample in samples)
    slices = open_store(tmp_path / "work" / "pixels" / "train")[0].read()
    assert slices.shape == (12, 32, 24)
    assert slices.dtype == np.uint8
    assert slices[5, 16, 12] == 255  # 3700 is over the window
    assert slices[0, 0, 0] == pytest.approx(255 * (1200 - 1000) / 2000, abs=50)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_colour_in_16_bits_that_is_not_square_stays_colour(whole_way: Any, tmp_path: Path) -> None:
    use = ("privacy_filter=pixel-correlation",)
    bundle, samples = whole_way("colours", 10, use, ("encoder.channels=3",))
    assert bundle.manifest.frame_shape == (16, 24, 3)
    assert {tuple(sample["video"].shape) for sample in samples} == {(10, 3, 16, 24)}
    assert all({*sample["labels"]} == {"redness", "way"} and sample["fps"] == 12.5 for sample in samples)
    frames = open_store(tmp_path / "work" / "pixels" / "train")[0].read()
    assert frames.shape == (10, 16, 24, 3)
    assert tuple(frames[0, 5, 19]) == (0, round(255 * 2000 / 4095), 255)  # of the patient without redness
