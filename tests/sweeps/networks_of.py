"""Networks without a statistic, for tests of the samplers."""

from __future__ import annotations

import numpy as np

from sweeps.statistic import Networks, Points


def networks_of(n: int, key: int = 1, first: int = 0) -> Networks:
    """Draws `first` to `first` + n - 1 of a key."""
    return Networks(Points({}, {}, n), np.full(n, key, np.uint64), np.arange(first, first + n, dtype=np.uint64))


def gaussian_images(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
