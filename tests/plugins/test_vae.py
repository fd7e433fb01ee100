"""The encoder: images to latents and back, and its loss."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import echosdk_vae.vae as module
import numpy as np
import pytest
import torch
from echosdk_vae import VAE, perceptual
from echosdk_vae.adversarial import PatchDiscriminator, smallest_side
from safetensors.torch import save_file

import echosdk
from echosdk import Registry, Run, Switches
from echosdk.bundle import Bundle
from echosdk.training import Recipe


def tiny(**parameters: Any) -> VAE:
    return VAE(
        **{"blocks": (8, 8, 8), "layers_per_block": 1, "norm_groups": 4, "channels": 1, "lpips": "off"} | parameters
    )


def pixels(frames: int, side: int = 32, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (frames, side, side), np.uint8)


def random_weights(**parameters: Any) -> VAE:
    vae = tiny(**parameters)
    vae._image = (1, 32, 32)
    torch.manual_seed(0)
    vae._network = vae._make_network().eval()
    return vae


def test_one_image_and_eight_are_encoded_and_decoded_alike() -> None:
    vae = random_weights()
    images = torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = vae.encode(images)
    assert latents.shape[1:] == vae.latent_shape == (4, 8, 8)
    one_by_one = torch.cat([vae.encode(image[None]) for image in images])
    torch.testing.assert_close(latents, one_by_one, atol=1e-5, rtol=1e-5)
    decoded = torch.cat([vae.decode(latent[None]) for latent in latents])
    torch.testing.assert_close(vae.decode(latents), decoded, atol=1e-5, rtol=1e-5)
    assert decoded.shape == images.shape


def test_a_network_of_three_channels_takes_and_gives_grey_images() -> None:
    vae = random_weights(channels=3)
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    assert vae.decode(vae.encode(images)).shape == images.shape


def test_published_weights_are_scaled_by_their_scaling_factor() -> None:
    vae = random_weights()
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    with torch.no_grad():
        mode = vae._network.encode(images).latent_dist.mode()
    torch.testing.assert_close(vae.encode(images), 0.18215 * mode)


def test_trained_latents_have_unit_scale_in_every_channel(trained_tiny: Bundle, registry: Registry) -> None:
    encoder = trained_tiny.plugin_set.build(registry, "encoder")
    trained_tiny.load("encoder", encoder, "vae")
    train, _, _ = trained_tiny.references()
    assert train.items.mean((0, 2, 3)).abs().max() < 0.1
    assert (train.items.std((0, 2, 3)) - 1).abs().max() < 0.1
    assert train.items.shape[1:] == encoder.latent_shape


def test_its_quality_counts_no_frame_twice(trained_tiny: Bundle) -> None:
    facts = trained_tiny.manifest.stages["encoder"].provenance["facts"]["reconstruction"]
    data = trained_tiny.manifest.data
    frames = data["val_clips"] * round(data["parameters"]["frames"] * trained_tiny.manifest.fps / 32)  # resampled
    assert frames < module.FRAMES_FOR_STATISTICS
    assert (facts["frames"], facts["patients"]) == (frames, data["val_patients"])


def test_sides_that_do_not_halve_are_refused(data_of: Any, tmp_path: Path) -> None:
    with pytest.raises(echosdk.TrainingError) as error:
        tiny().fit(data_of(("a", pixels(2, side=30))), Run(folder=tmp_path))
    assert str(error.value) == "frames of 30x30: both sides must be multiples of 4"


def test_colours_are_refused_by_a_network_of_one_channel(data_of: Any, tmp_path: Path) -> None:
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    with pytest.raises(echosdk.TrainingError) as error:
        tiny(channels=1).fit(data_of(("a", frames)), Run(folder=tmp_path))
    assert str(error.value) == (
        "encoder.channels: frames of 32x32 have 3 channels, and a network of 1 sees grey images only; "
        "--set encoder.channels=3, or give grey frames"
    )


def test_the_loss_is_squared_error_and_a_little_kl(training_of: Any, data_of: Any) -> None:
    given = training_of(module, tiny(kl_weight=0.5), data_of(("a", pixels(3)), ("b", pixels(3, seed=1))))
    generator = torch.Generator().manual_seed(0)
    image, decoded = torch.rand(2, 1, 8, 8, generator=generator), torch.rand(2, 1, 8, 8, generator=generator)
    mean, logvar = torch.randn(2, 4, 2, 2, generator=generator), torch.randn(2, 4, 2, 2, generator=generator)
    loss = given["loss"](lambda image, noise: (decoded, mean, logvar), {"image": image, "noise": None})
    posterior = torch.distributions.Normal(mean, (logvar / 2).exp())
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum((1, 2, 3)).mean()
    torch.testing.assert_close(loss, (decoded - image).square().mean() + 0.5 * kl)


def convolutions(net: str) -> dict[str, torch.Tensor]:
    """Zeros in the shapes of a network's convolutions."""
    made = {}
    for place, (out, into, side) in perceptual.CONVOLUTIONS[net].items():  # type: ignore[index]
        made[f"features.{place}.weight"] = torch.zeros(out, into, side, side, dtype=torch.float16)
        made[f"features.{place}.bias"] = torch.zeros(out, dtype=torch.float16)
    return made


@pytest.mark.parametrize(("net", "name"), [("alex", "vgg-or-not.safetensors"), ("vgg", "mine.safetensors"), ("alex", "mine.pth")])
def test_of_which_network_a_files_weights_are_is_seen_by_their_shapes(
    net: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(perceptual, "lpips_network", lambda *of: asked.append(of))
    path = tmp_path / name
    torch.save(convolutions(net), path) if path.suffix == ".pth" else save_file(convolutions(net), path)
    tiny(lpips=str(path)).check_training()
    perceptual.perceptual_loss(str(path))
    assert asked == [(net, path)]


@pytest.mark.parametrize("name", ["mine.safetensors", "mine.pth"])
@pytest.mark.parametrize(
    ("held", "says"),
    [
        (b"junk", "cannot be read as weights; give a safetensors file, or --set encoder.lpips=off"),
        ({"features.0.weight": torch.zeros(64, 3, 11, 11)},
         "holds neither AlexNet's nor VGG16's convolutions (features.0.weight ...); give a file that does, or --set "
         "encoder.lpips=off"),
    ],
)  # fmt: skip
def test_a_file_of_other_weights_is_refused_before_any_data_is_read(
    held: Any, says: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if isinstance(held, bytes):
        path.write_bytes(held)
    elif path.suffix == ".pth":
        torch.save(held, path)
    else:
        save_file(held, path)
    with pytest.raises(echosdk.InputError) as error:
        tiny(lpips=str(path)).check_training()
    assert str(error.value) == f"encoder.lpips: {path}: {says}"


def test_frames_are_drawn_without_a_list_of_all(data_of: Any) -> None:
    clips = data_of(*(("a", pixels(length, side=1)) for length in (3, 1, 4))).train
    every = [(clip, index) for clip in clips for index in range(clip.num_frames)]
    order = torch.randperm(8, generator=torch.Generator().manual_seed(5)).tolist()
    drawn = module._some(clips, torch.Generator().manual_seed(5))
    assert [(clip.id, index) for clip, index in drawn] == [(every[i][0].id, every[i][1]) for i in order]
    long = data_of(*(("a", np.broadcast_to(np.uint8(0), (100_000, 1, 1))) for _ in range(2))).train
    tracemalloc.start()
    assert len(module._some(long, torch.Generator().manual_seed(5))) == module.FRAMES_FOR_STATISTICS
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


def test_a_compiled_network_learns_the_same_against_a_discriminator(
    data_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adaptive weight runs backward through it twice, for which its buffers have to stay."""
    recipe = Recipe(steps=2, batch_size=2, learning_rate=1e-3)
    data = data_of(("a", pixels(3, side=16)), ("b", pixels(3, side=16, seed=1)))
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: real(network, backend="aot_eager_decomp_partition"))
    weights = []
    for compiled in (True, False):
        torch.manual_seed(0)
        vae = tiny(blocks=(4,), norm_groups=2, gan_weight=0.5, gan_start=1, gan_width=4, gan_layers=1, recipe=recipe)
        vae.fit(data, Run(folder=tmp_path / str(compiled), seed=3, switches=Switches(compile=compiled)))
        weights.append(vae._network.state_dict())
        assert torch._functorch.config.donated_buffer  # as it was
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=1e-3, rtol=1e-3)


def test_missing_lpips_weights_are_an_error_that_says_how_to_get_or_do_without_them(
    data_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHOSDK_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    torch.hub.set_dir(os.path.join(tmp_path, "torch", "hub"))
    try:
        with pytest.raises(echosdk.TrainingError) as error:
            tiny(lpips="alex").fit(data_of(("a", pixels(2))), Run(folder=tmp_path))
    finally:
        torch.hub._hub_dir = None
    assert "echosdk weights import lpips-alex" in str(error.value)
    assert "--set encoder.lpips=off" in str(error.value)


def test_other_lpips_weights_in_the_place_of_those_published_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOSDK_WEIGHTS", str(tmp_path))
    save_file(convolutions("alex"), tmp_path / "lpips-alex.safetensors")
    with pytest.raises(echosdk.InputError) as error:
        tiny(lpips="alex").check_training()
    assert str(error.value).startswith(f"{tmp_path / 'lpips-alex.safetensors'}: holds other weights than were published; ")
    tiny(lpips=str(tmp_path / "lpips-alex.safetensors")).check_training()  # asked for by its name, it is a choice


def test_the_adversarial_term_is_as_long_at_the_last_layer_as_its_weight_says(training_of: Any, data_of: Any) -> None:
    vae = tiny(gan_weight=0.5, gan_start=7, gan_width=4, gan_layers=2)
    given = training_of(module, vae, data_of(("a", pixels(3)), ("b", pixels(3, seed=1))))
    adversary, network = given["adversary"], given["network"]
    assert adversary.start == 7
    batch = torch.utils.data.default_collate([given["example"](torch.Generator().manual_seed(i)) for i in range(3)])
    last = vae._network.decoder.conv_out.weight

    def gradient(value: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(value, last)[0]

    against, (real, made) = adversary.against(network, batch)
    assert not made.requires_grad
    assert torch.equal(real, batch["image"])
    plain = gradient(given["loss"](network, batch))  # KL does not depend on the decoder
    added = gradient(against) - plain
    assert added.norm() / plain.norm() == pytest.approx(0.5, rel=0.02)
    fooling = gradient(-adversary.network(network(batch["image"], batch["noise"])[0]).mean())
    assert torch.cosine_similarity(added.flatten(), fooling.flatten(), 0) > 0.99


def test_the_discriminator_is_told_real_from_made_up_to_a_margin(training_of: Any, data_of: Any) -> None:
    given = training_of(module, tiny(gan_weight=0.5, gan_layers=1), data_of(("a", pixels(3)), ("b", pixels(3, seed=1))))
    real, made = torch.full((2, 1, 8, 8), 0.5), torch.full((2, 1, 8, 8), -3.0)
    loss = given["adversary"].loss(lambda images: images, (real, made))
    assert float(loss) == pytest.approx(0.5 * (0.5 + 0.0))  # real lacks 0.5 to the margin, made is beyond it


def test_the_discriminator_is_patch_gans_and_judges_an_image_by_itself() -> None:
    discriminator = PatchDiscriminator(3, 64, 3)
    convolutions = [each for each in discriminator if isinstance(each, torch.nn.Conv2d)]
    assert [each.out_channels for each in convolutions] == [64, 128, 256, 512, 1]
    assert [each.stride[0] for each in convolutions] == [2, 2, 2, 1, 1]
    images = torch.rand(3, 3, 112, 112)
    assert discriminator(images).shape == (3, 1, 12, 12)
    alone = torch.cat([discriminator(image[None]) for image in images])
    torch.testing.assert_close(discriminator(images), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_frames_without_a_patch_are_refused(layers: int, data_of: Any, tmp_path: Path) -> None:
    side = smallest_side(layers)
    assert PatchDiscriminator(1, 4, layers)(torch.zeros(1, 1, side, side)).shape[2:] == (1, 1)
    with pytest.raises((RuntimeError, ValueError)):
        PatchDiscriminator(1, 4, layers)(torch.zeros(1, 1, side - 2**layers, side - 2**layers))
    with pytest.raises(echosdk.TrainingError) as error:
        tiny(gan_weight=0.5, gan_layers=4).fit(data_of(("a", pixels(2))), Run(folder=tmp_path))
    assert str(error.value) == (
        "encoder.gan_layers: 4 halvings leave no patch of frames of 32x32; give fewer, or leave the term out: "
        "--set encoder.gan_weight=0.0"
    )


def test_with_a_discriminator_a_run_stopped_and_resumed_gives_the_same_encoder(data_of: Any, tmp_path: Path) -> None:
    recipe = Recipe(steps=6, batch_size=2, learning_rate=1e-3, checkpoint_every=2)
    data = data_of(("a", pixels(3)), ("b", pixels(3, seed=1)))

    def fitted(folder: Path, stop_at: int | None = None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        vae, steps = tiny(gan_weight=0.5, gan_start=2, gan_width=4, gan_layers=2, recipe=recipe), 0

        def stops(original: Any) -> Any:
            def call(*arguments: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps - 1 == stop_at:
                    raise KeyboardInterrupt
                return original(*arguments)

            return call

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "hinge", stops(module.hinge))
            vae.fit(data, Run(folder=folder, seed=3))
        return vae._network.state_dict()

    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "stopped", stop_at=3)
    resumed, whole = fitted(tmp_path / "stopped"), fitted(tmp_path / "whole")
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
