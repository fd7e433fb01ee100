"""The paper's video stitching, as a plugin."""

import echosdk
from echosdk_stitch.stitch import OverlapDiscard


@echosdk.hookimpl
def echosdk_stitchers():
    yield echosdk.Component(
        name="overlap-discard",
        build=OverlapDiscard,
        summary="Overlapping windows; the first half of each prediction but the first's is dropped.",
    )
