"""The alternatives: each keeps its contract, the baselines lose where they must, and what is private stays private."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from echosdk_alternatives import (
    BootstrapNoise,
    CategoryClassifier,
    Identity,
    PixelCorrelation,
    Static,
    TinyVAE,
)

import echosdk
from echosdk import Category, PrivacyError, References, Registry, Run, TrainingData, TrainingError
from echosdk.bundle import Bundle, add_stage, strip
from echosdk.generation.generate import Options, generate
from echosdk.privacy.gate import Gate
from echosdk.training import Recipe

QUICK = Recipe(steps=2, batch_size=4, learning_rate=1e-3)
VIEW = Category(name="view", values=("apical", "axial"))


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def images(number: int, shape: tuple[int, ...] = (1, 16, 16), seed: int = 0) -> torch.Tensor:
    return torch.rand(number, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def video(frames: int = 12, side: int = 16, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (frames, side, side), np.uint8)


def reloaded(component: Any, new: Any, folder: Path) -> Any:
    public, private = folder / "public", folder / "private"
    public.mkdir()
    private.mkdir()
    component.save(public, private)
    new.load(public, private)
    return new


ENCODERS: dict[str, Callable[[], Any]] = {
    "identity": Identity,
    "vae-tiny": lambda: TinyVAE(blocks=(8, 8, 8), layers_per_block=1, channels=1, recipe=QUICK),
}


@pytest.mark.parametrize("name", ENCODERS)
class TestEncoders:
    @pytest.fixture
    def encoder(self, name: str, data_of: Any, tmp_path: Path) -> Any:
        encoder = ENCODERS[name]()
        torch.manual_seed(0)
        encoder.fit(data_of(("a", video()), ("b", video(seed=1))), Run(folder=tmp_path / "run"))
        return encoder

    def test_latents_have_the_shape_that_it_says_and_decode_to_images(self, encoder: Any) -> None:
        latents = encoder.encode(images(3))
        assert latents.shape == (3, *encoder.latent_shape)
        assert encoder.decode(latents).shape == (3, 1, 16, 16)

    def test_one_image_and_eight_are_encoded_and_decoded_alike(self, encoder: Any) -> None:
        latents = encoder.encode(images(8))
        torch.testing.assert_close(latents, torch.cat([encoder.encode(image[None]) for image in images(8)]))
        decoded = torch.cat([encoder.decode(latent[None]) for latent in latents])
        torch.testing.assert_close(encoder.decode(latents), decoded, atol=1e-5, rtol=1e-5)

    def test_latents_of_the_training_split_have_unit_scale(self, encoder: Any) -> None:
        frames = torch.cat([torch.from_numpy(video(seed=seed))[:, None] for seed in (0, 1)]) / 127.5 - 1
        latents = encoder.encode(frames)
        torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(latents.shape[1]), atol=0.1, rtol=0)
        torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(latents.shape[1]), atol=0.1, rtol=0)

    def test_it_is_the_same_when_it_is_loaded(self, encoder: Any, name: str, tmp_path: Path) -> None:
        again = reloaded(encoder, ENCODERS[name](), tmp_path)
        assert again.latent_shape == encoder.latent_shape
        torch.testing.assert_close(again.encode(images(2)), encoder.encode(images(2)), atol=0.02, rtol=0)
        assert not list((tmp_path / "private").iterdir())


def test_pixels_come_back_from_the_identity(data_of: Any, tmp_path: Path) -> None:
    encoder = Identity()
    colour = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), np.uint8)
    encoder.fit(data_of(("a", colour)), Run(folder=tmp_path))
    assert encoder.latent_shape == (3, 8, 6)
    seen = images(2, (3, 8, 6))
    torch.testing.assert_close(encoder.decode(encoder.encode(seen)), seen)


def test_frames_of_one_value_have_no_scale(data_of: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^identity: every frame of the training split has one and the same value"):
        Identity().fit(data_of(("a", np.full((4, 8, 8), 7, np.uint8))), Run(folder=tmp_path))


def test_the_tiny_autoencoder_learns_to_reconstruct(data_of: Any, tmp_path: Path) -> None:
    ramps = np.stack([np.add.outer(np.arange(16) * a, np.arange(16) * (8 - a)) for a in range(8)]).astype(np.uint8)
    facts = [
        TinyVAE(
            blocks=(16, 16), layers_per_block=1, channels=1,
            recipe=Recipe(steps=steps, batch_size=8, learning_rate=2e-3),
        ).fit(data_of(("a", ramps)), Run(folder=tmp_path / str(steps)))
        for steps in (1, 150)
    ]  # fmt: skip
    assert facts[1]["reconstruction"]["psnr_db"] > facts[0]["reconstruction"]["psnr_db"] + 6


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (np.zeros((2, 18, 16), np.uint8), "frames of 18x16: both sides must be multiples of 4"),
        (np.zeros((2, 16, 16, 3), np.uint8),
         "encoder.channels: frames of 16x16 have 3 channels, and a network of 1 sees grey images only; "
         "--set encoder.channels=3, or give grey frames"),
    ],
)  # fmt: skip
def test_frames_that_the_tiny_autoencoder_cannot_take_are_refused(
    frames: Any, says: str, data_of: Any, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError) as error:
        TinyVAE(blocks=(8, 8, 8), channels=1).fit(data_of(("a", frames)), Run(folder=tmp_path))
    assert str(error.value) == says


@pytest.fixture
def copies(data_of: Any, latents: Any, tmp_path: Path) -> tuple[BootstrapNoise, Any]:
    prior, real = BootstrapNoise(stills=6, noise=0.1), latents(8)
    prior.fit(data_of(("a", real[:4]), ("b", real[4:])), Run(folder=tmp_path))
    return prior, real


def test_a_bootstrapped_still_is_a_real_one_with_noise(copies: Any) -> None:
    prior, real = copies
    drawn = prior.sample(generators(*range(32)), [{}] * 32)
    assert drawn.shape == (32, 4, 8, 8)
    errors = (drawn[:, None] - torch.from_numpy(real)).square().mean((2, 3, 4)).sqrt()
    torch.testing.assert_close(errors.amin(1), torch.full((32,), 0.1), atol=0.02, rtol=0)
    assert 1 < len(errors.argmin(1).unique()) <= 6


def test_a_bootstrapped_still_depends_on_its_own_generator_only(copies: Any) -> None:
    prior, _ = copies
    assert torch.equal(prior.sample(generators(1, 2, 3), [{}] * 3)[1:2], prior.sample(generators(2), [{}]))


def test_what_the_bootstrap_copies_is_saved_in_the_private_part_alone(copies: Any, tmp_path: Path) -> None:
    prior, _ = copies
    again = reloaded(prior, BootstrapNoise(), tmp_path)
    assert not list((tmp_path / "public").iterdir())
    drawn = [one.sample(generators(5), [{}]) for one in (prior, again)]
    torch.testing.assert_close(*drawn, atol=2e-3, rtol=0)


@pytest.fixture(scope="module")
def bootstrapped(trained_tiny: Bundle, registry: Registry) -> BootstrapNoise:
    """The prior, of the very frames that the tiny bundle keeps as references."""
    from echosdk.clips.array import ArrayClip

    train, _, _ = trained_tiny.references()
    clips = [
        ArrayClip(id=f"{i}", group=group, labels={}, frames=item[None].numpy())
        for i, (group, item) in enumerate(zip(train.groups, train.items, strict=True))
    ]
    prior = registry.build("image_prior", "bootstrap-noise", {})
    prior.fit(
        TrainingData(train=clips, val=clips, labels=(), fps=16.0, shape=tuple(train.items.shape[1:])),
        Run(folder=Path()),
    )
    return prior


@pytest.mark.parametrize("name", ["pearson-reid", "pixel-correlation"])
def test_the_filters_reject_what_the_bootstrap_copied_and_keep_noise(
    name: str, bootstrapped: BootstrapNoise, trained_tiny: Bundle, registry: Registry
) -> None:
    encoder = trained_tiny.plugin_set.build(registry, "encoder")
    trained_tiny.load("encoder", encoder, "vae")
    own = trained_tiny.plugin_set.choices["privacy_filter"]
    privacy_filter = registry.build("privacy_filter", name, own.parameters if own.use == name else {})
    if own.use == name:
        trained_tiny.load("privacy_filter", privacy_filter, name)
    train, holdout, videos = trained_tiny.references()
    gate = Gate(name, privacy_filter, encoder)
    gate.calibrate(train, holdout, videos, trained_tiny.noise_key)
    assert not gate.judge_stills(bootstrapped.sample(generators(*range(64)), [{}] * 64)).keep.any()
    assert gate.judge_stills(3 * torch.randn(16, *train.items.shape[1:])).keep.all()


def test_a_stripped_bundle_of_copies_is_refused_even_without_a_filter(
    bootstrapped: BootstrapNoise, tiny_bundle: Path, registry: Registry, tmp_path: Path
) -> None:
    bundle = Bundle.open(str(tiny_bundle))
    made = {"choice": {"use": "bootstrap-noise", "parameters": {}}}
    add_stage(bundle, "image_prior", bootstrapped, bundle.manifest.stages["encoder"].public, made)
    assert (tiny_bundle / "private" / "image_prior" / "stills.safetensors").is_file()
    assert not (tiny_bundle / "image_prior").exists()
    strip(Bundle.open(str(tiny_bundle)), tmp_path / "stripped")
    options = Options(
        plugin_set="default-tiny", bundle=str(tmp_path / "stripped"), use=("image_prior=bootstrap-noise",),
        num_videos=1, num_frames=4, privacy_filter=False,
    )  # fmt: skip
    with pytest.raises(PrivacyError) as error:
        generate(str(tmp_path / "out"), options=options, registry=registry)
    assert str(error.value) == "bootstrap-noise: its stills are real records, and this bundle was stripped"


def smooth(number: int, seed: int) -> torch.Tensor:
    coarse = torch.randn(number, 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=48, mode="bilinear").clamp(-1, 1)


@pytest.fixture
def calibrated() -> PixelCorrelation:
    privacy_filter = PixelCorrelation(size=16)
    train, holdout = smooth(24, 0), smooth(40, 1)
    privacy_filter.calibrate(
        References(items=train, groups=map(str, range(24))),
        References(items=holdout, groups=map(str, range(40))),
        torch.Generator(),
    )
    return privacy_filter


def test_pixel_correlation_is_that_of_the_reduced_images(calibrated: PixelCorrelation) -> None:
    reduced = [
        x.double().reshape(len(x), 16, 3, 16, 3).mean((2, 4)).flatten(1).numpy() for x in (smooth(6, 2), smooth(24, 0))
    ]
    expected = [1 - max(np.corrcoef(one, other)[0, 1] for other in reduced[1]) for one in reduced[0]]
    np.testing.assert_allclose(calibrated.judge(smooth(6, 2)).distance.numpy(), expected, atol=1e-9)


def test_pixel_correlation_rejects_copies_and_about_one_stranger_in_twenty(calibrated: PixelCorrelation) -> None:
    assert not calibrated.judge(smooth(24, 0)).keep.any()
    assert not calibrated.judge(0.5 * smooth(24, 0) + 0.2).keep.any()  # another gain and brightness
    assert calibrated.judge(smooth(400, 3)).keep.float().mean() == pytest.approx(0.95, abs=0.05)


def test_pixel_correlation_judges_each_image_by_itself_and_changes_nothing(calibrated: PixelCorrelation) -> None:
    stills = smooth(8, 4)
    before, together = stills.clone(), calibrated.judge(stills)
    alone = torch.cat([calibrated.judge(still[None]).distance for still in stills])
    torch.testing.assert_close(together.distance, alone, atol=1e-12, rtol=0)
    assert torch.equal(stills, before)


def test_an_image_of_one_value_correlates_with_nothing(calibrated: PixelCorrelation) -> None:
    assert calibrated.judge(torch.full((1, 1, 48, 48), 0.3)).distance.item() == pytest.approx(1)


def test_pixel_correlation_fails_closed() -> None:
    with pytest.raises(PrivacyError, match=r"^pixel-correlation: judged before it was calibrated$"):
        PixelCorrelation().judge(smooth(1, 0))
    nobody = References(items=smooth(1, 0)[:0], groups=())
    with pytest.raises(PrivacyError, match=r"^pixel-correlation: needs training and held-out references"):
        PixelCorrelation().calibrate(nobody, nobody, torch.Generator())


def test_a_static_video_is_the_still_in_every_frame(data_of: Any, latents: Any, registry: Registry, tmp_path: Path) -> None:
    animator = Static(window=8)
    animator.fit(data_of(("a", latents(4))), Run(folder=tmp_path / "run"))
    animator = reloaded(animator, Static(window=8), tmp_path)
    stills = torch.from_numpy(latents(2))
    for stitcher in registry.names("stitcher"):
        made = registry.build("stitcher", stitcher, {}).animate(animator, stills, [{}] * 2, 19, generators(1, 2))
        torch.testing.assert_close(made, stills[:, None].expand(2, 19, 4, 8, 8))


@pytest.fixture
def views(data_of: Any) -> TrainingData:
    """Apical clips are brighter at the left, axial ones at the right."""
    ramp = np.linspace(0, 200, 16)[None, None].repeat(16, 1)
    noise = [np.random.default_rng(i).integers(0, 50, (6, 16, 16)) for i in range(8)]
    clips = [(f"{i}", ((ramp if i % 2 else ramp[..., ::-1]) + noise[i]).astype(np.uint8)) for i in range(8)]
    data = data_of(*clips, labels=(echosdk.Label(name="EF", unit="%", low=0, high=100), VIEW))
    for i, clip in enumerate(data.train):
        clip.labels["view"] = VIEW.values[i % 2]
    return data


def classifier(**parameters: Any) -> CategoryClassifier:
    recipe = Recipe(steps=60, batch_size=8, learning_rate=1e-2)
    return CategoryClassifier(**{"widths": (4, 8), "num_frames": 3, "period": 2, "size": 8, "recipe": recipe} | parameters)


def test_the_classifier_learns_a_category_and_is_the_same_when_it_is_loaded(views: TrainingData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fitted = classifier()
    facts = fitted.fit(views, Run(folder=tmp_path / "run"))
    assert facts["validation"] == {"n": 8, "accuracy": 1.0, "balanced_accuracy": 1.0, "commonest": 0.5}
    again = reloaded(fitted, classifier(), tmp_path)
    assert (again.label, again.fps) == ("view", 16.0)
    for clip in views.train:
        assert again.predict(clip) == fitted.predict(clip) == {"view": clip.labels["view"]}


def test_the_classifiers_score_counts_each_value_alike(views: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = classifier(label="view")
    monkeypatch.setattr(CategoryClassifier, "predict", lambda self, clip: {"view": "axial"})
    axial = [clip for clip in views.train if clip.labels["view"] == "axial"]
    apical = [clip for clip in views.train if clip.labels["view"] == "apical"]
    score = fitted.score([*axial[:3], *apical[:1]])
    assert score == {"n": 4, "accuracy": 0.75, "balanced_accuracy": 0.5, "commonest": 0.75}


def test_a_clip_of_one_frame_is_classified(views: TrainingData, data_of: Any, tmp_path: Path) -> None:
    fitted = classifier(recipe=QUICK)
    fitted.fit(views, Run(folder=tmp_path))
    assert fitted.predict(data_of(("a", video(1))).train[0])["view"] in VIEW.values


def test_without_a_category_there_is_nothing_to_classify(data_of: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as error:
        classifier().fit(data_of(("a", video())), Run(folder=tmp_path))
    assert str(error.value) == "category-classifier: no category ''; those of the data are []"


@pytest.mark.parametrize("kind", echosdk.interfaces.KINDS)
def test_there_is_an_alternative_in_every_place_and_no_filter_none(kind: str, registry: Registry) -> None:
    assert len(registry.names(kind)) >= 2
    assert "none" not in registry.names(kind)
