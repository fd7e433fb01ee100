"""Every hook's docstring is a whole plugin: each is run here, and what it offers is used."""

from __future__ import annotations

import shutil
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import echosdk
from echosdk import hookspecs
from echosdk.bundle import Bundle
from echosdk.hookspecs import HOOKS
from echosdk.plugin_set import PluginSet
from echosdk.registry import Registry
from echosdk.training.import_bundle import Import, import_bundle
from echosdk.training.weights import import_weights


def example(hook: str) -> str:
    """Return the code block of a hook's docstring."""
    text = textwrap.dedent(getattr(hookspecs, hook).__doc__)
    _, code, _ = text.split("```")
    return textwrap.dedent(code.removeprefix("python\n"))


@pytest.fixture
def offered(make_module):
    """Run a hook's example as a module, and build what it offers."""

    def build(kind: str):
        plugin = Registry.of(make_module("example", example(HOOKS[kind])))
        assert plugin.problems == ()
        (offer,) = plugin.offers
        assert offer.kind == kind
        assert offer.item.summary
        return plugin.build(kind, offer.item.name, {})

    return build


def generators(n):
    return [torch.Generator().manual_seed(seed) for seed in range(n)]


def test_every_hook_is_listed_and_has_an_example():
    specified = {name for name in vars(hookspecs) if name.startswith("echosdk_")}
    assert specified == set(HOOKS.values())
    for hook in specified:
        assert f"def {hook}():" in example(hook)


@pytest.mark.parametrize("hook", HOOKS.values())
def test_a_hook_that_is_called_by_itself_does_nothing(hook):
    with pytest.raises(NotImplementedError):
        getattr(hookspecs, hook)()


def test_the_example_of_an_encoder(offered):
    encoder = offered("encoder")
    encoder.to("cpu", torch.float32)
    images = torch.rand(2, *encoder.latent_shape)
    assert torch.equal(encoder.decode(encoder.encode(images)), images)


def test_the_example_of_an_image_prior(offered):
    prior = offered("image_prior")
    prior.to("cpu", torch.float32)
    both = prior.sample(generators(2), [{"EF": 50.0}] * 2)
    assert both.shape == (2, 4, 14, 14)
    assert torch.equal(prior.sample(generators(1), [{"EF": 50.0}]), both[:1])


def test_the_example_of_a_privacy_filter(offered):
    privacy_filter = offered("privacy_filter")
    train, holdout = torch.randn(8, 4, 14, 14), torch.randn(6, 4, 14, 14)
    privacy_filter.calibrate(
        echosdk.References(items=train, groups=map(str, range(8))),
        echosdk.References(items=holdout, groups=map(str, range(6))),
        torch.Generator(),
    )
    copies = privacy_filter.judge(train)
    assert isinstance(copies, echosdk.Verdict)
    assert not copies.keep.any()
    assert privacy_filter.judge(10 * torch.randn(3, 4, 14, 14)).keep.all()


def test_the_examples_of_an_animator_and_a_stitcher_go_together(offered):
    animator, stitcher = offered("video_animator"), offered("stitcher")
    animator.to("cpu", torch.float32)
    stills = torch.randn(2, 4, 14, 14)
    video = stitcher.animate(animator, stills, [{}, {}], animator.window, generators(2))
    assert video.shape == (2, animator.window, 4, 14, 14)
    assert torch.equal(video[:, -1], stills)


def test_the_example_of_a_stitcher_goes_with_the_default_animator(offered, trained_tiny, registry):
    animator = trained_tiny.plugin_set.build(registry, "video_animator")
    trained_tiny.load("video_animator", animator, "lvdm")
    still = torch.randn(1, 4, 8, 8)
    video = offered("stitcher").animate(animator, still, [{"simulated_EF": 50.0}], animator.window, generators(1))
    assert video.shape == (1, animator.window, 4, 8, 8)
    assert torch.isfinite(video).all()


def test_the_example_of_a_downstream_validator(offered):
    validator = offered("downstream_validator")
    clips = [SimpleNamespace(labels={"age": value}) for value in (50.0, 65.0)]
    assert validator.predict(clips[0]) == {"age": 55.0}
    assert validator.score(clips) == {"mae": 7.5}
    assert validator.min_frames == 1


def test_the_example_of_a_data_source(offered):
    source = offered("data_source")
    assert isinstance(source, echosdk.DataSource)
    clips = {split: list(source.clips(split)) for split in ("train", "val", "test")}
    assert len({clip.group for of in clips.values() for clip in of}) == 24
    frames = clips["val"][3].frames
    assert (frames.shape, frames.dtype, frames.max()) == ((16, 32, 32), np.uint8, 96)
    assert source.fingerprint()


@pytest.fixture
def my_plugin(tmp_path, monkeypatch, trained_tiny):
    """The package of the two examples that carry files."""
    package = tmp_path / "my_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copytree(trained_tiny.folder, package / "bundle")
    kinds = "\n".join(f'[{kind}]\nuse = "some"' for kind in echosdk.interfaces.KINDS)
    (package / "mine.toml").write_text(f"fps = 10\n{kinds}")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("my_plugin")
def test_the_example_of_a_plugin_set(make_module):
    found = PluginSet.find("mine", Registry.of(make_module("example", example("echosdk_plugin_sets"))))
    assert (found.where, found.fps, found.choices["encoder"].use) == ("mine.toml", 10.0, "some")


@pytest.mark.usefixtures("my_plugin")
def test_the_example_of_a_bundle(make_module, trained_tiny):
    found = Bundle.open("mine", Registry.of(make_module("example", example("echosdk_bundles"))))
    assert found.digest == trained_tiny.digest


def test_the_example_of_a_published_layout(make_module, registry, trained_tiny, tmp_path):
    """The encoder of the tiny bundle, published by itself, is imported and encodes as it did."""
    with_example = registry.with_modules(make_module("example", example("echosdk_published_layouts")))
    bundle = import_bundle(
        Import(
            layout_name="our-encoder",
            parameters={"location": str(trained_tiny.folder)},
            registry=with_example,
            out=tmp_path / "bundle",
        )
    )
    images = torch.rand(2, 1, 32, 32)
    theirs, ours = (of.plugin_set.build(registry, "encoder") for of in (trained_tiny, bundle))
    trained_tiny.load("encoder", theirs, "vae")
    bundle.load("encoder", ours, "vae")
    assert torch.equal(ours.encode(images), theirs.encode(images))
    assert bundle.stripped


def test_the_example_of_a_feature_extractor(offered, make_module, tmp_path, monkeypatch):
    """Its weights are imported, and it maps images as they say."""
    registry = Registry.of(make_module("example", example("echosdk_feature_extractors")))
    monkeypatch.setenv("ECHOSDK_WEIGHTS", str(tmp_path / "cache"))
    save_file({"matrix": torch.eye(64)[:, :5].contiguous()}, tmp_path / "directions.safetensors")
    extractor = offered("feature_extractor")
    extractor.load(import_weights("directions", tmp_path / "directions.safetensors", registry), "cpu")
    assert isinstance(extractor, echosdk.FeatureExtractor)
    assert torch.equal(extractor.embed(torch.ones(2, 1, 16, 16)), torch.ones(2, 5))
