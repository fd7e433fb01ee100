"""The paper's video stitching, as a plugin; and two other ways, to compare it with."""

import echosdk
from echosdk_stitch.stitch import Independent, OverlapBlend, OverlapDiscard


@echosdk.hookimpl
def echosdk_stitchers():
    yield echosdk.Component(
        name="overlap-discard",
        build=OverlapDiscard,
        summary="Overlapping windows; the first half of each prediction but the first's is dropped.",
    )
    yield echosdk.Component(
        name="overlap-blend",
        build=OverlapBlend,
        summary="Overlapping windows; where predictions overlap, their weighted average counts.",
    )
    yield echosdk.Component(
        name="independent",
        build=Independent,
        summary="Windows that know nothing of each other: a baseline with visible seams.",
    )
