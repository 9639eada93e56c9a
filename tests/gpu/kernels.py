"""Kernels that show the parts of the Triton generator one by one: Philox, and the normal of a given word."""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl

from sweeps.randomness_torch import table_on
from sweeps.randomness_triton import normal_from_word
from sweeps.randomness_triton import philox as philox_outputs

SIZE = 1024


@triton.jit
def _word(x, row, n, i):
    return tl.load(x + row * n + i, mask=i < n, other=0).to(tl.uint32, bitcast=True)


@triton.jit
def _philox(out, x, n, SIZE: tl.constexpr):
    i = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    x0, x1, x2, x3 = philox_outputs(
        _word(x, 0, n, i), _word(x, 1, n, i), _word(x, 2, n, i), _word(x, 3, n, i), _word(x, 4, n, i), _word(x, 5, n, i)
    )
    tl.store(out + i, x0.to(tl.int32, bitcast=True), mask=i < n)
    tl.store(out + n + i, x1.to(tl.int32, bitcast=True), mask=i < n)
    tl.store(out + 2 * n + i, x2.to(tl.int32, bitcast=True), mask=i < n)
    tl.store(out + 3 * n + i, x3.to(tl.int32, bitcast=True), mask=i < n)


@triton.jit
def _from_words(out, x, table, n, SIZE: tl.constexpr):
    i = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    tl.store(out + i, normal_from_word(_word(x, 0, n, i), table), mask=i < n)


def philox(x: np.ndarray, device: str) -> np.ndarray:
    """Uint32 (6, n), four counter and two key words, to the outputs (4, n)."""
    n = x.shape[1]
    out = torch.empty((4, n), dtype=torch.int32, device=device)
    _philox[(triton.cdiv(n, SIZE),)](out, _signed(x, device), n, SIZE=SIZE)
    return out.cpu().numpy().view(np.uint32)


def from_words(w: np.ndarray, device: str) -> np.ndarray:
    """Uint32 (n,) to float32 normals (n,)."""
    out = torch.empty(len(w), dtype=torch.float32, device=device)
    grid = (triton.cdiv(len(w), SIZE),)
    _from_words[grid](out, _signed(w, device), table_on(device), len(w), SIZE=SIZE, enable_fp_fusion=False)
    return out.cpu().numpy()


def _signed(x: np.ndarray, device: str) -> torch.Tensor:
    return torch.tensor(np.ascontiguousarray(x).view(np.int32), device=device)
