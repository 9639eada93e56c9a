"""Injectivity of one random ReLU layer x -> ReLU(W x), W of m rows in R^n: what is known in closed form.

In general position the layer is injective iff k* = min over x != 0 of #{i : <w_i, x> > 0} is at least n
(Puthawala, Kothari, Lassas, Dokmanic, de Hoop, "Globally Injective ReLU Networks", JMLR 2022, arXiv 2006.08464).
The finite formulas below are exact (rigorous) for every law of W that is in general position and does
not change when rows change sign, such as Gaussian; the Gaussian law enters the limits n -> infinity only.

- k* <= floor((m-n+1)/2): a vertex and its opposite share the m-n+1 rows that do not vanish there. Hence
  injective needs m >= 3n - 1.
- k* >= 1 iff no half-space holds all rows: Wendel, "A problem in geometric probability", Math. Scand. 1962.
- The law of k* in the plane, n = 2, with L = m - 2k + 2: P(k* >= k) = 1 - L 2^-m sum_j C(m, k-1 + j L). Signs
  flip along a walk around the circle, which stays in a strip: counted by reflection.
- Numbers of cells of a central arrangement (Schlaefli) and of their faces; each sign pattern of the rows is
  equally likely at a given face.
"""

from __future__ import annotations

from math import comb, nan

from sweeps.statistic import Reference

GAUSSIAN = {"rows": ("gaussian", "sphere"), "domain": ("space",)}
"""Where the limits hold; statistics without these parameters have Gaussian rows and all of R^n."""

_REPLICA = "Maillard, Bandeira, Belius, Dokmanic, Nakajima, arXiv 2302.14112"

THRESHOLDS = (
    Reference(
        "alpha",
        3.4028,
        "never below (n to infinity)",
        "rigorous, from x = -W^T 1: Puthawala et al., arXiv 2006.08464; " + _REPLICA,
        where=GAUSSIAN,
    ),
    Reference("alpha", 6.6980, "full RSB (n to infinity)", "replica, conjectured exact: " + _REPLICA, where=GAUSSIAN),
    Reference(
        "alpha",
        7.647694935435,
        "RS, plain RDT (n to infinity)",
        "rigorous upper bound: Stojnic, arXiv 2410.20646; replica symmetric value: " + _REPLICA,
        where=GAUSSIAN,
    ),
)
"""Thresholds of the expansion ratio m/n as n -> infinity."""


def largest_min_active(m: int, n: int) -> int:
    """Upper bound on k* in general position."""
    return max(0, (m - n + 1) // 2)


def wendel(m: int, n: int) -> float:
    """P(k* >= 1): the rows lie in no half-space."""
    return max(0.0, 1 - sum(comb(m - 1, i) for i in range(n)) / 2 ** (m - 1))


def planar_tail(m: int, k: int) -> float:
    """P(k* >= k) at n = 2."""
    if k <= 0:
        return 1.0
    period = m - 2 * k + 2
    if period <= 2:
        return 0.0
    # the residue k-1 modulo the period, and its first member
    return 1 - period * sum(comb(m, i) for i in range((k - 1) % period, m + 1, period)) / 2**m


def injective_probability(m: int, n: int) -> float:
    """P(k* >= n), or NaN where no closed form is known."""
    if largest_min_active(m, n) < n:
        return 0.0
    if n == 1:
        return wendel(m, 1)
    return planar_tail(m, 2) if n == 2 else nan


def mean_min_active(m: int, n: int) -> float:
    """E k*, or NaN where no closed form is known."""
    top = largest_min_active(m, n)
    if top <= 1:
        return wendel(m, n) if top else 0.0
    return sum(planar_tail(m, k) for k in range(1, top + 1)) if n == 2 else nan


def binomial_cdf(trials: int, k: int) -> float:
    """P(Bin(trials, 1/2) <= k)."""
    return sum(comb(trials, i) for i in range(min(k, trials) + 1)) / 2**trials


def expected_cells(m: int, n: int, k: int) -> float:
    """Expected number of cells with at most k-1 active rows; at least P(k* < k) (first moment)."""
    return 2 * sum(comb(m - 1, i) for i in range(n)) * sum(comb(m, i) for i in range(k)) / 2**m


def expected_vertices(m: int, n: int, k: int) -> float:
    """Expected number of vertices (rays) with at most k-1 strictly positive rows."""
    return 2 * comb(m, n - 1) * binomial_cdf(m - n + 1, k - 1)


def euler_characteristic(m: int, n: int, k: int) -> float:
    """Expected Euler characteristic of the union, on the sphere, of the cells with at most k-1 active rows.

    Faces of dimension j are 2 C(m, n-1-j) sum_{i<=j} C(m-n+j, i); a face counts if its active rows are few. Their
    alternating sum is the coefficient of y^(n-1) w^(k-1) in 2^(1-m) (1 + w + y (1-w))^m / ((1 - y^2) (1 - w)), taken
    here in whole numbers.
    """
    total = sum(comb(m, j) * _krawtchouk(k - 1, j - 1, m - 1) for j in range(n - 1, -1, -2))
    return total / 2 ** (m - 1)


def _krawtchouk(k: int, j: int, m: int) -> int:
    """Coefficient of w^k in (1 - w)^j (1 + w)^(m - j), j >= -1."""
    if j < 0:
        return sum(comb(m + 1, i) for i in range(k + 1))
    return sum((-1) ** i * comb(j, i) * comb(m - j, k - i) for i in range(k + 1))
