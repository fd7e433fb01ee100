"""Another component for every place of the protocol: simple ones to compare with, and baselines that must lose."""

import echosdk
from echosdk_alternatives.bootstrap import BootstrapNoise
from echosdk_alternatives.classifier import CategoryClassifier
from echosdk_alternatives.identity import Identity
from echosdk_alternatives.pixel_correlation import PixelCorrelation
from echosdk_alternatives.static import Static
from echosdk_alternatives.vae_tiny import TinyVAE


@echosdk.hookimpl
def echosdk_encoders():
    yield echosdk.Component(
        name="identity", build=Identity, summary="The pixels themselves as latents, standardised: for small frames."
    )
    yield echosdk.Component(
        name="vae-tiny",
        build=TinyVAE,
        summary="AutoencoderTiny: convolutions only, trained on squared error; quick, and blurred.",
        shape=("blocks", "layers_per_block", "latent_channels", "channels", "recipe"),
    )


@echosdk.hookimpl
def echosdk_image_priors():
    yield echosdk.Component(
        name="bootstrap-noise",
        build=BootstrapNoise,
        summary="COPIES of real stills with noise: a baseline that a privacy filter has to reject.",
        shape=("stills",),
    )


@echosdk.hookimpl
def echosdk_privacy_filters():
    yield echosdk.Component(
        name="pixel-correlation",
        build=PixelCorrelation,
        summary="Correlation of decoded, reduced images with the nearest training reference; learns nothing.",
    )


@echosdk.hookimpl
def echosdk_video_animators():
    yield echosdk.Component(
        name="static", build=Static, summary="Repeats the still: a baseline without motion that no label moves."
    )


@echosdk.hookimpl
def echosdk_downstream_validators():
    yield echosdk.Component(
        name="category-classifier",
        build=CategoryClassifier,
        summary="Convolutional classification of a category label from frames, averaged over the clip.",
        shape=("widths", "num_frames", "period", "size", "label", "recipe"),
    )
