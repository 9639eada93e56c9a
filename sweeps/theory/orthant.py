"""One random ReLU layer on the non-negative orthant, rows uniform in direction: what is known in closed form, exactly.

Rows of isotropic law cut the open orthant, a cone with conic intrinsic volumes v_j = C(n, j) / 2^n, into cells. Their
expected number is sum_k C(m, k) h_k, with h_k the probability that k of the hyperplanes meet inside it: h_0 = 1 and, by
the conic Crofton formula, h_k = 2 (v_{k+1} + v_{k+3} + ...). Schneider and Weil, "Stochastic and Integral Geometry",
2008, section 6.5; Amelunxen, Lotz, McCoy, Tropp, "Living on the edge", Information and Inference 2014.
Each cell has any given pattern of active rows with probability 2^-m.

A vertex is a ray where j coordinates and n-1-j rows vanish: in one of the C(n, j) faces of dimension n-j, whose orthant
holds the ray of n-1-j rows, on one side of it or the other, with probability 2^(1-(n-j)).
"""

from __future__ import annotations

from math import comb

from sweeps.theory.injectivity import binomial_cdf


def expected_cells(m: int, n: int) -> float:
    """Expected number of cells that meet the open orthant."""
    crossed = [2 * sum(comb(n, j) for j in range(k + 1, n + 1, 2)) / 2**n for k in range(n)]
    return sum(comb(m, k) * h for k, h in enumerate(crossed))


def some_active(m: int, n: int) -> float:
    """P(k* >= 1) on the orthant; at most one cell has no active row."""
    return 1 - expected_cells(m, n) / 2**m


def expected_vertices(m: int, n: int, k: int) -> float:
    """Expected number of vertices in the orthant with at most k-1 strictly positive rows."""
    return sum(
        comb(n, j) * comb(m, n - 1 - j) * 2.0 ** (1 - (n - j)) * binomial_cdf(m - n + 1 + j, k - 1)
        for j in range(n)
        if n - 1 - j <= m
    )
