"""The implementations of the randomness rule in torch, on the devices that are here.

Plain torch runs on the CPU and on a GPU. Triton runs on a GPU, and in its interpreter where there is none.
Nothing but pytest, torch, numpy, scipy, numba, pydantic and threadpoolctl is needed; see docs/randomness.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from sweeps import randomness_torch as plain

CUDA = torch.cuda.is_available()
TRITON = find_spec("triton") is not None


def interpret(patch: pytest.MonkeyPatch) -> None:
    """Triton's interpreter where there is no GPU; read when kernels are defined and when they are first launched."""
    if not CUDA:
        patch.setenv("TRITON_INTERPRET", "1")


@dataclass(frozen=True)
class Path:
    """One implementation on one device; everything in and out of it is numpy."""

    name: str
    device: str
    generate: dict[str, Callable]
    """`words` and `normals` (keys, draws, tensor, size, device) -> (networks, size) on the device"""
    philox: Callable[[np.ndarray], np.ndarray]
    """uint32 (6, n), four counter and two key words, to the outputs (4, n)"""
    from_words: Callable[[np.ndarray], np.ndarray]
    """uint32 (n,) to float32 normals (n,)"""

    def words(self, keys, draws, tensor: int, size: int) -> np.ndarray:
        return self.generate["words"](keys, draws, tensor, size, self.device).cpu().numpy()

    def normals(self, keys, draws, tensor: int, size: int) -> np.ndarray:
        return self.generate["normals"](keys, draws, tensor, size, self.device).cpu().numpy()


def _plain(device: str) -> Path:
    def on_device(x: np.ndarray) -> torch.Tensor:
        return torch.tensor(x.astype(np.int64), device=device)

    def philox(x: np.ndarray) -> np.ndarray:
        return torch.stack(plain.philox(*on_device(x))).cpu().numpy().astype(np.uint32)

    def from_words(w: np.ndarray) -> np.ndarray:
        return plain.normal_from_word(on_device(w), plain.table_on(device)).cpu().numpy()

    return Path("plain", device, {"words": plain.words, "normals": plain.normals}, philox, from_words)


def _triton(device: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        interpret(patch)
        from sweeps import randomness_triton as kernel
        from tests.gpu import kernels

    name = "triton" if CUDA else "triton interpreted"
    generate = {"words": kernel.words, "normals": kernel.normals}
    return Path(name, device, generate, *(lambda x, f=f: f(x, device) for f in (kernels.philox, kernels.from_words)))


PATHS = [_plain("cpu")]
if CUDA:
    PATHS.append(_plain("cuda"))
if TRITON:
    PATHS.append(_triton("cuda" if CUDA else "cpu"))
