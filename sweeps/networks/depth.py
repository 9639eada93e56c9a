"""Least number of strictly positive <w_i, x>: over all x != 0, where it is the halfspace depth of the origin among
the rows of W, and over the open positive orthant, where the inputs are that come from an earlier layer.

On R^n, k* = min over x != 0 of #{i : <w_i, x> > 0} is attained, in general position, at a vertex: a direction
orthogonal to n-1 rows, with p positive rows among the others (Dyckerhoff and Mozharovskyi, arXiv 1411.6927). The open
cells around the vertex, one of which has all n-1 rows negative, count p and more, and every cell is a pointed cone.

On the orthant the n coordinate hyperplanes join the arrangement as *constraints*. The cells in the orthant are
pointed too. A vertex is a direction orthogonal to n-1 of the m+n rows at which no other constraint is negative, and
the best cell around it has the rows of W among the n-1 negative and the constraints positive: p again.

A layer x -> ReLU(W x) is injective on R^n, or on x >= 0, iff every x of an open cell there has rows with <w_i, x> > 0
that span R^n (Puthawala et al., arXiv 2006.08464), in general position iff there are n of them: iff k* >= n.

There are C(m, n-1) vertices; sweeps.networks.depth_tree says which work that leaves. Descents from a fixed start
(sweeps.networks.depth_descent) give the count to beat. To decide injectivity the count to beat is n, more
descents are made, and the first count below n ends the search.

Signs are evaluated in float32, sixteen rows at a time, and used only beyond a margin above any rounding error.
A lower bound counts rows that are certainly positive, an upper bound all rows not certainly negative; in an
enumeration a vertex whose doubtful signs could matter is recomputed from W in float64. So the answer is
that of float64 and depends neither on the order of networks nor on the vector width.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from sweeps.networks.depth_descent import SURE
from sweeps.networks.depth_leaf import NONE
from sweeps.networks.depth_tree import solve


def _above(W: np.ndarray, orthant: bool) -> int:
    """A number that k* is below."""
    m, n = W.shape[1:]
    return m + 1 if orthant or m <= n else (m - n + 1) // 2 + 1


def _run(W: np.ndarray, orthant: bool, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    W = np.ascontiguousarray(W, np.float64)
    points, vanishing = np.zeros((len(W), W.shape[2])), np.zeros((len(W), W.shape[2]), np.int64)
    return solve(W, orthant, start, stop, points, vanishing), points, vanishing


def min_active(W: np.ndarray, orthant: bool = False) -> np.ndarray:
    """Least number of strictly positive <w_i, x> over non-zero x, exactly: k*, int64 (networks,).

    `W` is (networks, m, n), of float64 or converted. With `orthant` the least number over the open cells that meet
    x > 0. The rows, on the orthant together with those of the identity, must be in general position (every n of them
    linearly independent), as Gaussian rows are almost surely. Outside general position (zero, repeated or
    antiparallel rows), or so close to it that n rows of length 1 are within 1e-9 of being dependent, the result is not
    defined. Each network is treated by itself, in memory that does not grow with their number.
    """
    return _run(W, orthant, _above(W, orthant), 0)[0]


def injective(W: np.ndarray, orthant: bool = False) -> np.ndarray:
    """Whether k* >= n, bool (networks,): whether x -> ReLU(W x) is injective on R^n, or on x >= 0.

    The same conditions as for `min_active`, and the same answer as from its count, at less cost: a few descents
    where there is a direction of fewer than n active rows that they find.
    """
    n = W.shape[2]
    return _run(W, orthant, n, n - 1)[0] >= n


def inactive_direction(W: np.ndarray, orthant: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """`injective`, and x (networks, n), a direction of fewer than n active rows where not; else NaN.

    x has length 1, is inside an open cell, in the orthant if asked, and has the largest margin of that cell;
    (W @ x > 0).sum() < n in float64.
    """
    n = W.shape[2]
    count, points, vanishing = _run(W, orthant, n, n - 1)
    points[count >= n] = np.nan
    for k in np.flatnonzero(count < n):
        rows = W[k] / np.linalg.norm(W[k], axis=1, keepdims=True)
        limits = -np.vstack([rows, -np.eye(n)]) if orthant else -rows
        points[k] = _inside(limits, len(rows), points[k], vanishing[k][vanishing[k] != NONE])
    return count >= n, points


def _inside(limits: np.ndarray, m: int, x: np.ndarray, vanishing: np.ndarray) -> np.ndarray:
    """A direction well inside the cell that x is a corner of, on the positive side of the limits that vanish there.

    `limits` are the negated unit rows, and the constraints behind the first m.
    """
    if not x.any():  # no more rows than inputs: all can be negative
        vanishing = np.arange(m)
    heights = limits @ x
    heights[vanishing] = 0
    bounding = heights > SURE
    bounding[vanishing] = True
    if len(vanishing):
        step = np.linalg.lstsq(limits[vanishing], np.ones(len(vanishing)), rcond=None)[0]
        slopes = limits @ step
        toward = bounding & (slopes < 0)
        x = x + min([1.0, *(-heights[toward] / slopes[toward] / 2)]) * step if x.any() else step
    x = x / np.linalg.norm(x)
    sides = limits[bounding]
    wide = _largest_margin(sides)
    return wide if (sides @ wide).min() > (sides @ x).min() else x


def _largest_margin(sides: np.ndarray) -> np.ndarray:
    """The unit x of largest min <s_i, x>: least distance programming by non-negative least squares.

    Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23; the zero vector where it fails.
    """
    system = np.vstack([sides.T, np.ones(len(sides))])
    target = np.zeros(len(system))
    target[-1] = 1
    weights, _ = nnls(system, target)
    x = sides.T @ weights
    norm = np.linalg.norm(x)
    return x / norm if norm > 0 else x
