"""The paper's latent video diffusion model, as a plugin."""

import echosdk
from echosdk_lvdm.lvdm import LVDM


@echosdk.hookimpl
def echosdk_video_animators():
    yield echosdk.Component(
        name="lvdm",
        build=LVDM,
        summary="UNetSpatioTemporalConditionModel: animates a still as its labels ask.",
        shape=(
            "window",
            "blocks",
            "attention",
            "heads",
            "layers_per_block",
            "precondition",
            "condition_dropout",
            "noise_offset",
            "recipe",
        ),
    )
