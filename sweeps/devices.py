"""Which device a worker computes on, and what to call it in a ledger: bits are promised equal on one kind."""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

from llvmlite.binding import get_host_cpu_name

from sweeps.errors import RefusedError, unknown

DEVICES = ("auto", "cpu", "cuda")


def resolve(device: str) -> str:
    """`auto` is a GPU where this process sees one, else the CPU.

    Raises:
        UnknownNameError: no such device.
        RefusedError: a GPU is asked for and none is visible.
    """
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    if device == "auto":
        return "cuda" if _sees_gpu() else "cpu"
    if device == "cuda" and not _sees_gpu():
        raise RefusedError('device = "cuda", but this process sees no GPU; give device = "cpu" or "auto"')
    return device


@cache
def describe(device: str) -> str:
    """The model of a device: `cuda: NVIDIA H100 80GB HBM3`, `cpu: AMD EPYC, znver3`, where
    the last word is LLVM's for the instructions it has."""
    if device == "cuda":
        import torch

        return f"cuda: {torch.cuda.get_device_name()}"
    return f"cpu: {_processor()}, {get_host_cpu_name()}"


def loaded_torch() -> ModuleType | None:
    """Torch, if a statistic has imported it. Most compute without, and to import it takes seconds."""
    return sys.modules.get("torch")


@cache
def _sees_gpu() -> bool:
    if metadata.version("torch").endswith("+cpu"):
        return False
    import torch

    return torch.cuda.is_available()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
