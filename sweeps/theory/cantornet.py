"""CantorNet's folding along the published segment, y = 3/4 from x = 0 to 1: exact, for the recursive form.

The k-th A^(k) folds [0, 1] onto itself 2^k times, and every fold meets the zeros of 3 x - 2, 1 - 3 x and their sum, so
A applied k times has
    r1 = 2 k + 1,    r2 = 5 2^k - 4,    breakpoints = 3 2^k - 2,
and no pattern is met twice. Lewandowski, Eghbalzadeh, Moser, "CantorNet", arXiv 2411.19713.

At n equally spaced points all numbers are multiples of 1/(n - 1), and the patterns are found in whole numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def published(times: Any) -> dict[str, Any]:
    """CantorNet's recursive form applied `times` times: a number, or an array."""
    r1, r2, breakpoints = 2 * times + 1, 5 * 2**times - 4, 3 * 2**times - 2
    return {"chi": 1 - r1 / r2, "r1": r1, "r2": r2, "breakpoints": breakpoints, "regions": breakpoints + 1}


def sampled(times: int, samples: int) -> float:
    """The chi that `samples` >= 2 equally spaced points show, in exact arithmetic; bits are 0 at zeros."""
    whole = samples - 1
    a, bits = np.arange(samples), []  # A^(j)(x), in units of 1/whole; y's bit is always 1
    for _ in range(times):
        falls, rises = whole - 3 * a, 3 * a - 2 * whole
        a = np.maximum(np.maximum(falls, rises), 0)
        bits += [rises > 0, falls > 0, a > 0]
    pattern = np.stack([*bits, 3 * whole > 2 * (a + whole)])  # 3/4 > A/2 + 1/2
    r1 = (pattern != pattern[:, :1]).sum(0).max()
    r2 = (pattern[:, 1:] != pattern[:, :-1]).sum()
    return float(1 - r1 / r2) if r2 else 0.0
