"""Gaussian images that are all equally correlated, exactly or in expectation.

g_0, g_1, ... are independent standard normal images. With L the Cholesky factor of the matrix that has 1 on its
diagonal and rho elsewhere,

    x_i = sum_{j <= i} L_ij g_j,        so x_0 = g_0,  x_1 = rho g_0 + sqrt(1 - rho^2) g_1,  ...

have pixels of correlation rho. Below its diagonal, a column of L holds one value; both have closed forms:

    L_jj^2 = (1 - rho) (1 + j rho) / (1 + (j - 1) rho),    L_ij = rho sqrt((1 - rho) / ((1 + (j - 1) rho) (1 + j rho))),

the first column being 1 and rho. For the *exact* cosine the g_j are first made orthogonal and of norm sqrt(size), by
Gram and Schmidt; every x_i then has that norm, and every pair the cosine rho up to the rounding of pixels to float32
(1e-7 of angle or less).
"""

from __future__ import annotations

import math

import numpy as np

from sweeps import randomness
from sweeps.compiled import compiled

CHANNELS = 3


def members(count: int, side: int, correlation: float, index: int, *, exact: bool) -> np.ndarray:
    """The `index`-th set, float32 (count, 3, side, side).

    Sets of one index share their normals, whatever the correlation and whether `exact` or in expectation, and those of
    fewer members are the first ones of larger sets. -1/(count - 1) <= correlation <= 1, and count <= 3 side^2 if exact.
    """
    size = CHANNELS * side**2
    key = np.array([randomness.key(0, "inputs/gaussian", {"side": side})], dtype=np.uint64)
    normals = randomness.normals(key, np.array([index], dtype=np.uint64), 0, count * size)
    basis = normals.reshape(count, size).astype(np.float64)
    if exact:
        _orthogonalise(basis)
    mixed = np.zeros((count, size))
    for j, (diagonal, below) in enumerate(_cholesky(count, correlation)):
        mixed[j] += diagonal * basis[j]
        mixed[j + 1 :] += below * basis[j]
    return mixed.astype(np.float32).reshape(count, CHANNELS, side, side)


def _cholesky(count: int, rho: float) -> list[tuple[float, float]]:
    """(L_jj, L_ij for i > j) of every column j."""
    columns = [(1.0, rho)]
    for j in range(1, count):
        before, here = 1 + (j - 1) * rho, max(1 + j * rho, 0.0)  # 0 in the last column, where rho = -1/(count - 1)
        columns.append((
            math.sqrt((1 - rho) * here / before),
            rho * math.sqrt((1 - rho) / (before * here)) if here else 0.0,
        ))  # fmt: skip
    return columns


@compiled
def _orthogonalise(basis):
    """Make the rows of float64 `basis` (count, size) orthogonal and of norm sqrt(size), in place and without BLAS: its
    bits depend on neither machine nor threads."""
    count, size = basis.shape
    for i in range(count):
        for _ in range(2):  # the second pass removes what rounding left of the first
            for j in range(i):
                part = _dot(basis[i], basis[j]) / size
                for p in range(size):
                    basis[i, p] -= part * basis[j, p]
        scale = np.sqrt(size / _dot(basis[i], basis[i]))
        for p in range(size):
            basis[i, p] *= scale


@compiled
def _dot(x, y):
    """Sum of products in four interleaved parts, for speed; its relative error is about sqrt(size) 2^-54."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = len(x) - len(x) % 4
    for p in range(0, whole, 4):
        a += x[p] * y[p]
        b += x[p + 1] * y[p + 1]
        c += x[p + 2] * y[p + 2]
        d += x[p + 3] * y[p + 3]
    for p in range(whole, len(x)):
        a += x[p] * y[p]
    return (a + b) + (c + d)
