"""The tree of faces over which sweeps.networks.depth minimises: eliminations, leaves, and what is left to enumerate.

1. *Every face will do.* Where the least count is attained is a cone, and at each of its vertices n-1 facets meet. It
   is enough to look at a family of (n-3)-subsets of rows, the *leaves*, such that every (n-1)-subset contains one:
   cut the rows in G blocks and take the subsets that lie within a block (pigeonhole, G = 3 for n = 5 and G = 2 for
   n = 6). For n >= 7 the first n-6 rows are taken in order, as the smallest facets of the cell, and the blocks
   are cut from the rows behind them. A cell has at least n facets: the last n-1 rows are never the smallest.
2. *A leaf is three-dimensional*: rows eliminated one at a time, by Householder reflections and at last, from four
   dimensions (the *trunk* that neighbouring leaves share), by quaternions. Rows eliminated have no column in it, so
   that the masks of m = 67 rows at n = 10 are one word. It is searched as sweeps.networks.depth_leaf says.
3. *A leaf that is not decided within a budget of directions is enumerated*, all pairs of rows by cross products;
   so is every leaf of more than 128 rows.

`rows` counts those of W, the first m, and the constraints behind them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sweeps.compiled import compiled
from sweeps.networks.depth_descent import descend
from sweeps.networks.depth_leaf import LANES, NONE, candidate, corner, search, search_constrained

BUDGET = 256  # directions tried in a leaf before it is enumerated


@compiled
def _eliminate(rows, d, i, out):
    """Coordinates out[:d-1] of rows[:d] in an orthonormal basis of the hyperplane orthogonal to row i.

    A Householder reflection that sends row i to a coordinate axis, which is dropped; out[d-1] is scratch.
    """
    m = rows.shape[1]
    pivot, square = 0, 0.0
    for q in range(d):
        square += rows[q, i] * rows[q, i]
        if abs(rows[q, i]) > abs(rows[pivot, i]):
            pivot = q
    norm = np.sqrt(square)
    head = rows[pivot, i] + np.copysign(norm, rows[pivot, i])
    scale = 1.0 / (norm * (norm + abs(rows[pivot, i]))) if norm > 0 else 0.0
    for j in range(m):
        out[d - 1, j] = scale * head * rows[pivot, j]
    for q in range(d):
        if q != pivot:
            r = scale * rows[q, i]
            for j in range(m):
                out[d - 1, j] += r * rows[q, j]
    k = 0
    for q in range(d):
        if q != pivot:
            r = rows[q, i]
            for j in range(m):
                out[k, j] = rows[q, j] - r * out[d - 1, j]
            out[k, i] = 0
            k += 1


@compiled
def _eliminate_to_leaf(rows, i, leaf):
    """The same from four dimensions to three: the products of row i, a quaternion, with the units i, j and k."""
    a, b, c, d = rows[0, i], rows[1, i], rows[2, i], rows[3, i]
    norm = np.sqrt(a * a + b * b + c * c + d * d)
    scale = 1.0 / norm if norm > 0 else 0.0
    a, b, c, d = scale * a, scale * b, scale * c, scale * d
    for j in range(leaf.shape[1]):
        s, t, u, v = rows[0, j], rows[1, j], rows[2, j], rows[3, j]
        leaf[0, j] = a * t - b * s + c * v - d * u
        leaf[1, j] = a * u - b * v - c * s + d * t
        leaf[2, j] = a * v + b * u - c * t - d * s
    leaf[0, i], leaf[1, i], leaf[2, i] = 0, 0, 0


@compiled
def _count_off(heights, m, rows):
    """Least count just off a vertex, given every row's height there, 0 for those chosen: (count, side).

    Side 1 is the vertex, -1 its opposite; a side where a constraint is negative does not count.
    """
    positive, negative, above, below = 0, 0, 0, 0
    for j in range(m):
        positive += heights[j] > 0
        negative += heights[j] < 0
    for j in range(m, rows):
        above += heights[j] > 0
        below += heights[j] < 0
    here, opposite = m + 1 if below else positive, m + 1 if above else negative
    return (here, 1.0) if here <= opposite else (opposite, -1.0)


@njit(forceinline=True)
def _copy_rows(rows, out):
    for q in range(len(out)):  # slices take seconds to compile
        for j in range(out.shape[1]):
            out[q, j] = rows[q, j]


@compiled
def _vertex_count(unit, chosen, rows, m, scratch):
    """Least count just off the vertex where the n-1 `chosen` rows vanish, in float64."""
    n = unit.shape[0]
    _copy_rows(unit, scratch[0])
    for level in range(n - 1):
        _eliminate(scratch[level], n - level, chosen[level], scratch[level + 1])
    return _count_off(scratch[n - 1, 0], m, rows)[0]


@compiled
def _record(unit, rows, m, chosen, number, y, x, vanishing):
    """Keep the direction with coordinates y where `number` chosen rows are eliminated, or its opposite, in x."""
    n = unit.shape[0]
    frame, out, heights = np.zeros((n, number + n)), np.zeros((n, number + n)), np.zeros(rows)
    for q in range(n):
        for column in range(number):
            frame[q, column] = unit[q, chosen[column]]
        frame[q, number + q] = 1
    for column in range(number):
        if n - column == 4 and len(y) == 3:
            _eliminate_to_leaf(frame, column, out)
        else:
            _eliminate(frame, n - column, column, out)
        frame, out = out, frame
    for q in range(n):
        x[q] = 0
        for axis in range(len(y)):
            x[q] += y[axis] * frame[axis, number + q]
        for j in range(rows):
            heights[j] += x[q] * unit[q, j]
        vanishing[q] = chosen[q] if q < number else NONE
    for column in range(number):
        heights[chosen[column]] = 0
    side = _count_off(heights, m, rows)[1]
    for q in range(n):
        x[q] *= side


@compiled
def _enumerate(leaf, fixed, columns, unit, rows, m, best, chosen, scratch, x, vanishing):
    """Least count over the vertices of a leaf, or `best` if none is lower. `columns` are the rows of the columns."""
    n, number = unit.shape[0], len(columns)
    for i in range(number):
        if leaf[0, i] == 0 and leaf[1, i] == 0 and leaf[2, i] == 0:
            continue
        for j in range(i + 1, number):
            if leaf[0, j] == 0 and leaf[1, j] == 0 and leaf[2, j] == 0:
                continue
            if candidate(leaf, fixed, i, j, best):
                chosen[n - 3], chosen[n - 2] = columns[i], columns[j]
                count = _vertex_count(unit, chosen, rows, m, scratch)
                if count < best:
                    best = count
                    _record(unit, rows, m, chosen, n - 1, np.ones(1, np.float32), x, vanishing)
    return best


@compiled
def _unit_rows(W, orthant):
    """Rows of length 1 (or zero; as they are if n < 3) and those of the identity, (n, .), padded; and how many."""
    m, n = W.shape
    rows = m + n if orthant else m
    unit = np.zeros((n, -(-rows // LANES) * LANES))
    for i in range(m):
        square = 0.0
        for q in range(n):
            square += W[i, q] * W[i, q]
        scale = 1.0 / np.sqrt(square) if square > 0 else 0.0
        if n < 3:
            scale = 1.0  # their vertices need no margin
        for q in range(n):
            unit[q, i] = W[i, q] * scale
    for i in range(m, rows):
        unit[i - m, i] = 1
    return unit, rows


@compiled
def _least_low(unit, rows, m, best, stop, x, vanishing):
    """n = 1 and n = 2 by their few vertices."""
    n = unit.shape[0]
    for i in range(rows if n == 2 else 1):
        a, b = (unit[0, i], unit[1, i]) if n == 2 else (1.0, 0.0)
        positive, negative, above, below = 0, 0, 0, 0
        for j in range(m):
            h = a * unit[-1, j] - b * unit[0, j]  # 0 at row i
            positive += h > 0
            negative += h < 0
        for j in range(m, rows):
            h = a * unit[-1, j] - b * unit[0, j]
            above += h > 0
            below += h < 0
        side = 1.0 if below == 0 and (above > 0 or positive <= negative) else -1.0
        count = positive if side > 0 else negative
        if count < best and (above == 0 or below == 0):
            best, vanishing[0] = count, i if n == 2 else NONE
            x[0], x[-1] = -side * b, side * a
        if best <= stop:
            break
    return best


@compiled
def _block_end(i, start, rows, blocks):
    """End of the block of row i when rows start..rows-1 are cut in `blocks` nearly equal runs."""
    block = (i - start) * blocks // (rows - start)
    return start + ((block + 1) * (rows - start) + blocks - 1) // blocks


@compiled
def _compact(level, chosen, rows, trunk, columns):
    """The columns of the rows not chosen, and the numbers of these rows."""
    column, start = 0, 0
    for k in range(len(chosen) + 1):
        end = chosen[k] if k < len(chosen) else rows
        for j in range(start, end):
            columns[column + j - start] = j
        for q in range(trunk.shape[0]):
            for j in range(start, end):
                trunk[q, column + j - start] = level[q, j]
        column += end - start
        start = end + 1


@compiled
def _constraints(columns, m, fixed):
    """The bits of the columns that are constraints, and the number of the others."""
    others = 0
    for column in range(len(columns)):
        if columns[column] < m:
            others += 1
        else:
            fixed[column >> 6] |= np.uint64(1) << np.uint64(column & 63)
    return others


@compiled
def _search_trunk(trunk, columns, unit, rows, m, best, stop, chosen, level, end, x, vanishing, work):
    """Least count in the leaves of a trunk, of which row `level` is chosen up to `end`; or `best` if none is lower."""
    leaf, corners, masks, queue, scratch = work
    depth = level + 1 if unit.shape[0] > 3 else 0
    fixed = np.zeros(max(2, -(-len(columns) // 64)), np.uint64)
    others = _constraints(columns, m, fixed)
    for i in range(chosen[level - 1] + 1 if level else 0, end):
        total, column = others, i - level  # the rows chosen are all before row i
        if depth:
            chosen[level] = i
            _eliminate_to_leaf(trunk, column, leaf)
            fixed[column >> 6] &= ~(np.uint64(1) << np.uint64(column & 63))
            total -= i < m
        else:
            _copy_rows(trunk, leaf)
        before, proved = best, False
        if len(columns) <= 64 and rows == m:
            best, proved = search(leaf, total, best, corners, masks, queue)
        elif len(columns) <= 128:
            best, proved = search_constrained(leaf, (fixed[0], fixed[1]), total, best, corners, masks, queue)
        if best < before:
            at = corner(fixed[: masks.shape[1] // 2], masks, total, best)
            _record(unit, rows, m, chosen, depth, corners[at], x, vanishing)
        if not proved:
            best = _enumerate(leaf, fixed, columns, unit, rows, m, best, chosen, scratch, x, vanishing)
        if best <= stop:
            break
        if depth and i >= m:
            fixed[column >> 6] |= np.uint64(1) << np.uint64(column & 63)
    return best


@compiled
def _least(unit, rows, m, best, stop, x, vanishing):
    """The least count if it is below `best`, else `best`; or the first one found that is at most `stop`.

    Where it is attained: x, and the rows that vanish there; untouched if nothing is below `best`.
    """
    n = unit.shape[0]
    depth, ordered = n - 3, max(0, n - 6)  # rows that make a leaf, and how many of them are taken in order
    last = max(depth - 1, 0)
    blocks = (n - 2 - ordered) // (last - ordered) if last > ordered else 1
    columns = np.zeros(rows - last, np.int64)
    width, words = -(-len(columns) // LANES) * LANES, -(-len(columns) // 64)
    levels, trunk = np.zeros((last + 1, n, unit.shape[1])), np.zeros((min(n, 4), width))
    work = (
        np.zeros((3, width), np.float32),
        np.zeros((BUDGET, 3), np.float32),
        np.zeros((BUDGET, 2 if words == 1 and rows == m else 4), np.uint64),
        np.zeros((2 * BUDGET, 5), np.uint64),
        np.zeros((n, n, unit.shape[1])),
    )
    chosen, ends, level = np.full(n, NONE), np.full(n, rows), 0
    if ordered or depth == 1:
        ends[0] = rows - n + 1  # a cell has at least n facets
    if depth == 0:
        ends[0] = 1
    _copy_rows(unit, levels[0])
    while level >= 0 and best > stop:
        if level == last:
            _compact(levels[level], chosen[:level], rows, trunk, columns)
            end = ends[level]
            best = _search_trunk(trunk, columns, unit, rows, m, best, stop, chosen, level, end, x, vanishing, work)
            level -= 1
            continue
        chosen[level] += 1
        i = chosen[level]
        if i == ends[level]:
            level -= 1
            continue
        if level == ordered:
            ends[level + 1] = _block_end(i, chosen[level - 1] + 1 if ordered else 0, rows, blocks)
        elif level > ordered:
            ends[level + 1] = ends[level]
        _eliminate(levels[level], n - level, i, levels[level + 1])
        level += 1
        chosen[level] = i
    return best


@compiled
def _kicks(n, stop):
    """Descents that are worth their time: a few per cent of that of the search, for a decision of the search's."""
    return min((50 if stop else 12) * 4 ** (n - 5), 20_000)


@compiled
def solve(W, orthant, start, stop, points, vanishing):
    """_least of all networks, int64 (networks,), and where, in points and vanishing, both (networks, n)."""
    networks, m, n = W.shape
    out = np.zeros(networks, np.int64)
    vanishing[:] = NONE
    for k in range(networks):
        unit, rows = _unit_rows(W[k], orthant)
        if n < 3:
            out[k] = _least_low(unit, rows, m, start, stop, points[k], vanishing[k])
        elif rows > n:
            best = descend(unit, rows, m, _kicks(n, stop), start, stop, points[k]) if n > 4 else start
            out[k] = _least(unit, rows, m, best, stop, points[k], vanishing[k])
    return out
