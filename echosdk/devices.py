"""Where networks run: the device that was asked for, whether it is there, and whether its memory was enough."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from echosdk.errors import InputError

CPU_ALLOCATOR = "DefaultCPUAllocator"
MOST_THREADS_A_CORE = 16


def pick_device(name: str) -> str:
    """Resolve `auto`. Raises `InputError` for what is no device, or not there."""
    if name == "cpu":
        return name
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if there else "cpu"
    asked = re.fullmatch(r"cuda(?::(\d+))?", name)
    if asked is None:
        raise InputError(f"--device {name}: no such device; choose from auto, cpu, cuda and cuda:N")
    if not there:
        raise InputError(f"--device {name}: torch {torch.__version__} finds no CUDA device here; use --device cpu")
    if int(asked[1] or 0) >= there:
        raise InputError(f"--device {name}: there are {there}, numbered from 0")
    return name


def device_name(device: str) -> str:
    """Return what a device calls itself (`NVIDIA H200`), or `cpu`."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error is for lack of memory; on a CPU, torch raises a plain `RuntimeError`."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)
    )


def check_threads(number: int) -> None:
    """Raise `InputError` for more threads than this machine can sensibly start: a system that runs out ends torch."""
    cores = os.cpu_count() or 1
    most = MOST_THREADS_A_CORE * cores
    if number > most:
        raise InputError(f"--threads {number}: at most {most} on this machine, {MOST_THREADS_A_CORE} a CPU core")


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch use so many CPU threads meanwhile: they change the order of sums, and so bits."""
    import torch

    check_threads(number)
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
