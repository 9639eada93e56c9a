"""A local search for few active rows: a count to beat before sweeps.networks.depth searches everywhere.

A push takes x just across one row, x <- x - (1 + PUSH) <w_i, x> w_i with |w_i| = 1, and changes the heights <w_j, x>
by a row of the Gram matrix. A descent pushes the active row that lowers the cost most, until none does. The cost
is the number of active rows, and m more for each negative constraint. The first descent starts at
-W^T 1, or at (1, ..., 1) under constraints; then two rows, in turn, are pushed from the best x so far, and what the
descent from there finds is kept unless it is worse (iterated local search; Lourenco, Martin, Stuetzle, 2003).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sweeps.compiled import compiled

PUSH = 0.1
SURE = 1e-9  # heights beyond this have their sign whatever the rounding


@compiled
def _gram(unit, rows):
    gram = np.zeros((rows, rows))
    for i in range(rows):
        for q in range(unit.shape[0]):
            for j in range(rows):
                gram[i, j] += unit[q, i] * unit[q, j]
    return gram


@compiled
def _cost(heights, row, step, m):
    """Active rows, and m for each negative constraint, after a step against a row: heights - step * row."""
    cost = 0
    for j in range(m):
        cost += heights[j] - step * row[j] > -SURE
    for j in range(m, len(heights)):
        cost += m if heights[j] - step * row[j] < SURE else 0
    return cost


@njit(forceinline=True)
def _push(unit, gram, i, x, heights):
    """Take x just across row i."""
    step = (1 + PUSH) * heights[i]
    for j in range(len(heights)):
        heights[j] -= step * gram[i, j]
    for q in range(len(x)):
        x[q] -= step * unit[q, i]


@compiled
def _descend(unit, gram, m, x, heights):
    """The cost where no push lowers it, and x there."""
    cost = _cost(heights, gram[0], 0.0, m)
    while True:
        least, pushed = cost, -1
        for i in range(m):
            if heights[i] > 0:
                trial = _cost(heights, gram[i], (1 + PUSH) * heights[i], m)
                if trial < least:
                    least, pushed = trial, i
        if pushed < 0:
            return cost
        cost = least
        _push(unit, gram, pushed, x, heights)


@compiled
def _heights(unit, x, heights):
    """Make x of length 1; the heights of the rows there."""
    square = 0.0
    for q in range(len(x)):
        square += x[q] * x[q]
    for j in range(len(heights)):
        heights[j] = 0
    for q in range(len(x)):
        x[q] /= np.sqrt(square)
        for j in range(len(heights)):
            heights[j] += x[q] * unit[q, j]


@njit(forceinline=True)
def _copy(x, out):
    for q in range(len(x)):  # a slice takes seconds to compile
        out[q] = x[q]


@compiled
def descend(unit, rows, m, kicks, best, stop, point):
    """The least count of `kicks` descents if it is below `best`, else `best`; `point` (n,) is where, a unit vector.

    Ends at a count of at most `stop`. A count is sure: of the rows whose height is not below -SURE.
    """
    n = unit.shape[0]
    gram, heights, x, here = _gram(unit, rows), np.zeros(rows), np.zeros(n), np.zeros(n)
    for q in range(n):
        here[q] = 1 if rows > m else 0
        for i in range(m if rows == m else 0):
            here[q] -= unit[q, i]
    lowest = rows * rows
    for kick in range(kicks):
        _copy(here, x)
        _heights(unit, x, heights)
        if kick:
            _push(unit, gram, kick % m, x, heights)
            _push(unit, gram, (kick + 1 + kick // m) % m, x, heights)
        cost = _descend(unit, gram, m, x, heights)
        if cost <= lowest:
            lowest = cost
            _copy(x, here)
        if cost < best:
            _heights(unit, x, heights)
            cost = _cost(heights, gram[0], 0.0, m)
            if cost < best:
                best = cost
                _copy(x, point)
        if best <= stop:
            break
    return best
