"""Pairs of inputs by the name of their family.

A pair is data: a function of the parameters alone, never of a sweep's seed or of a draw.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from sweeps.errors import unknown
from sweeps.inputs import digits, gaussian, photographs

Family = Literal["gaussian", "photo-raw", "photo-centred", "digits"]


@lru_cache(maxsize=128)
def pair(family: Family, side: int, correlation: float, index: int) -> np.ndarray:
    """Two images, read-only float32 (2, channels, rows, columns).

    `correlation` is used by "gaussian" alone; `side` by all but "digits", which are 8 x 8.

    Raises:
        UnknownNameError: there is no such family.
    """
    match family:
        case "gaussian":
            images = gaussian.pair(side, correlation, index)
        case "photo-raw" | "photo-centred":
            images = photographs.pair(side, index, centred=family == "photo-centred")
        case "digits":
            images = digits.pair(index)
        case _:
            raise unknown("inputs", family, get_args(Family))
    both = np.stack(images)
    both.flags.writeable = False
    return both


def shape(family: Family, side: int) -> tuple[int, int, int]:
    """(channels, rows, columns) of a family's images."""
    return (1, digits.SIDE, digits.SIDE) if family == "digits" else (3, side, side)
