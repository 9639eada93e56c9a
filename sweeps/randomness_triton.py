"""The randomness rule as one Triton kernel, for GPUs; import it only where Triton is installed.

A program computes COUNTERS counters of four elements each, the networks' blocks being laid end to end: every store
is aligned, whatever the size. A size that is no multiple of four costs a copy. The kernel must be launched with
enable_fp_fusion=False: a product and a sum contracted into one multiply-add would be rounded once instead of twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

from sweeps.randomness import checked
from sweeps.randomness_torch import table_on

COUNTERS = 256


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Four outputs of Philox4x32-10; all uint32 tensors."""
    for _ in tl.static_range(10):  # pyright: ignore[reportGeneralTypeIssues]
        a, b = c0, c2
        c0 = tl.umulhi(b, 0xCD9E8D57) ^ c1 ^ k0
        c1 = b * 0xCD9E8D57
        c2 = tl.umulhi(a, 0xD2511F53) ^ c3 ^ k1
        c3 = a * 0xD2511F53
        k0 += 0x9E3779B9
        k1 += 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def normal_from_word(words, table):
    """The float32 normals that uint32 words stand for; `table` points at the (4, 1024) coefficients."""
    a = (words << 1) | 1  # n, shifted to the left until its top bit is set
    octave = tl.zeros_like(a).to(tl.int32)
    for step in tl.static_range(5):  # 16, 8, 4, 2, 1 bits
        empty = (a >> (32 - (16 >> step))) == 0
        octave += tl.where(empty, 16 >> step, 0)
        a = tl.where(empty, a << (16 >> step), a)
    row = octave * 32 + ((a >> 26) & 31).to(tl.int32)
    t = (((a >> 2) & 0xFFFFFF).to(tl.int32) - 8388608).to(tl.float32) * 1.1920928955078125e-07  # 2**-23
    z = tl.load(table + 3072 + row)
    z = z * t
    z = z + tl.load(table + 2048 + row)
    z = z * t
    z = z + tl.load(table + 1024 + row)
    z = z * t
    z = z + tl.load(table + row)
    return tl.where((words >> 31) == 1, -z, z)


@triton.jit(do_not_specialize=["tensor"])
def fill(out, table, keys, draws, tensor, blocks, total, NORMAL: tl.constexpr, COUNTERS: tl.constexpr):
    """Words as int32, or normals, of `total` counters into `out` (networks, blocks, 4); int64 `keys` and `draws`."""
    at = tl.program_id(0).to(tl.int64) * COUNTERS + tl.arange(0, COUNTERS)
    inside = at < total
    network, block = at // blocks, at % blocks
    key = tl.load(keys + network, mask=inside, other=0)
    draw = tl.load(draws + network, mask=inside, other=0)
    c0 = block.to(tl.uint32)
    c1 = tl.zeros_like(c0) + tensor.to(tl.uint32)
    x0, x1, x2, x3 = philox(
        c0, c1, draw.to(tl.uint32), (draw >> 32).to(tl.uint32), key.to(tl.uint32), (key >> 32).to(tl.uint32)
    )
    words = tl.reshape(tl.join(tl.join(x0, x2), tl.join(x1, x3)), (COUNTERS, 4))  # x0 x1 x2 x3, a counter a row
    place = out + 4 * at[:, None] + tl.arange(0, 4)[None, :]
    if NORMAL:
        tl.store(place, normal_from_word(words, table), mask=inside[:, None])
    else:
        tl.store(place, words.to(tl.int32, bitcast=True), mask=inside[:, None])


def words(keys: np.ndarray, draws: np.ndarray, tensor: int, size: int, device: torch.device | str) -> Tensor:
    """`randomness.words` as torch.uint32 (networks, size) on a GPU."""
    return _generate(torch.int32, keys, draws, tensor, size, device).view(torch.uint32)


def normals(keys: np.ndarray, draws: np.ndarray, tensor: int, size: int, device: torch.device | str) -> Tensor:
    """`randomness.normals` as float32 (networks, size) on a GPU."""
    return _generate(torch.float32, keys, draws, tensor, size, device)


def _generate(dtype: torch.dtype, keys, draws, tensor: int, size: int, device) -> Tensor:
    keys, draws = checked(keys, draws, tensor, size)
    blocks = -(-size // 4)
    total = blocks * len(keys)
    out = torch.empty((len(keys), 4 * blocks), dtype=dtype, device=device)
    streams = (torch.tensor(stream.view(np.int64), device=device) for stream in (keys, draws))
    grid, normal = (triton.cdiv(total, COUNTERS),), dtype == torch.float32
    launch: Any = fill  # takes options that `fill` does not name
    if total:
        with torch.cuda.device_of(out):
            launch[grid](
                out, table_on(out.device), *streams, tensor, blocks, total, normal, COUNTERS, enable_fp_fusion=False
            )
    return out[:, :size].contiguous()
