"""Networks that published metrics rest on, as a plugin: I3D for FVD, Inception for FID and IS."""

import echosdk
from echosdk_features.i3d import I3D
from echosdk_features.inception import Inception

__all__ = ["I3D", "Inception"]


@echosdk.hookimpl
def echosdk_feature_extractors():
    yield echosdk.Component(
        name="i3d", build=I3D, summary="I3D, trained on Kinetics-400: Fréchet video distances at 16 and 128 frames."
    )
    yield echosdk.Component(
        name="inception", build=Inception, summary="Inception-v3 as published for FID, KID and the inception score."
    )
