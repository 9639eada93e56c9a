"""Sets of the 1,797 hand-written 8x8 digits that ship inside scikit-learn, grey levels scaled to [0, 1]."""

from __future__ import annotations

from functools import cache

import numpy as np

from sweeps.inputs import choice

SIDE = 8
COUNT = 1797
CLASSES = 10


@cache
def digits() -> np.ndarray:
    """All digits, read-only float32 (1797, 1, 8, 8)."""
    images = (_loaded()[0].reshape(COUNT, 1, SIDE, SIDE) / 16).astype(np.float32)
    images.flags.writeable = False
    return images


@cache
def labels() -> np.ndarray:
    """Which digits they are, read-only int64 (1797,)."""
    found = _loaded()[1].astype(np.int64)
    found.flags.writeable = False
    return found


def _loaded() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    grey, classes = load_digits(return_X_y=True)
    return np.asarray(grey), np.asarray(classes)


def members(count: int, index: int) -> np.ndarray:
    """The `index`-th set of `count` different digits, float32 (count, 1, 8, 8)."""
    return digits()[choice.distinct(choice.words("digits", {}, index, 0, count), COUNT)]
