"""The paper's downstream task, as a plugin: a video regression model."""

import echosdk
from echosdk_ef.regressor import EFRegressor


@echosdk.hookimpl
def echosdk_downstream_validators():
    yield echosdk.Component(
        name="ef-regressor",
        build=EFRegressor,
        summary="R(2+1)D regression of a numeric label (the ejection fraction) from video.",
        shape=("architecture", "widths", "num_frames", "period", "size", "label", "look_every", "start", "recipe"),
    )
