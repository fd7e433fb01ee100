"""What may change a bit although the plan is the same: versions and hardware. Each shard says what it was made with."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from echosdk.bundle import library_versions
from echosdk.interfaces import KINDS
from echosdk.plugin_set import PluginSet
from echosdk.registry import Registry


def versions(plugin_set: PluginSet, registry: Registry) -> dict[str, str]:
    """Return the versions of echosdk, of what it computes with, and of the packages whose components are used."""
    used = [registry.offer(kind, plugin_set.choices[kind].use).plugin for kind in KINDS if kind in plugin_set.choices]
    return {
        "echosdk": version("echosdk"),
        **library_versions(),
        "python": platform.python_version(),
        **{plugin.distribution: plugin.version for plugin in used if plugin.distribution != "echosdk"},
    }


def hardware(device: str) -> dict[str, str]:
    """Return the machine's kind, its processor, and the GPU where one is used."""
    found = {"machine": platform.machine(), "processor": _processor(), "device": device}
    if device != "cpu":
        import torch

        found["device"] = torch.cuda.get_device_name(device)
    return found


def joined(made_with: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return what all shards say: where they differ, every value once, sorted."""
    values: dict[str, set[str]] = {}
    for one in made_with:
        for name, value in one.items():
            values.setdefault(name, set()).add(value)
    return {name: " and ".join(sorted(found)) for name, found in values.items()}


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
