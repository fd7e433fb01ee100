"""How long generating may take: a little of it is timed, and the rest is counted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from echosdk.abilities import Joins
from echosdk.bundle import Bundle
from echosdk.devices import pick_device, threads
from echosdk.generation.plan import Plan
from echosdk.interfaces import Label
from echosdk.plugin_set import PluginSet
from echosdk.registry import Registry

FRAMES = 4
"""So many are passed through the encoder."""


@torch.no_grad()
def seconds_a_video(plan: Plan, bundle: Bundle, registry: Registry) -> float:
    """Return what one video of a plan would take a worker of this machine, were none rejected.

    Timed are one still, one denoising step of one window, and four frames decoded and encoded; nothing of it is kept.
    """
    with threads(plan.threads):
        return _seconds_a_video(plan, bundle, registry)


def _seconds_a_video(plan: Plan, bundle: Bundle, registry: Registry) -> float:
    plugin_set = PluginSet.from_plain(plan.whole_plugin_set(), where="plan")
    device, dtype, num_frames = pick_device(plan.device), getattr(torch, plan.dtype), plan.num_frames

    def loaded(kind: str) -> Any:
        component = plugin_set.build(registry, kind)
        bundle.load(kind, component, plugin_set.choices[kind].use)
        if hasattr(component, "to"):
            component.to(device, dtype)
        return component

    encoder, prior, animator = loaded("encoder"), loaded("image_prior"), loaded("video_animator")
    stitcher = plugin_set.build(registry, "stitcher")
    window = min(animator.window, num_frames)
    windows = math.ceil(num_frames / window)
    if isinstance(stitcher, Joins) and num_frames > animator.window:
        windows = 1 + len(stitcher.seams(num_frames, animator.window))
    middle = {
        label.name: (label.low + label.high) / 2 if isinstance(label, Label) else label.values[0]
        for label in bundle.manifest.labels
    }
    noise = torch.Generator().manual_seed(0)
    still = prior.sample([noise], [middle]).float().cpu()
    denoising = animator.begin(window, [noise])
    steps = list(denoising.timesteps)
    frames = still.expand(FRAMES, -1, -1, -1)
    a_still = _seconds(lambda: prior.sample([noise], [middle]))
    a_step = _seconds(lambda: animator.predict(denoising.latents, steps[0], still, [middle]))
    images = encoder.decode(frames)
    a_frame = (_seconds(lambda: encoder.decode(frames)) + _seconds(lambda: encoder.encode(images.cpu()))) / FRAMES
    return float(a_still + a_step * len(steps) * windows + a_frame * num_frames)


def _seconds(work: Callable[[], torch.Tensor]) -> float:
    """Time it the second time: the first one also sets up what is kept for later."""
    work().cpu()
    begun = time.perf_counter()
    work().cpu()  # waits for the device
    return time.perf_counter() - begun
