"""A simulated echocardiogram with a known ejection fraction. It is a SIMULATION and stands for no patient.

Heart, motion and speckle are invented by a random generator (see `simulator`): good for tests, for demonstrations and
for measuring privacy where the truth is known, and for nothing clinical.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import echosdk
from echosdk_phantom.anatomy import LABELS, Patient
from echosdk_phantom.simulator import Simulation, simulate
from echosdk_phantom.source import PhantomSource

__all__ = ["LABELS", "Patient", "PhantomSource", "Simulation", "simulate"]


@echosdk.hookimpl
def echosdk_data_sources() -> Iterator[echosdk.Component[PhantomSource]]:
    yield echosdk.Component(
        name="phantom",
        build=PhantomSource,
        summary="SIMULATION of apical four-chamber videos with a known ejection fraction; stands for no patient",
    )


@echosdk.hookimpl
def echosdk_bundles() -> Iterator[echosdk.Resource]:
    yield echosdk.Resource(
        name="phantom",
        location=str(files("echosdk_phantom") / "bundle"),
        summary="the networks of default-small, trained on the SIMULATION; stands for no patient",
    )
