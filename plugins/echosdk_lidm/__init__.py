"""The paper's latent image diffusion model, as a plugin."""

import echosdk
from echosdk_lidm.lidm import LIDM


@echosdk.hookimpl
def echosdk_image_priors():
    yield echosdk.Component(
        name="lidm",
        build=LIDM,
        summary="UNet2DModel: unconditional latent diffusion of stills.",
        shape=("blocks", "layers_per_block", "attention_head_dim", "norm_groups", "recipe"),
    )
