"""The video animator: what it is trained on, and what it predicts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import echosdk_lvdm.lvdm as module
import numpy as np
import pytest
import torch
from echosdk_lvdm import LVDM
from echosdk_lvdm.conditions import Scaling, context, scalings_of

from echosdk import Category, Label


def tiny(**parameters: Any) -> LVDM:
    tiny = {"window": 8, "blocks": (32, 32), "attention": (True, False), "heads": (2, 2), "layers_per_block": 1}
    return LVDM(**tiny | parameters)


def random_weights(latent: tuple[int, int, int] = (4, 8, 8), **parameters: Any) -> LVDM:
    animator = tiny(**parameters)
    animator._latent, animator._scalings = latent, (Scaling(name="EF", scale=100.0),)
    torch.manual_seed(0)
    animator._network = animator._make_network().eval()
    return animator


def drawn(example: Any, number: int) -> dict[str, torch.Tensor]:
    examples = [example(torch.Generator().manual_seed(seed)) for seed in range(number)]
    return {key: torch.stack([e[key] for e in examples]) for key in examples[0]}


class FrameByFrame(torch.nn.Module):
    """Stands in for the network: what it says of a frame depends on nothing but that frame."""

    def forward(self, seen: torch.Tensor, timestep: Any, token: Any, ids: Any) -> Any:
        return SimpleNamespace(sample=0.5 * seen[:, :, :4])


class Nothing(torch.nn.Module):
    def forward(self, seen: torch.Tensor, timestep: Any, token: Any, ids: Any) -> Any:
        return SimpleNamespace(sample=torch.zeros_like(seen[:, :, :4]))


@pytest.fixture
def short(training_of: Any, data_of: Any, latents: Any) -> dict[str, Any]:
    """What is trained on clips of 5 frames, with a window of 8."""
    return training_of(module, tiny(), data_of(("a", latents(5)), ("b", latents(5, seed=1))))


def test_the_label_is_dropped_in_a_tenth_of_the_examples(short: dict[str, Any]) -> None:
    """The published code computes the mask and never uses it."""
    tokens = drawn(short["example"], 1000)["token"].flatten()
    assert set(tokens.tolist()) == {0.0, 0.5}
    assert 0.07 < (tokens == 0).float().mean() < 0.13


def test_the_label_is_never_dropped_where_dropout_is_off(training_of: Any, data_of: Any, latents: Any) -> None:
    given = training_of(module, tiny(condition_dropout=0.0), data_of(("a", latents(8))))
    assert (drawn(given["example"], 100)["token"] == 0.5).all()


def test_padded_frames_count_for_nothing_in_the_loss(short: dict[str, Any]) -> None:
    """The published code's mask keeps one padded frame."""
    batch = drawn(short["example"], 2)
    assert batch["real"].tolist() == [[1.0] * 5 + [0.0] * 3] * 2
    loss = short["loss"](FrameByFrame(), batch)
    padded = {**batch, "video": batch["video"].clone(), "noise": batch["noise"].clone()}
    padded["video"][:, 5:] += 3
    padded["noise"][:, 5:] -= 2
    assert torch.equal(short["loss"](FrameByFrame(), padded), loss)
    last = {**batch, "video": batch["video"].clone()}
    last["video"][:, 4] += 3
    assert not torch.equal(short["loss"](FrameByFrame(), last), loss)


def test_a_batch_in_parts_has_the_gradient_of_the_whole_where_its_clips_are_of_two_lengths(
    training_of: Any, data_of: Any, latents: Any
) -> None:
    """The loop weights a part by its share of the examples, not of the real frames."""
    given = training_of(module, tiny(), data_of(("a", latents(8)), ("b", latents(2, seed=1))))
    batch = drawn(given["example"], 20)
    of_each = [int((batch["real"].sum(1) == length).nonzero()[0]) for length in (8, 2)]
    network, loss = given["network"], given["loss"]

    def gradient(*parts: list[int]) -> torch.Tensor:
        network.zero_grad()
        for part in parts:
            (loss(network, {key: value[part] for key, value in batch.items()}) / len(parts)).backward()
        return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])

    whole = gradient(of_each)
    assert whole.norm() > 0
    torch.testing.assert_close(gradient(of_each[:1], of_each[1:]), whole, atol=1e-5, rtol=1e-4)


def test_the_target_is_alpha_noise_minus_sigma_latents(short: dict[str, Any]) -> None:
    batch = drawn(short["example"], 3)
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)[batch["timestep"]]
    alpha, sigma = (x.sqrt()[:, None, None, None, None] for x in (alpha_bar, 1 - alpha_bar))
    velocity = alpha * batch["noise"] - sigma * batch["video"]
    expected = velocity[:, :5].square().mean()
    torch.testing.assert_close(short["loss"](Nothing(), batch), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precondition", [False, True])
def test_training_sees_the_border_that_sampling_sees(
    precondition: bool, training_of: Any, data_of: Any, latents: Any
) -> None:
    """It repeats the noisy edge: noise of its own there would be something that no sampler ever shows."""
    data = data_of(("a", latents(8, (4, 6, 7))))
    given = training_of(module, tiny(precondition=precondition), data)
    seen = []

    class Watched(Nothing):
        def forward(self, *inputs: Any) -> Any:
            seen.append(inputs[0])
            return super().forward(*inputs)

    given["loss"](Watched(), drawn(given["example"], 3))
    (inputs,) = seen
    assert inputs.shape[-2:] == (8, 8)
    assert torch.equal(inputs[..., 6:, :], inputs[..., 5:6, :].expand_as(inputs[..., 6:, :]))
    assert torch.equal(inputs[..., 7:], inputs[..., 6:7])


def test_the_still_is_a_frame_of_the_clip_and_any_of_them(short: dict[str, Any]) -> None:
    batch = drawn(short["example"], 100)
    same = (batch["video"] == batch["still"][:, None]).flatten(2).all(2)
    assert same[:, :5].any(1).all()
    assert same[:, :4].any(0).all()


def test_noise_has_an_offset_for_each_clip_and_channel(training_of: Any, data_of: Any, latents: Any) -> None:
    given = training_of(module, tiny(noise_offset=1000.0), data_of(("a", latents(8))))
    noise = drawn(given["example"], 50)["noise"]
    offset = noise.mean((1, 3, 4), keepdim=True)
    assert (noise - offset).abs().max() < 7
    assert offset.std() > 500


@pytest.fixture
def preconditioned(training_of: Any, data_of: Any, latents: Any) -> dict[str, Any]:
    animator = tiny(precondition=True)
    return {"animator": animator, **training_of(module, animator, data_of(("a", latents(8))))}


def test_with_precondition_a_silent_network_says_what_the_still_tells(preconditioned: dict[str, Any]) -> None:
    """By hand: x0 normal about the still, seen through noise, has its posterior mean; v follows from it."""
    animator = preconditioned["animator"]
    animator._network, spread = Nothing(), animator._spread
    animator._network.device, animator._network.dtype = torch.device("cpu"), torch.float32
    video, still = torch.randn(1, 8, 4, 8, 8), torch.randn(1, 4, 8, 8)
    for timestep in (0, 10, 300, 700, 999):
        kept = float(torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)[timestep])
        precision = 1 / spread**2 + kept / (1 - kept)
        clean = (still / spread**2 + kept**0.5 / (1 - kept) * video) / precision
        noise = (video - kept**0.5 * clean) / (1 - kept) ** 0.5
        velocity = kept**0.5 * noise - (1 - kept) ** 0.5 * clean
        told = animator.predict(video, timestep, still, [{"EF": 50.0}])
        torch.testing.assert_close(told, velocity, atol=2e-4, rtol=1e-3)


def test_with_precondition_every_noise_level_has_the_same_loss_before_training(preconditioned: dict[str, Any]) -> None:
    batch = drawn(preconditioned["example"], 64)
    still = torch.randn(64, 4, 8, 8)
    video = still[:, None] + preconditioned["animator"]._spread * torch.randn(64, 8, 4, 8, 8)
    noise = torch.randn(64, 8, 4, 8, 8)
    for timestep in (1, 300, 999):
        given = {"video": video, "still": still, "noise": noise, "timestep": torch.full((64,), timestep)}
        assert float(preconditioned["loss"](Nothing(), {**batch, **given})) == pytest.approx(1, abs=0.03)


def test_the_spread_of_videos_about_their_stills_is_kept_with_the_weights(tmp_path: Path) -> None:
    animator = random_weights(precondition=True)
    animator._spread = 0.25
    video, still = torch.randn(1, 8, 4, 8, 8), torch.randn(1, 4, 8, 8)
    animator._network.to(torch.float16).to(torch.float32)  # as weights are kept
    before = animator.predict(video, 500, still, [{"EF": 70.0}])
    animator.save(tmp_path, tmp_path)
    again = tiny(precondition=True)
    again.load(tmp_path, None)
    torch.testing.assert_close(again.predict(video, 500, still, [{"EF": 70.0}]), before)


def test_labels_are_scaled_as_the_bundle_says() -> None:
    labels = (
        Label(name="EF", unit="%", low=10, high=80),
        Label(name="age", unit="years", low=20, high=100),
        Category(name="view", values=("A4C", "PSAX")),
    )
    token = context(scalings_of(labels), [{"EF": 55.0, "age": 40.0, "view": "PSAX"}])
    torch.testing.assert_close(token, torch.tensor([[[0.55, 0.75, 0.0, 1.0]]]))


def test_no_label_is_scaled_to_a_dropped_condition() -> None:
    """A token of zeros is the dropped one. A percentage of 0 is it too, as in the paper: of those there is no other."""
    labels = (Label(name="age", unit="years", low=20, high=100), Category(name="view", values=("A4C", "PSAX")))
    for ages, views in ((20.0, "A4C"), (100.0, "PSAX"), (60.0, "A4C")):
        for label, value in zip(labels, (ages, views), strict=True):
            assert context(scalings_of([label]), [{label.name: value}]).abs().max() >= 0.5
    percent = scalings_of([Label(name="EF", unit="%", low=0, high=100)])
    assert context(percent, [{"EF": 0.0}]).abs().max() == 0


def test_guidance_moves_the_prediction_away_from_the_unconditional_one() -> None:
    animator = random_weights()
    video, still = torch.randn(1, 8, 4, 8, 8), torch.randn(1, 4, 8, 8)

    def predicted(scale: float) -> torch.Tensor:
        animator.guidance_scale = scale
        return animator.predict(video, 500, still, [{"EF": 70.0}])

    conditional, unconditional, guided = predicted(1.0), predicted(0.0), predicted(3.0)
    assert not torch.allclose(conditional, unconditional, atol=1e-6)
    torch.testing.assert_close(guided, unconditional + 3 * (conditional - unconditional), atol=1e-5, rtol=1e-5)
    animator.guidance_scale = 1.0
    assert torch.equal(unconditional, animator.predict(video, 500, still, [{"EF": 0.0}]))


@pytest.mark.parametrize("side", [14, 15, 16])
def test_any_side_is_padded_and_cropped_back(side: int) -> None:
    """The published code pads a side of 15 to 16 and crops it to nothing, and 16 to 24."""
    animator = random_weights((4, side, side), window=2)
    seen = []
    animator._network.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0].shape[-2:]))
    prediction = animator.predict(torch.randn(1, 2, 4, side, side), 5, torch.randn(1, 4, side, side), [{"EF": 50.0}])
    assert prediction.shape == (1, 2, 4, side, side)
    assert seen == [(16, 16)]


def test_predictions_of_one_and_of_eight_agree() -> None:
    animator = random_weights()
    noise = torch.Generator().manual_seed(0)
    videos = torch.randn(8, 8, 4, 8, 8, generator=noise)
    stills = torch.randn(8, 4, 8, 8, generator=noise)
    labels = [{"EF": 10.0 * i} for i in range(8)]
    together = animator.predict(videos, 500, stills, labels)
    alone = [animator.predict(videos[i : i + 1], 500, stills[i : i + 1], labels[i : i + 1]) for i in range(8)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sampler", ["ddpm", "dpmsolver++"])
def test_a_videos_noise_comes_from_its_own_generator(sampler: Any) -> None:
    animator = random_weights(sampler=sampler, num_inference_steps=3)

    def denoised(*seeds: int) -> torch.Tensor:
        denoising = animator.begin(6, [torch.Generator().manual_seed(seed) for seed in seeds])
        for timestep in denoising.timesteps:
            denoising.step(0.1 * denoising.latents, timestep)
        return denoising.latents

    one, other = denoised(1, 2, 3), denoised(2, 4)
    assert torch.equal(one[1], other[0])
    assert not torch.equal(one[0], one[1])


def test_two_videos_denoised_at_once_keep_their_history_apart() -> None:
    animator = random_weights(sampler="dpmsolver++", num_inference_steps=4)

    def begin(seed: int) -> Any:
        return animator.begin(6, [torch.Generator().manual_seed(seed)])

    alone = begin(1)
    for timestep in alone.timesteps:
        alone.step(0.1 * alone.latents, timestep)
    one, other = begin(1), begin(2)
    for timestep in one.timesteps:
        one.step(0.1 * one.latents, timestep)
        other.step(0.3 * other.latents, timestep)
    assert torch.equal(one.latents, alone.latents)


def test_clips_longer_than_the_window_are_cut_anywhere(training_of: Any, data_of: Any) -> None:
    frames = np.broadcast_to(np.arange(10, dtype=np.float32)[:, None, None, None], (10, 4, 8, 8))
    given = training_of(module, tiny(), data_of(("a", frames)))
    firsts = drawn(given["example"], 50)["video"][:, 0, 0, 0, 0]
    assert set(firsts.tolist()) == {0.0, 1.0, 2.0}


def test_attention_is_where_it_is_asked_for_from_the_finest_resolution() -> None:
    animator = random_weights(blocks=(32, 32), attention=(False, True))
    config = animator._network.config
    assert config.down_block_types == ("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal")
    assert config.up_block_types == ("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal")


@pytest.mark.parametrize("attention", [(True,), (False, False)])
def test_attention_is_said_of_every_block_and_is_somewhere(attention: tuple[bool, ...]) -> None:
    with pytest.raises(ValueError) as error:
        tiny(attention=attention)
    assert str(error.value) == "attention: wants true or false for each of 2 blocks, one of them true"


def test_losses_are_each_items_own_and_those_of_a_network_that_says_nothing_are_of_v() -> None:
    model = random_weights()
    items = torch.randn(3, 6, 4, 8, 8)
    conditions: Any = [{"EF": 30.0}, {"EF": 40.0}, {"EF": 60.0}]
    losses = model.losses(items, conditions, [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)])
    alone = model.losses(items[2:], conditions[2:], [torch.Generator().manual_seed(3)])
    torch.testing.assert_close(losses[2:], alone, atol=1e-5, rtol=1e-4)
    assert losses.shape == (3,)
    for parameter in model._network.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(  # v has unit variance, as its two parts have
        model.losses(items, conditions, [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]), torch.ones(3), atol=0.25, rtol=0
    )
