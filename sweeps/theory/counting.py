"""What counting says of the injectivity threshold: the first moment over cells, and the Euler characteristic.

A layer of m rows in R^n is not injective iff some cell has at most n-1 active rows. The two expectations of
sweeps.theory.injectivity, at k = n, turn into predictions where they fall below 1/2, or, for n -> infinity, where
their exponents per input vanish. With H(p) = -p log p - (1-p) log(1-p) and p = 1/alpha they are

    cells:  alpha (2 H(p) - log 2) = 0, so H(p) = log(2)/2;
    Euler characteristic:  alpha (H(p) - log 2 + p log(1-w) + (1-p) log(1+w) - p log w) = 0,
                           (1-p) w^2 - (1-2p) w + p = 0, the smaller root w.

The first is rigorous: P(not injective) is at most the expected number of cells (Markov). The second would be the
probability if the bad directions formed one contractible set whenever there are any. They do not, and its limit lies
above a rigorous bound: that prediction is refuted (Maillard, Bandeira, Belius, Dokmanic, Nakajima, arXiv 2302.14112).
It was derived here from the coefficient in `euler_characteristic`: of the sum over j the last term is the largest,
and w is the saddle point of its Krawtchouk coefficient.
"""

from __future__ import annotations

from math import log, sqrt
from typing import Literal

from sweeps.theory.calculus import zero
from sweeps.theory.injectivity import euler_characteristic, expected_cells

Method = Literal["cells", "euler"]

_EXPECTED = {"cells": expected_cells, "euler": euler_characteristic}


def cells_exponent(alpha: float) -> float:
    """lim (1/n) log of the expected number of cells with fewer than n active rows; alpha > 2."""
    return alpha * (2 * _entropy(1 / alpha) - log(2))


def euler_exponent(alpha: float) -> float:
    """lim (1/n) log of the expected Euler characteristic; alpha >= 6.83, below which its sign oscillates."""
    p = 1 / alpha
    if (square := (1 - 2 * p) ** 2 - 4 * p * (1 - p)) < 0:
        raise ValueError(f"the Euler characteristic has no exponent at alpha {alpha}, only from 4 + sqrt(8) on")
    w = (1 - 2 * p - sqrt(square)) / (2 * (1 - p))
    return alpha * (_entropy(p) - log(2) + p * log(1 - w) + (1 - p) * log(1 + w) - p * log(w))


def cells_limit() -> float:
    """Where the expected number of cells stops growing: a rigorous upper bound on the threshold. 14 digits."""
    return zero(cells_exponent, 2.5, 50)


def euler_limit() -> float:
    """Where the expected Euler characteristic stops growing: a refuted prediction of the threshold. 14 digits."""
    return zero(euler_exponent, 7, 50)


def half_point(n: int, method: Method) -> float:
    """m/n where the expectation comes down to 1/2 for the last time, log-linear between two whole m.

    With `cells`, at least half of the layers are injective at every whole m above it (rigorous); with `euler`, a
    heuristic guess of where half of them are. ValueError unless n >= 1.
    """
    if n < 1:
        raise ValueError(f"a layer has at least one input, got n = {n}")
    if method not in _EXPECTED:
        raise ValueError(f"method must be one of {', '.join(_EXPECTED)}, got {method!r}")
    expected = _EXPECTED[method]
    m = 10 * n + 4  # above the limits of both; at small n both lie lower still
    while (above := expected(m, n, n)) <= 0.5:
        m -= 1
    below = expected(m + 1, n, n)
    return (m + log(2 * above) / log(above / below)) / n


def _entropy(p: float) -> float:
    return -p * log(p) - (1 - p) * log(1 - p)
