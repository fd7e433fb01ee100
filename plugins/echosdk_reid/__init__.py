"""The paper's privacy filter, as a plugin."""

import echosdk
from echosdk_reid.filter import PearsonReID


@echosdk.hookimpl
def echosdk_privacy_filters():
    yield echosdk.Component(
        name="pearson-reid",
        build=PearsonReID,
        summary="Pearson distance of re-identification features to the nearest training reference.",
        shape=("architecture", "layers", "features", "contrast", "patience", "look_every", "held_back", "start",
               "recipe"),
    )
