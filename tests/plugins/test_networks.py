"""The default components have the paper's shapes. Networks are made on the meta device: no memory, no weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from echosdk_ef.network import make_network
from echosdk_lidm import LIDM
from echosdk_lvdm import LVDM
from echosdk_lvdm.conditions import Scaling
from echosdk_reid.network import ReIdentification
from echosdk_vae import VAE

from echosdk import Registry
from echosdk.plugin_set import PluginSet, resolve


@pytest.fixture(scope="module")
def default(registry: Registry) -> dict[str, Any]:
    return resolve(registry, PluginSet.find("default", registry)).build_all(registry)


def millions(network: torch.nn.Module) -> float:
    return round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1)


def test_the_vae_is_the_papers(default: dict[str, Any]) -> None:
    vae: VAE = default["encoder"]
    vae._image = (3, 112, 112)
    with torch.device("meta"):
        network = vae._make_network()
    assert millions(network) == 62.4
    assert vae.latent_shape == (4, 14, 14)
    assert list(network.config.block_out_channels) == [128, 256, 256, 512]
    assert (network.config.layers_per_block, network.config.in_channels, network.config.latent_channels) == (2, 3, 4)
    assert network.config.scaling_factor == 0.18215
    assert (vae.kl_weight, vae.recipe.batch_size, vae.recipe.learning_rate) == (1e-6, 256, 5e-4)
    assert (vae.lpips, vae.lpips_weight, vae.gan_weight, vae.gan_start) == ("alex", 1.0, 0.5, 50_001)
    assert vae.recipe.steps > vae.gan_start


def test_the_lidm_is_the_papers(default: dict[str, Any]) -> None:
    lidm: LIDM = default["image_prior"]
    lidm._latent = (4, 14, 14)
    with torch.device("meta"):
        network = lidm._make_network()
    config = network.config
    assert millions(network) == 73.5
    assert config.down_block_types == ("AttnDownBlock2D",) * 3 + ("DownBlock2D",)
    assert config.up_block_types == ("UpBlock2D",) + ("AttnUpBlock2D",) * 3
    assert list(config.block_out_channels) == [128, 256, 256, 512]
    assert (config.layers_per_block, config.attention_head_dim) == (2, 8)
    assert (config.downsample_type, config.upsample_type) == ("resnet", "resnet")
    assert tuple(config.sample_size) == (16, 16)
    assert config.in_channels == config.out_channels == 4
    assert (lidm.recipe.batch_size, lidm.recipe.learning_rate, lidm.num_inference_steps) == (256, 3e-4, 64)


def test_the_lvdm_is_the_papers(default: dict[str, Any]) -> None:
    lvdm: LVDM = default["video_animator"]
    lvdm._latent, lvdm._scalings = (4, 14, 14), (Scaling(name="EF", scale=100.0),)
    with torch.device("meta"):
        network = lvdm._make_network()
    config = network.config
    assert millions(network) == 143.8
    assert config.down_block_types == ("CrossAttnDownBlockSpatioTemporal",) * 3 + ("DownBlockSpatioTemporal",)
    assert config.up_block_types == ("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * 3
    assert list(config.block_out_channels) == [128, 256, 256, 512]
    assert list(config.num_attention_heads) == [8, 16, 16, 32]
    assert (config.layers_per_block, config.cross_attention_dim, config.num_frames) == (2, 1, 64)
    assert (config.in_channels, config.out_channels, tuple(config.sample_size)) == (8, 4, (16, 16))
    assert (config.addition_time_embed_dim, config.projection_class_embeddings_input_dim) == (1, 1)
    assert (lvdm.window, lvdm.condition_dropout, lvdm.noise_offset) == (64, 0.1, 0.1)
    assert (lvdm.sampler, lvdm.num_inference_steps, lvdm.guidance_scale) == ("ddpm", 64, 1.0)
    assert (lvdm.recipe.batch_size, lvdm.recipe.learning_rate) == (128, 1e-4)
    assert lvdm.recipe.ema_decay > 0


def test_the_re_identification_network_is_the_papers(default: dict[str, Any]) -> None:
    reid = default["privacy_filter"]
    assert (reid.architecture, reid.features, reid.percentile) == ("resnet50", 128, 5.0)
    assert reid.patience * reid.look_every == 50 * (7465 // 128)  # epochs without an improvement
    assert (reid.recipe.optimizer, reid.recipe.learning_rate, reid.recipe.batch_size) == ("adam", 1e-4, 128)
    with torch.device("meta"):
        network = ReIdentification(reid.architecture, reid.layers, 4, reid.features)
        assert network.embed(torch.zeros(2, 4, 14, 14)).shape == (2, 128)
    assert network.model.conv1.in_channels == 4
    assert (network.fc_end.in_features, network.fc_end.out_features) == (128, 1)
    assert len(network.model.layer3) == 6  # that of a ResNet-50


def test_the_regressor_is_the_papers(default: dict[str, Any]) -> None:
    regressor = default["downstream_validator"]
    assert (regressor.architecture, regressor.num_frames, regressor.period) == ("r2plus1d-18", 32, 2)
    assert (regressor.min_frames, regressor.every) == (63, 1)  # a video is read at every start
    network = make_network("r2plus1d-18", (), 55.6)
    assert network.fc.bias.tolist() == pytest.approx([55.6])
    assert millions(network) == 31.3


@pytest.mark.parametrize("module", ["lidm", "lvdm"])
def test_both_diffusion_models_are_the_papers_process(module: str) -> None:
    import echosdk_lidm.lidm
    import echosdk_lvdm.lvdm

    config = {"lidm": echosdk_lidm.lidm, "lvdm": echosdk_lvdm.lvdm}[module].make_scheduler("ddpm").config
    assert (config.num_train_timesteps, config.beta_schedule) == (1000, "linear")
    assert (config.beta_start, config.beta_end) == (1e-4, 0.02)
    assert (config.prediction_type, config.variance_type) == ("v_prediction", "fixed_small")
    assert (config.clip_sample, config.clip_sample_range, config.timestep_spacing) == (True, 4.0, "leading")
