"""The image prior: what it is trained on, and what it draws."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import echosdk_lidm.lidm as module
import pytest
import torch
from echosdk_lidm import LIDM


def tiny(**parameters: Any) -> LIDM:
    return LIDM(
        **{"blocks": (8, 8), "layers_per_block": 1, "attention_head_dim": 4, "norm_groups": 4, "num_inference_steps": 3}
        | parameters
    )


def random_weights(side: int = 8, **parameters: Any) -> LIDM:
    prior = tiny(**parameters)
    prior._latent = (4, side, side)
    torch.manual_seed(0)
    prior._network = prior._make_network().eval()
    return prior


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("side", [14, 15, 16])
def test_any_side_is_padded_to_sixteen_and_cropped_back(side: int) -> None:
    """The published code pads a side of 15 to 16 and crops it to nothing, and 16 to 24."""
    prior, seen = random_weights(side), []
    prior._network.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0].shape[-2:]))
    assert prior.sample(generators(1, 2), [{}] * 2).shape == (2, 4, side, side)
    assert set(seen) == {(16, 16)}


def test_the_padding_repeats_the_last_row_and_column() -> None:
    latents = torch.randn(1, 4, 14, 15)
    padded = module.pad(latents)
    assert torch.equal(padded[..., :14, :15], latents)
    assert torch.equal(padded[..., 15, :15], latents[..., 13, :])
    assert torch.equal(padded[..., :14, 15], latents[..., 14])


@pytest.mark.parametrize("sampler", ["ddpm", "dpmsolver++"])
def test_a_still_depends_on_nothing_but_its_own_generator(sampler: Any) -> None:
    prior = random_weights(sampler=sampler)
    eight = prior.sample(generators(*range(8)), [{}] * 8)
    others = prior.sample(generators(5, 20, 3), [{"EF": 10.0}, {"EF": 80.0}, {"EF": 55.0}])
    alone = prior.sample(generators(3), [{}])
    torch.testing.assert_close(eight[3:4], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(others[2:3], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(others[:1], eight[5:6], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(eight[0], eight[1], atol=0.1)


def test_the_target_is_alpha_noise_minus_sigma_latents(training_of: Any, data_of: Any, latents: Any) -> None:
    given = training_of(module, tiny(), data_of(("a", latents(5))))
    batch = {k: v[None] for k, v in given["example"](torch.Generator().manual_seed(0)).items()}
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)[batch["timestep"]]
    velocity = alpha_bar.sqrt() * batch["noise"] - (1 - alpha_bar).sqrt() * batch["still"]

    def nothing(noisy: torch.Tensor, timestep: Any) -> Any:
        return SimpleNamespace(sample=torch.zeros_like(noisy))

    torch.testing.assert_close(given["loss"](nothing, batch), velocity.square().mean(), rtol=1e-4, atol=1e-5)


def test_every_frame_of_every_clip_is_learnt_from(training_of: Any, data_of: Any, latents: Any) -> None:
    """The published code drops clips under two seconds."""
    long, one_frame = latents(4), latents(1, seed=1)
    given = training_of(module, tiny(), data_of(("a", long), ("b", one_frame)))
    drawn = {float(given["example"](torch.Generator().manual_seed(seed))["still"][0, 0, 0]) for seed in range(100)}
    assert drawn == {float(frame[0, 0, 0]) for frame in (*long, *one_frame)}


def test_losses_are_each_items_own_and_those_of_a_network_that_says_nothing_are_of_v() -> None:
    model = random_weights()
    items = torch.randn(3, 4, 8, 8)
    conditions: Any = [{}] * 3
    losses = model.losses(items, conditions, generators(1, 2, 3))
    alone = model.losses(items[2:], conditions[2:], generators(3))
    torch.testing.assert_close(losses[2:], alone, atol=1e-5, rtol=1e-4)
    assert losses.shape == (3,)
    for parameter in model._network.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(  # v has unit variance, as its two parts have
        model.losses(items, conditions, generators(1, 2, 3)), torch.ones(3), atol=0.25, rtol=0
    )
