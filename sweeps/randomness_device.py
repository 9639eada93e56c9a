"""Normals made on the device that uses them, with the bits of `randomness.normals`.

On the CPU that is the numba path. On a GPU it is the Triton kernel or, where Triton is missing, plain torch
operations. Before a process uses either on a device, it holds a quarter of a million normals to the CPU's bits; what
fails to run or to agree is told in the log and left out, and were nothing left, normals would be copied from the CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from sweeps import randomness

Generator = Callable[[np.ndarray, np.ndarray, int, int, str], Tensor]
"""(keys, draws, tensor, size, device) -> float32 (networks, size) on the device."""

CANDIDATES = {"cpu": (), "cuda": ("randomness_triton", "randomness_torch")}
"""By the kind of device: modules with `normals`, the fastest first; other kinds have randomness_torch alone."""

log = logging.getLogger(__name__)


def normals(keys: np.ndarray, draws: np.ndarray, tensor: int, size: int, device: str) -> Tensor:
    """`randomness.normals` as a float32 tensor (networks, size) on a device."""
    return generator(device)(keys, draws, tensor, size, device)


@cache
def generator(device: str) -> Generator:
    """The fastest generator that gives the CPU's bits on a device."""
    for name in CANDIDATES.get(torch.device(device).type, ("randomness_torch",)):
        try:
            found = import_module(f"sweeps.{name}").normals
            if agrees(found, device):
                return found
            log.warning("sweeps.%s gives other normals on %s than on the CPU and is not used", name, device)
        except ModuleNotFoundError as error:
            log.info("sweeps.%s is not used: %s", name, error)
        except Exception as error:  # a compiler that is missing, an operation the device lacks
            log.warning("sweeps.%s does not run on %s and is not used: %s", name, device, error)
    return _from_cpu


def agrees(generate: Generator, device: str) -> bool:
    """Whether a generator gives the CPU's bits on a device, in 258,323 normals of 31 networks."""
    streams = randomness.words(np.array([0, 1], np.uint64), np.zeros(2, np.uint64), 0, 62).view(np.uint64)
    keys, draws = streams
    expected = randomness.normals(keys, draws, 2**32 - 1, 8_333)
    given = generate(keys, draws, 2**32 - 1, 8_333, device).cpu().numpy()
    return given.tobytes() == expected.tobytes()


def _from_cpu(keys: np.ndarray, draws: np.ndarray, tensor: int, size: int, device: str) -> Tensor:
    return torch.from_numpy(randomness.normals(keys, draws, tensor, size)).to(device)
