"""Few active rows by search: an upper bound on k* = min over x != 0 of #{i : <w_i, x> > 0}, with the x that proves
it.

Annealing over the *vertices* of the arrangement of hyperplanes <w_i, x> = 0, all of which exact enumeration
(sweeps.networks.depth) looks at. At a vertex n-1 rows vanish, and around it lie 2^(n-1) cells, one for every choice
of their signs: the number of positive ones among the other rows is already a minimum over all these cells. A walk
from cell to cell has to keep n-1 rows just below zero by chance instead.

1. *A move* draws one of the rows that vanish, r, and looks along the edge line v + t d_r (sweeps.networks.vertices):
   row i vanishes at t = -h_i / T_ri. The nearest of these crossings are vertices; walking outwards, the count changes
   by one a crossing. One of them, or v itself, is taken with probability proportional to exp(-count / temperature).
2. *A step* exchanges r and the row it stops at, in every line of the table: n-1 of them. So r is drawn from a block
   of 16 lines, which fit in the fastest cache, for 128 moves, and the steps change only these. However many steps
   those were, to the other lines they add up to a correction of rank 16, made when the next block is drawn.
3. The table is float32. Every 64 n steps it is made anew in float64, with the vertex as the centre of the chart.
4. *Certificate.* For the best vertex, in float64, x = v - epsilon sum_r d_r lies in the cell where all of its rows
   are negative, epsilon being half of what would turn a negative row. All rows of W are then counted in float64,
   those within a margin of zero as active: the bound does not rest on anything above.

The walk starts next to x = -W^T 1 (Puthawala et al., arXiv 2006.08464). Temperatures follow from the weight of one
active row more at the beginning and its factor from stage to stage: no exponential is evaluated, and all operations
are those that IEEE 754 rounds alike everywhere, so the answer is the same on every machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from sweeps.compiled import compiled
from sweeps.networks.crossings import CANDIDATES, LANES, Crossings, choose, look, set_powers
from sweeps.networks.vertices import (
    Exact,
    active,
    dot,
    nearest_vertex,
    put_inside,
    scaled,
    subtract,
    unit_rows,
    vertex_of,
)
from sweeps.randomness import philox

BLOCK = 16  # slots walked over together
WINDOW = 128  # moves in a block
NEAREST = 16  # crossings a line is meant to show
STAGES = 1000
HOT = 0.19  # weight of one active row more at the beginning: temperature 0.6
COOLING = 0.9967  # its factor from stage to stage: 0.0070, temperature 0.2, at the end
REFRESH = 64  # steps between refreshes, in units of n


class _Vertex(NamedTuple):
    """A vertex while it is walked from: `basic` (n-1,) rows vanish, `other` are the table's columns, -1 of padding."""

    table: np.ndarray  # float32 (n-1, columns padded with zeros), as it was when the block began
    margins: np.ndarray  # float32 (padded,)
    basic: np.ndarray
    other: np.ndarray
    radius: np.ndarray  # float32 (m,): how far to look along the line of a row


class _Block(NamedTuple):
    """The lines of some slots, kept up to date while those of the others wait."""

    table: np.ndarray  # float32 (BLOCK, padded); zero where there are fewer slots
    slot: np.ndarray  # (BLOCK,), -1 where there are fewer
    order: np.ndarray  # (n-1,) permutation of the slots; its beginning is the next block
    place: np.ndarray  # (m,) column of a row when the block began, -1 of one that vanished
    held: np.ndarray  # (padded,) the row of a column when the block began
    source: np.ndarray  # (padded,) and
    factor: np.ndarray  # float32 (BLOCK,): work space


class _Work(NamedTuple):
    """Work space of a search, and the best vertex."""

    weight: np.ndarray  # (2, CANDIDATES)
    powers: np.ndarray  # (2 CANDIDATES + 3,)
    entry: np.ndarray  # float32 (padded,)
    rows: np.ndarray  # (n-1,) those that vanish at the best vertex
    centre: np.ndarray  # (n,) of the chart
    inside: np.ndarray


@compiled
def _subtract_four(out, lines, a, b, c, d):
    for j in range(len(out)):
        out[j] = out[j] - a * lines[0, j] - b * lines[1, j] - c * lines[2, j] - d * lines[3, j]


@compiled
def _load(exact, vertex):
    """Put a float64 vertex in its float32 place; returns its number of positive rows."""
    positive, column = 0, 0
    rows = len(exact.table)
    for k in range(rows):
        vertex.basic[k] = exact.basic[k]
    for j in range(len(vertex.radius)):
        if exact.other[j] >= 0 and column < len(vertex.margins):  # more only where rows are dependent
            vertex.margins[column], vertex.other[column] = exact.margins[j], j
            for k in range(rows):
                vertex.table[k, column] = exact.table[k, j]
            positive += exact.margins[j] > 0
            column += 1
    for j in range(column, len(vertex.margins)):
        vertex.margins[j], vertex.other[j] = -1, -1
    return positive


@compiled
def _open(vertex, block):
    """Begin the block that `order` tells."""
    for i in range(min(BLOCK, len(vertex.basic))):
        block.slot[i] = block.order[i]
        scaled(vertex.table[block.slot[i]], np.float32(1), block.table[i])
    for row in vertex.basic:
        if row >= 0:
            block.place[row] = -1
    for p in range(len(vertex.other)):
        block.held[p] = vertex.other[p]
        if vertex.other[p] >= 0:
            block.place[vertex.other[p]] = p


@njit(inline="always")
def _in_block(block, k):
    found = False
    for i in range(BLOCK):
        found |= block.slot[i] == k
    return found


@njit(inline="always")
def _factor(line, vertex, block, i):
    """How much of the block's line i is taken from another line: its entry at the row that vanishes there now."""
    row = vertex.basic[block.slot[i]] if block.slot[i] >= 0 else -1
    return line[block.place[row]] if row >= 0 and block.place[row] >= 0 else np.float32(0)


@compiled
def _close(vertex, block, entry):
    """Bring the whole table up to date: however many steps there were, a correction of at most rank BLOCK.

    With b_r the row that vanishes in slot r now, and d_r that line now: d_k -> d_k - sum_r <w_b_r, d_k> d_r.
    """
    moved = 0
    for p in range(len(vertex.other)):
        if vertex.other[p] != block.held[p]:
            block.source[moved] = p
            moved += 1
    lines = block.table
    for k in range(len(vertex.table)):
        if moved == 0 or _in_block(block, k):
            continue
        line = vertex.table[k]
        for j in range(moved):  # the row that is in a column now vanished before, or came from another column
            place = block.place[vertex.other[block.source[j]]]
            entry[j] = line[place] if place >= 0 else np.float32(0)
        for i in range(BLOCK):
            block.factor[i] = _factor(line, vertex, block, i)
        for j in range(moved):
            line[block.source[j]] = entry[j]
        for i in range(0, BLOCK, 4):
            factor = block.factor[i : i + 4]
            if factor[0] != 0 or factor[1] != 0 or factor[2] != 0 or factor[3] != 0:
                _subtract_four(line, lines[i : i + 4], factor[0], factor[1], factor[2], factor[3])
    for i in range(BLOCK):
        if block.slot[i] >= 0:
            scaled(lines[i], np.float32(1), vertex.table[block.slot[i]])


@compiled
def _step(vertex, block, i, s, t):
    """Move to where column s vanishes on the block's line i."""
    _, margins, basic, other, radius = vertex
    line, r = block.table[i], block.slot[i]
    pivot = line[s]
    inverse = np.float32(1) / pivot
    subtract(margins, -t, line)
    margins[s] = t
    scaled(line, inverse, line)
    for k in range(min(BLOCK, len(basic))):
        if k != i:
            factor = block.table[k, s]
            subtract(block.table[k], factor, line)
            block.table[k, s] = -factor * inverse
    line[s] = inverse
    radius[other[s]] = radius[basic[r]] * abs(pivot)
    basic[r], other[s] = other[s], basic[r]


@compiled
def _certify(W, unit, centre, rows, exact, margin, best, inside, x):
    """Count at the vertex where `rows` vanish; kept with its `x` where lower than `best`. Returns (best, count)."""
    vertex_of(unit, centre, rows, exact)
    put_inside(exact, inside)
    count = active(W, inside, margin)
    if count < best:
        scaled(inside, 1.0, x)
    return min(count, best), count


@compiled
def _refresh(unit, centre, exact, vertex):
    """Make the table anew in float64, and the vertex the centre of the chart; returns the count."""
    vertex_of(unit, centre, vertex.basic, exact)
    point = exact.margins[len(vertex.radius) :]
    scaled(exact.margins, 1 / np.sqrt(dot(point, point)), exact.margins)
    scaled(point, 1.0, centre)
    for k in range(len(exact.table)):
        subtract(exact.table[k], dot(exact.table[k, len(vertex.radius) :], centre), exact.margins)
    return _load(exact, vertex)


@compiled
def _start(W, margin, x):
    """Put -W^T 1 or its opposite, whichever has fewer active rows, in `x` with length 1; returns its count."""
    scaled(x, 0.0, x)
    for i in range(len(W)):
        subtract(x, 1.0, W[i])
    if not dot(x, x) > 0:
        x[0] = 1
    scaled(x, 1 / np.sqrt(dot(x, x)), x)
    count = active(W, x, margin)
    scaled(x, -1.0, x)
    opposite = active(W, x, margin)
    if opposite > count:
        scaled(x, -1.0, x)
    return min(count, opposite)


@compiled
def _move(vertex, block, found, work, a, b):
    """One move with the random words a and b: whether a step was taken, and the change of count."""
    i = np.int64(np.uint64(a) * np.uint64(min(BLOCK, len(vertex.basic))) >> np.uint64(32))
    row, line = vertex.basic[block.slot[i]], block.table[i]
    if row < 0:
        return False, 0
    if not look(vertex.margins, line, vertex.radius[row], found):
        vertex.radius[row] *= np.float32(0.6)
        return False, 0
    few = found.number[0] + found.number[1] < NEAREST
    vertex.radius[row] = min(vertex.radius[row] * np.float32(1.1 if few else 0.75), np.float32(1e6))
    t, s, change = choose(vertex.margins, found, work.powers, b * 2.0**-32, work.weight)
    if s >= 0:
        _step(vertex, block, i, s, t)
    return s >= 0, change


@compiled
def _next_block(vertex, block, j, word, entry):
    """Move j of a window: draw slot j of the next block (Fisher and Yates); at the window's end go over to that."""
    slots = len(block.order)
    if j < min(BLOCK, slots):
        k = j + np.int64(np.uint64(word) * np.uint64(slots - j) >> np.uint64(32))
        block.order[j], block.order[k] = block.order[k], block.order[j]
    if j == WINDOW - 1:
        _close(vertex, block, entry)
        _open(vertex, block)


@compiled
def _anneal(W, unit, key, draw, tensor, moves, margin, exact, vertex, block, found, work, x):
    """Anneal one network from `x` (n,), which receives the best direction; returns its count."""
    best, n = _start(W, margin, x), W.shape[1]
    if n == 1 or best == 0:
        return best
    scaled(x, 1.0, work.centre)
    nearest_vertex(unit, work.centre, exact)
    count = _load(exact, vertex)
    _open(vertex, block)
    least, improved, steps, hot = count, True, 0, HOT
    scaled(vertex.basic, 1, work.rows)
    for stage in range(STAGES):
        set_powers(hot, work.powers)
        hot *= COOLING
        for move in range(stage * moves // STAGES, (stage + 1) * moves // STAGES):
            a, b, c, _ = philox(move, tensor, draw, draw >> np.uint64(32), key, key >> np.uint64(32))
            stepped, change = _move(vertex, block, found, work, a, b)
            count, steps = count + change, steps + stepped
            if count < least:
                least, improved = count, True
                scaled(vertex.basic, 1, work.rows)
            _next_block(vertex, block, move % WINDOW, c, work.entry)
            if steps == REFRESH * n:
                if improved:
                    best, least = _certify(W, unit, work.centre, work.rows, exact, margin, best, work.inside, x)
                count, steps, improved = _refresh(unit, work.centre, exact, vertex), 0, False
                _open(vertex, block)
    if improved:
        best, least = _certify(W, unit, work.centre, work.rows, exact, margin, best, work.inside, x)
    return best


def _space(m, n, padded):
    """Everything of one network's search but its rows in float64."""
    slots, columns, margins = np.arange(n - 1), np.zeros(padded, int), np.zeros(padded, np.float32)
    table, radius = np.zeros((n - 1, padded), np.float32), np.full(m, 0.1, np.float32)
    vertex = _Vertex(table, margins, slots.copy(), columns, radius)
    block = _Block(
        np.zeros((BLOCK, padded), np.float32),
        np.full(BLOCK, -1),
        slots,
        np.zeros(m, int),
        columns.copy(),
        columns.copy(),
        np.zeros(BLOCK, np.float32),
    )
    many, centre = np.zeros((2, CANDIDATES)), np.zeros(n)
    found = Crossings(many.astype(np.float32), many.astype(np.int64), np.zeros(2, np.int64))
    work = _Work(many, np.zeros(2 * CANDIDATES + 3), margins.copy(), slots.copy(), centre, centre.copy())
    return vertex, block, found, work


def _all_negative(W, unit, margin, x):
    """Whether the direction with <w_i, x> = -1, which there is of up to n rows in general position, has no active row:
    then it is put in `x`."""
    found = np.linalg.lstsq(unit[:, : len(W)].T, np.full(len(W), -1.0), rcond=None)[0]
    proved = found.any() and active(W, found, margin) == 0
    if proved:
        x[:] = found / np.linalg.norm(found)
    return proved


def search(
    W: np.ndarray, keys: np.ndarray, draws: np.ndarray, tensor: int, moves: int, margin: float = 1e-9
) -> tuple[np.ndarray, np.ndarray]:
    """Fewest active rows found and where: (count int64 (networks,), x float64 (networks, n) of length 1).

    `W` is (networks, m, n), any finite rows; `keys` and `draws` uint64 (networks,) and `tensor` address the
    words a network uses, one block a move, up to 2**32 moves. `count` is that of all rows with
    <w_i, x> >= -margin |w_i| |x| in float64, so k* <= count whatever the search did; zero rows never count.
    It is 0 = k* where there are no more rows than inputs, in general position.
    A network's answer is a function of its rows, its words, `moves` and `margin` alone. Memory does not grow with
    their number: it is about 20 m n bytes.
    """
    W = np.ascontiguousarray(W, np.float64)
    networks, m, n = W.shape
    padded = -(-max(m - n + 1, 1) // LANES) * LANES
    unit, wide = np.zeros((n, m + n)), np.zeros(m + n)
    exact = Exact(wide, np.zeros((n - 1, m + n)), np.zeros(n - 1, np.int64), np.zeros(m + n, np.int64), wide.copy())
    count, x = np.empty(networks, np.int64), np.zeros((networks, n))
    for k in range(networks):
        unit_rows(W[k], unit)
        if m <= n and _all_negative(W[k], unit, margin, x[k]):
            count[k] = 0
            continue
        space = _space(m, n, padded)
        count[k] = _anneal(W[k], unit, keys[k], draws[k], np.uint32(tensor), moves, margin, exact, *space, x[k])
    return count, x
