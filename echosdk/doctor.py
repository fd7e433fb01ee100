"""What a machine has of what echosdk needs, each thing tried rather than looked up."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

from attrs import frozen

from echosdk.bundle import Bundle
from echosdk.errors import EchoError
from echosdk.registry import Registry

LIBRARIES = ("echosdk", "torch", "diffusers", "accelerate", "av", "webdataset", "numpy")


@frozen(kw_only=True)
class Finding:
    """One thing that was looked at, whether it works, and what was found."""

    what: str
    ok: bool
    says: str


def examine(registry: Registry) -> list[Finding]:
    """Look at versions, devices, video formats, plugins, bundles and weights. Changes nothing."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return [
        Finding(what="python", ok=True, says=f"{platform.python_version()} on {platform.platform()}"),
        Finding(what="libraries", ok=True, says=libraries),
        Finding(what="devices", ok=True, says=_devices()),
        *_formats(),
        Finding(what="plugins", ok=True, says=f"{len({offer.plugin for offer in registry.offers})} loaded"),
        *(Finding(what="plugin", ok=False, says=f"{each.plugin}: {each.message}") for each in registry.problems),
        *(_tried(f"bundle {name}", partial(_opened, name, registry)) for name in registry.names("bundle")),
        _weights(registry),
    ]


def _devices() -> str:
    import torch

    cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return ", ".join([f"{os.cpu_count()} CPU cores", *(cards or ["no CUDA device: networks run on the CPU"])])


def _formats() -> list[Finding]:
    """Write and read a video of each format."""
    import numpy as np

    from echosdk.clips.video import VIDEO_FORMATS, VideoFormat, decode_video, encode_video

    def tried(format: VideoFormat) -> str:
        frames = np.zeros((2, 16, 16), np.uint8)
        written = encode_video(frames, 16.0, format)
        if format != "npy" and decode_video(written, grey=True)[0].shape != frames.shape:
            raise ValueError("what was read is not what was written")
        return "is written and read"

    return [_tried(f"video {format}", partial(tried, format)) for format in VIDEO_FORMATS]


def _opened(name: str, registry: Registry) -> str:
    bundle = Bundle.open(name, registry)
    return f"opens, with {', '.join(bundle.manifest.stages)}"


def _weights(registry: Registry) -> Finding:
    from echosdk.training.weights import MISSING, OTHER, fault, known_weights

    found = {name: fault(known) for name, known in known_weights(registry).items()}
    there, missing, other = ([name for name in found if found[name] == wrong] for wrong in ("", MISSING, OTHER))
    says = f"present: {', '.join(there) or 'none'}; not: {', '.join(missing) or 'none'} (echosdk weights list says how)"
    if other:
        says += f"; {OTHER}: {', '.join(other)}"
    return Finding(what="weights", ok=not other, says=says)


def _tried(what: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(what=what, ok=True, says=attempt())
    except (EchoError, OSError, ValueError) as error:
        return Finding(what=what, ok=False, says=" ".join(str(error).split()))
