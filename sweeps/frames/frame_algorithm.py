"""The frame algorithm for a ReLU layer, without and with the rows that are inactive.

Let y = ReLU(W x* - alpha), I = {i: y_i > 0} and t = y + alpha, so that <w_i, x*> = t_i in I and <= t_i outside.

- x <- x + lam W_I^T (t - W x)_I with lam = 2/(A + B), the frame bounds of the active rows. The error is multiplied by
  1 - lam W_I^T W_I, so it shrinks by (B - A)/(B + A) a step (Haider, Ehler, Balazs, arXiv 2307.09672).
- The variant lets an inactive row take part where the iterate makes it active: not I but J, I and {i: <w_i, x> > t_i}.
  With e = x - x*, such a row has 0 < <w_i, x> - t_i <= <w_i, e>, since <w_i, x*> <= t_i. So it is s_i <w_i, e> with
  0 < s_i <= 1, and the step is -lam H e with W_I^T W_I <= H = W_I^T W_I + sum s_i w_i w_i^T <= B_J. Therefore
  lam = 2/(A + B_J) shrinks the error by (B_J - A)/(B_J + A) or better, whichever rows take part: it surely converges
  where y is in the range of the layer. lam = 2/(A + B) need not. For B_J stands the smaller of B + sum |w_i|^2 over J
  without I and the largest eigenvalue of W^T W: no eigenvalues on the way, and B where no inactive row takes part.
  Where A = 0, lam = 1/B_J: the distance to every solution never grows, and the iterates converge to one of them.
"""

from __future__ import annotations

import numpy as np

from sweeps.compiled import compiled


def frame_algorithm(
    rows: np.ndarray, goals: np.ndarray, count: int, bounds: tuple[float, float, float], tolerance: float, most: int
) -> tuple[np.ndarray, int]:
    """From x = 0 to <rows[i], x> = goals[i] for the first `count` rows and <= for the others; x (n,) and steps made.

    `rows` is float64 (r, n), and `bounds` are A and B of the first `count` and B of all rows. It stops where a step is
    not longer than `tolerance` |x|, or after `most`.
    """
    return _descend(rows, np.ascontiguousarray(rows.T), goals, count, *bounds, tolerance, most)


@compiled
def _descend(rows, columns, goals, count, A, B, ceiling, tolerance, most):
    n, x, step = rows.shape[1], np.zeros(rows.shape[1]), np.empty(rows.shape[1])
    gaps = np.empty(len(rows))
    for t in range(most):
        _gaps(columns, goals, x, gaps)
        largest = min(B + _taking_part(rows, gaps, count), ceiling)
        if largest == 0:  # no row is active, and none takes part
            return x, t
        _towards(rows, gaps, step)
        rate = 2 / (A + largest) if A > 0 else 1 / largest
        moved, size = 0.0, 0.0
        for j in range(n):
            x[j] += rate * step[j]
            moved += (rate * step[j]) ** 2
            size += x[j] ** 2
        if moved <= tolerance**2 * size:
            return x, t + 1
    return x, most


# In these two the inner loop writes to a row, which is quicker than adding up along one.


@compiled
def _gaps(columns, goals, x, gaps):
    for i in range(len(goals)):
        gaps[i] = goals[i]
    for j in range(len(x)):
        for i in range(len(goals)):
            gaps[i] -= columns[j, i] * x[j]


@compiled
def _towards(rows, gaps, step):
    for j in range(len(step)):
        step[j] = 0.0
    for i in range(len(gaps)):
        if gaps[i] != 0:
            for j in range(len(step)):
                step[j] += rows[i, j] * gaps[i]


@compiled
def _taking_part(rows, gaps, count):
    """The sum of |w_i|^2 over the inactive rows that take part; the others' gaps become 0."""
    total = 0.0
    for i in range(count, len(rows)):
        if gaps[i] < 0:
            for j in range(rows.shape[1]):
                total += rows[i, j] ** 2
        else:
            gaps[i] = 0.0
    return total


@compiled
def first_inside(facets, active):
    """The first facet all of whose rows are active; -1 where there is none."""
    for f in range(len(facets)):
        inside = True
        for j in range(facets.shape[1]):
            if not active[facets[f, j]]:
                inside = False
                break
        if inside:
            return f
    return -1
