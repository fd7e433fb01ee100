"""The paper's variational auto-encoder, as a plugin."""

import echosdk
from echosdk_vae.vae import VAE


@echosdk.hookimpl
def echosdk_encoders():
    yield echosdk.Component(
        name="vae",
        build=VAE,
        summary="AutoencoderKL: images to latents an eighth of their size and back.",
        shape=("blocks", "layers_per_block", "latent_channels", "channels", "norm_groups", "kl_weight", "lpips",
               "lpips_weight", "gan_weight", "gan_start", "gan_width", "gan_layers", "recipe"),
    )
