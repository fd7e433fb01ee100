"""Weights that somebody else published, in a layout of their own: what a plugin offers so that they become a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from attrs import field, frozen

from echosdk.interfaces import Category, Label, References


@frozen(kw_only=True)
class PublishedWeights:
    """What published weights are, as the bundle made of them says it.

    `plugin_set` names the set whose components read them; `parameters` gives, for each kind that was published, what
    of its parameters the weights decide. `frame_shape` is `H W` or `H W 3`.
    """

    plugin_set: str
    parameters: Mapping[str, Mapping[str, Any]]
    labels: tuple[Label | Category, ...]
    fps: float
    frame_shape: tuple[int, ...]
    sampling: Mapping[str, Any] = field(factory=dict)


@runtime_checkable
class PublishedLayout(Protocol):
    """Reads published weights where they lie; `echosdk bundle import --from NAME LOCATION --variant VARIANT`.

    It is built with the parameter `location` (a folder or an fsspec URL) and, where there are several sets of weights
    in one place, `variant`.
    """

    def describe(self) -> PublishedWeights:
        """Say what is there. Reads configurations, no weights. Raises `BundleError` where the layout is another."""

    def write(self, kind: str, public: Path) -> None:
        """Write to an empty folder what the component of this kind loads from the public part of a bundle.

        Raises `BundleError` where the weights are missing, do not fit, or could not be read without running code.
        """

    def write_private(self, kind: str, private: Path, references: References) -> None:
        """Write what the component loads from the private part, if anything.

        It is given the training references: latents of some frames of every training clip. Not called where there are
        no data to make any of; such a bundle is a stripped one. Raises as `write` does.
        """
