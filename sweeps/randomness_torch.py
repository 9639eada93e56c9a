"""The randomness rule in plain torch operations, on any device: what every other implementation must equal.

Unsigned 32-bit words are held in int64 and no intermediate result leaves it, so nothing depends on what a device does
on overflow. Leading zeros are counted by halving, without a float that could round. A float32 product or sum is one
torch operation, rounded by itself; torch.compile could fuse two, so nothing here may be compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from sweeps.randomness import TABLE, checked

CHUNK = 2**18
"""Counters, of four elements each, computed together: bounds the memory beside the result to about 100 MB."""

_MASK = 0xFFFFFFFF


def philox(c0, c1, c2, c3, k0, k1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four outputs of Philox4x32-10; words, counters and keys are int64 tensors in [0, 2**32)."""
    for _ in range(10):
        (a1, a0), (b1, b0) = _product(0xD2511F53, c0), _product(0xCD9E8D57, c2)
        c0, c1, c2, c3 = b1 ^ c1 ^ k0, b0, a1 ^ c3 ^ k1, a0
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def _product(m: int, c: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of m c, by the halves of m: no product reaches 2**49."""
    low = c * (m & 0xFFFF)
    middle = c * (m >> 16) + (low >> 16)
    return middle >> 16, (middle & 0xFFFF) << 16 | low & 0xFFFF


def normal_from_word(words: Tensor, table: Tensor) -> Tensor:
    """The float32 normals that int64 words in [0, 2**32) stand for, by the `table_on` their device."""
    a = words << 1 & _MASK | 1  # n, shifted to the left until its top bit is set
    octave = torch.zeros_like(a)
    for bits in (16, 8, 4, 2, 1):
        shift = (a < 2 ** (32 - bits)).to(torch.int64) * bits
        octave += shift
        a <<= shift
    row = octave << 5 | a >> 26 & 31
    t = ((a >> 2 & 0xFFFFFF) - 2**23).to(torch.float32) * 2.0**-23
    z = table[3][row]
    for coefficient in (table[2], table[1], table[0]):
        z = z * t
        z = z + coefficient[row]
    return torch.where(words >> 31 == 1, -z, z)


@cache
def table_on(device: torch.device | str) -> Tensor:
    """The rule's coefficients, float32 (4, 1024), on a device."""
    return torch.tensor(TABLE, device=device)


def words(keys: np.ndarray, draws: np.ndarray, tensor: int, size: int, device: torch.device | str) -> Tensor:
    """`randomness.words` as torch.uint32 (networks, size) on a device."""

    def signed(x: Tensor) -> Tensor:
        return (x ^ 2**31) - 2**31

    return _generate(signed, torch.int32, keys, draws, tensor, size, device).view(torch.uint32)


def normals(keys: np.ndarray, draws: np.ndarray, tensor: int, size: int, device: torch.device | str) -> Tensor:
    """`randomness.normals` as float32 (networks, size) on a device."""
    table = table_on(device)
    return _generate(lambda x: normal_from_word(x, table), torch.float32, keys, draws, tensor, size, device)


def _generate(of_words: Callable[[Tensor], Tensor], dtype: torch.dtype, keys, draws, tensor, size, device) -> Tensor:
    keys, draws = checked(keys, draws, tensor, size)
    (k0, k1), (d0, d1) = _halves(keys, device), _halves(draws, device)
    blocks = -(-size // 4)
    out = torch.empty((len(keys), 4 * blocks), dtype=dtype, device=device)
    counters = out.view(-1, 4)  # the networks' blocks laid end to end
    for start in range(0, len(counters), CHUNK):
        part = counters[start : start + CHUNK]
        at = torch.arange(start, start + len(part), dtype=torch.int64, device=device)
        i, block = at // blocks, at % blocks
        outputs = philox(block, torch.full_like(at, tensor), d0[i], d1[i], k0[i], k1[i])
        part.copy_(of_words(torch.stack(outputs, 1)))
    return out[:, :size].contiguous()


def _halves(values: np.ndarray, device) -> tuple[Tensor, Tensor]:
    """Low and high words of uint64 (n,) as int64 tensors."""
    low, high = values & np.uint64(_MASK), values >> np.uint64(32)
    return torch.tensor(low.astype(np.int64), device=device), torch.tensor(high.astype(np.int64), device=device)
