"""Vertices of the arrangement of hyperplanes <w_i, x> = 0, in float64: tableaus as in the simplex method.

In the chart <x, x_0> = 1 around a centre x_0 let v be a vertex, B the n-1 rows that vanish there, and d_r (r in B)
the dual directions: <w_r, d_r> = 1, <w_b, d_r> = 0 for the other b in B, <x_0, d_r> = 0. Kept are the margins h_i =
<w_i, v> and the table T_ri = <w_i, d_r> of all rows w_i and, as n rows more, of the unit vectors: those are the
coordinates of v and of the d_r. Row s vanishes in place of r on the edge line v + t d_r at t = -h_s / T_rs; that
exchange is h_i -= h_s T_ri / T_rs, T_ki -= T_ks T_ri / T_rs.

Rows have length 1 here, or are zero. Where fewer than n-1 rows are independent, fewer vanish.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sweeps.compiled import compiled

VANISHING = 1e-12  # margin of a row of length 1 that vanishes in float64


class Exact(NamedTuple):
    """A vertex in float64. The last n columns are the coordinates of x: those of v and of the d_r."""

    margins: np.ndarray  # (m+n,)
    table: np.ndarray  # (n-1, m+n)
    basic: np.ndarray  # (n-1,) rows that vanish, -1 where there is none
    other: np.ndarray  # (m+n,) j where column j is row j, -1 where it is that of a row that vanishes or of none
    line: np.ndarray  # (m+n,) work space


@compiled
def dot(a, b):
    total = 0.0
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@compiled
def scaled(source, factor, out):
    for j in range(len(out)):
        out[j] = factor * source[j]


@compiled
def subtract(out, factor, line):
    for j in range(len(out)):
        out[j] -= factor * line[j]


@compiled
def _exchange(table, margins, r, s, line):
    """Row s vanishes in place of slot r's: one exchange of a float64 table; `line` is work space."""
    inverse, margin = 1 / table[r, s], margins[s]
    scaled(table[r], inverse, line)
    subtract(margins, margin, line)
    for k in range(len(table)):
        factor = table[k, s]
        subtract(table[k], factor, line)
        table[k, s] = -factor * inverse
    scaled(line, 1.0, table[r])
    table[r, s] = inverse
    margins[s] = -margin * inverse


@compiled
def chart(unit, centre, exact):
    """Margins and table of `centre` and an orthonormal frame around it, no row vanishing yet."""
    n = len(centre)
    sign = -1.0 if centre[0] > 0 else 1.0  # a reflection takes the centre to sign * e_0
    square = 2 - 2 * sign * centre[0]
    scaled(unit[0], -sign, exact.line)
    for q in range(n):
        subtract(exact.line, -centre[q], unit[q])
    scaled(unit[0], sign, exact.margins)
    subtract(exact.margins, 2 * sign * (centre[0] - sign) / square, exact.line)
    for r in range(n - 1):
        scaled(unit[r + 1], 1.0, exact.table[r])
        subtract(exact.table[r], 2 * centre[r + 1] / square, exact.line)
        exact.basic[r] = -1
    for j in range(len(exact.margins)):
        exact.other[j] = j


@compiled
def _enter(exact, r, s):
    _exchange(exact.table, exact.margins, r, s, exact.line)
    exact.basic[r], exact.other[s] = s, -1


@compiled
def nearest_vertex(unit, centre, exact):
    """Go to a vertex that is no row away from `centre`."""
    chart(unit, centre, exact)
    margins, table, _, other, _ = exact
    for r in range(len(table)):
        least, s = np.inf, np.int64(-1)
        for j in range(len(margins) - len(centre)):
            if other[j] >= 0 and abs(table[r, j]) > VANISHING and abs(margins[j]) < least * abs(table[r, j]):
                least, s = abs(margins[j] / table[r, j]), j
        if s >= 0:
            _enter(exact, r, s)


@compiled
def vertex_of(unit, centre, rows, exact):
    """Go to the vertex where these rows vanish, on the side of `centre`."""
    chart(unit, centre, exact)
    for s in rows:
        most, r = VANISHING, np.int64(-1)
        for k in range(len(exact.table)):
            if s >= 0 and exact.basic[k] < 0 and abs(exact.table[k, s]) > most:
                most, r = abs(exact.table[k, s]), k
        if r >= 0:
            _enter(exact, r, s)


@compiled
def put_inside(exact, x):
    """Put in `x` a direction in the cell at a vertex where the rows that vanish are negative, length 1."""
    n = len(x)
    m = len(exact.margins) - n
    scaled(exact.margins, 0.0, exact.line)
    for r in range(n - 1):
        if exact.basic[r] >= 0:
            subtract(exact.line, 1.0, exact.table[r])
    step = 1.0
    for j in range(m):
        if exact.other[j] >= 0 and exact.margins[j] < -VANISHING and exact.line[j] > 0:
            step = min(step, -0.5 * exact.margins[j] / exact.line[j])
    for q in range(n):
        x[q] = exact.margins[m + q] + step * exact.line[m + q]
    scaled(x, 1 / np.sqrt(dot(x, x)), x)


@compiled
def active(W, x, margin):
    """Rows i of W (m, n) that are not zero with <w_i, x> >= -margin |w_i| |x|, in float64: at least as many as
    <w_i, x> > 0."""
    count, square = 0, dot(x, x)
    for i in range(len(W)):
        length = dot(W[i], W[i])
        count += length > 0 and dot(W[i], x) >= -margin * np.sqrt(length * square)
    return count


@compiled
def unit_rows(W, unit):
    """Put rows scaled to length 1 (zero rows stay) and the identity in `unit` (n, m+n), transposed."""
    m, n = W.shape
    for i in range(m):
        square = dot(W[i], W[i])
        scale = 1 / np.sqrt(square) if square > 0 else 0.0
        for q in range(n):
            unit[q, i] = W[i, q] * scale
    for q in range(n):
        for j in range(n):
            unit[q, m + j] = q == j
