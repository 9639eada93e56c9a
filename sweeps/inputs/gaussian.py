"""Pairs of Gaussian images at an exact cosine.

x and w are independent standard normal images; w is made orthogonal to x, both are scaled to norm
sqrt(size), and
    y = rho x + sqrt(1 - rho^2) w
has the norm of x and cosine rho with it, up to the rounding of pixels to float32 (1e-7 of angle or less).
"""

from __future__ import annotations

import math

import numpy as np

from sweeps import randomness

CHANNELS = 3


def pair(side: int, correlation: float, index: int) -> tuple[np.ndarray, np.ndarray]:
    """The `index`-th pair at cosine `correlation`: two float32 arrays (3, side, side) of norm sqrt(3 side^2).

    Pairs of one index at different correlations share x and w.
    """
    shape = (CHANNELS, side, side)
    size = math.prod(shape)
    key = np.array([randomness.key(0, "inputs/gaussian", {"side": side})], dtype=np.uint64)
    normals = randomness.normals(key, np.array([index], dtype=np.uint64), 0, 2 * size)
    x, w = normals.reshape(2, size).astype(np.float64)
    x *= math.sqrt(size / _dot(x, x))
    for _ in range(2):  # the second pass removes what rounding left of the first
        w -= _dot(w, x) / size * x
    w *= math.sqrt(size / _dot(w, w))
    y = correlation * x + math.sqrt(1 - correlation**2) * w
    return x.reshape(shape).astype(np.float32), y.reshape(shape).astype(np.float32)


def _dot(x: np.ndarray, y: np.ndarray) -> float:
    """Inner product whose bits depend on no BLAS: rounded products, summed exactly."""
    return math.fsum((x * y).tolist())
