"""Rows that are active at an input of a ReLU layer with one bias for all rows, and biases that regular polytopes bear.

A row phi, uniform on the sphere S^{n-1}, and an input x: <x, phi>/|x| = t has a density proportional to
(1 - t^2)^((n-3)/2) on [-1, 1], so the row is active, <x, phi> > b, with probability I_{1 - t^2}((n-1)/2, 1/2)/2 at
t = b/|x| >= 0 (regularised incomplete beta function). A row with independent N(0, 1/n) entries is active with
probability Phi(-b sqrt(n)/|x|).

Of m independent rows a binomial number A is active, and in general position min(A, n) is their rank: too few are with
probability P(A < n), and E max(0, n - A) dimensions are lost on average. Over the inputs of a domain these are averages
over |x|, whose density in a ball or donut is proportional to |x|^(n-1). All of this is exact, at every size.

Polytopes: the bias of a vertex is the smallest inner product with a vertex of the same facet, where none is negative;
that of the simplex, all of whose inner products are -1/n, is -|projection of -phi_i on the other vertices of a facet|.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import special, stats

NEAREST = frozenset({"simplex", "cross", "icosahedron"})
"""Polytopes in which the n vertices nearest to a direction are those of the facet it lies in."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


class Active(NamedTuple):
    """Expected values over layers and over inputs of the domain."""

    active: float
    """Active rows."""
    too_few: float
    """Share of inputs whose active rows do not span; independent rows in general position."""
    lost: float
    """n less their rank."""


def active_probability(n: int, bias: float, radii: np.ndarray, *, gaussian: bool) -> np.ndarray:
    """Probability that a row is active at inputs of length `radii` (inputs,)."""
    t = np.full(len(radii), np.inf if bias >= 0 else -np.inf)
    np.divide(bias, radii, out=t, where=radii > 0)
    if gaussian:
        return special.ndtr(-t * math.sqrt(n))
    above = special.betainc((n - 1) / 2, 0.5, np.clip(1 - t**2, 0, 1)) / 2
    return np.where(t >= 0, above, 1 - above)


def radii(n: int, bias: float, inner: float, outer: float) -> tuple[np.ndarray, np.ndarray]:
    """Lengths and weights, of sum 1, for means over a ball (inner = 0), donut or sphere (inner = outer).

    Where |x| = |bias| the mean may have a kink, so that nodes lie on either side of it.
    """
    if inner == outer:
        return np.array([outer]), np.ones(1)
    edges = sorted({inner, outer, min(max(abs(bias), inner), outer)})
    pieces = [(a + (b - a) * (NODES + 1) / 2, WEIGHTS * (b - a)) for a, b in pairwise(edges)]
    lengths = np.concatenate([piece[0] for piece in pieces])
    weights = np.concatenate([piece[1] for piece in pieces]) * (lengths / outer) ** (n - 1)
    return lengths, weights / weights.sum()


def active(m: int, n: int, bias: float, lengths: np.ndarray, weights: np.ndarray, *, gaussian: bool) -> Active:
    """Expected values over inputs of these lengths with these weights, of m rows; exact."""
    p = active_probability(n, bias, lengths, gaussian=gaussian)
    fewer = stats.binom.cdf(np.arange(n)[:, None], m, p)  # (n, inputs)
    return Active(float(m * p @ weights), float(fewer[-1] @ weights), float(fewer.sum(0) @ weights))


def polytope_bias(law: str, n: int) -> float:
    """The smallest bias that the polytope estimate gives a vertex, for directions; NaN where it is not known."""
    known = {"cross": 0.0, "icosahedron": 1 / math.sqrt(5), "dodecahedron": 1 / 3}
    known |= {"24-cell": 0.0, "600-cell": (1 + math.sqrt(5)) / 4, "simplex": -math.sqrt((n - 1) / (2 * n))}
    return known.get(law, math.nan)
