"""Which device a worker computes on, and what to call it in a ledger: bits are promised equal on one kind."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch

from sweeps.errors import RefusedError


def resolve(device: str) -> str:
    """`auto` is a GPU where this process sees one, else the CPU.

    Raises:
        RefusedError: a GPU is asked for and none is visible.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise RefusedError('device = "cuda", but this process sees no GPU; give device = "cpu" or "auto"')
    return device


@cache
def describe(device: str) -> str:
    """The model of a device: `cuda: NVIDIA H100 80GB HBM3`, `cpu: Intel(R) Xeon(R) Processor, AVX512`."""
    if device == "cuda":
        return f"cuda: {torch.cuda.get_device_name()}"
    return f"cpu: {_processor()}, {torch.backends.cpu.get_cpu_capability()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
