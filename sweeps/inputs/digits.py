"""Pairs of the 1,797 hand-written 8x8 digits that ship inside scikit-learn, grey levels scaled to [0, 1]."""

from __future__ import annotations

from functools import cache

import numpy as np

from sweeps import randomness

SIDE = 8


@cache
def digits() -> np.ndarray:
    """All digits, read-only float32 (1797, 1, 8, 8)."""
    from sklearn.datasets import load_digits

    grey, _ = load_digits(return_X_y=True)
    images = (np.asarray(grey).reshape(-1, 1, SIDE, SIDE) / 16).astype(np.float32)
    images.flags.writeable = False
    return images


def pair(index: int) -> tuple[np.ndarray, np.ndarray]:
    """The `index`-th pair of two different digits, float32 (1, 8, 8) each."""
    key = np.array([randomness.key(0, "inputs/digits", {})], dtype=np.uint64)
    first, second = map(int, randomness.words(key, np.array([index], dtype=np.uint64), 0, 2).reshape(2))
    n = len(digits())
    i = first * n >> 32
    j = second * (n - 1) >> 32
    return digits()[i], digits()[j + (j >= i)]
