"""Turn a private medical video dataset into a synthetic surrogate that can be shared, with evidence.

`import echosdk` is cheap: torch is loaded when something needs it.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from echosdk.errors import (
    BundleError,
    DataError,
    DatasetError,
    EchoError,
    InputError,
    OutOfMemory,
    PlanError,
    PluginError,
    PluginSetError,
    PrivacyError,
    TrainingError,
)
from echosdk.feature_extractor import FeatureExtractor, PretrainedWeights
from echosdk.hookspecs import Resource, hookimpl
from echosdk.interfaces import (
    Category,
    Clip,
    Component,
    Conditions,
    DataSource,
    Denoising,
    DownstreamValidator,
    Encoder,
    ImagePrior,
    Label,
    PrivacyFilter,
    References,
    Run,
    Stitcher,
    StoredClip,
    Switches,
    Trainable,
    TrainingData,
    Verdict,
    VideoAnimator,
)
from echosdk.published_layout import PublishedLayout, PublishedWeights
from echosdk.registry import Registry
from echosdk.torchvision_operators import define_before_import

if TYPE_CHECKING:
    from echosdk.generation.dataset import open_dataset
    from echosdk.generation.generate import Options, generate

try:
    __version__ = version("echosdk")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

define_before_import()

_LAZY = {
    "Options": "echosdk.generation.generate",
    "generate": "echosdk.generation.generate",
    "open_dataset": "echosdk.generation.dataset",
}

__all__ = [
    "BundleError",
    "Category",
    "Clip",
    "Component",
    "Conditions",
    "DataError",
    "DataSource",
    "DatasetError",
    "Denoising",
    "DownstreamValidator",
    "EchoError",
    "Encoder",
    "FeatureExtractor",
    "ImagePrior",
    "InputError",
    "Label",
    "Options",
    "OutOfMemory",
    "PlanError",
    "PluginError",
    "PluginSetError",
    "PretrainedWeights",
    "PrivacyError",
    "PrivacyFilter",
    "PublishedLayout",
    "PublishedWeights",
    "References",
    "Registry",
    "Resource",
    "Run",
    "Stitcher",
    "StoredClip",
    "Switches",
    "Trainable",
    "TrainingData",
    "TrainingError",
    "Verdict",
    "VideoAnimator",
    "generate",
    "hookimpl",
    "open_dataset",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'echosdk' has no attribute {name!r}")
