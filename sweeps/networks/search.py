"""Few active rows by search: an upper bound on k* = min over x != 0 of #{i : <w_i, x> > 0}, with the x that proves
it.

Annealing over the *vertices* of the arrangement of hyperplanes <w_i, x> = 0, all of which exact enumeration
(sweeps.networks.depth) looks at. At a vertex n-1 rows vanish, and around it lie 2^(n-1) cells, one for every choice
of their signs: the number of positive ones among the other rows is already a minimum over all these cells. A walk
from cell to cell has to keep n-1 rows just below zero by chance instead.

1. *A move* draws one of the rows that vanish, r, and looks along the edge line v + t d_r (sweeps.networks.vertices):
   row i vanishes at t = -h_i / T_ri. The nearest of these crossings are vertices; walking outwards, the count changes
   by one a crossing. One of them, or v itself, is taken with probability proportional to exp(-count / temperature).
2. *A step* exchanges two rows in the table. Exchanges wait until there are eight and are then carried out with one
   pass over the table, which does not fit in the fastest cache; a line needed before is brought up to date by itself.
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
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from sweeps.compiled import compiled
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

LANES = 16
WAITING = 8  # exchanges carried out together
CANDIDATES = 256  # most crossings of one side looked at
NEAREST = 16  # crossings a line is meant to show
STAGES = 1000
HOT = 0.19  # weight of one active row more at the beginning: temperature 0.6
COOLING = 0.9967  # its factor from stage to stage: 0.0070, temperature 0.2, at the end
PIVOT = np.float32(1e-3)  # smallest |T_rs| exchanged in float32
REFRESH = 64  # steps between refreshes, in units of n


class _Vertex(NamedTuple):
    """A vertex while it is walked from: `basic` (n-1,) rows vanish, `other` are the table's columns."""

    table: np.ndarray  # float32 (n-1, columns padded with zeros), without the exchanges that wait
    margins: np.ndarray  # float32 (padded,)
    basic: np.ndarray
    other: np.ndarray
    radius: np.ndarray  # float32 (m,): how far to look along the line of a row


class _Waiting(NamedTuple):
    """Exchanges that the table does not have yet."""

    line: np.ndarray  # float32 (WAITING, padded): the row of the table, over the pivot; zero at the pivot
    inverse: np.ndarray  # float32 (WAITING,): 1 / pivot
    slot: np.ndarray
    column: np.ndarray


class _Line(NamedTuple):
    """The crossings of a line, of either side by distance."""

    distance: np.ndarray  # float32 (2, CANDIDATES)
    column: np.ndarray
    number: np.ndarray


class _Work(NamedTuple):
    line: np.ndarray  # float32 (padded,)
    weight: np.ndarray  # (2, CANDIDATES)
    powers: np.ndarray  # (2 CANDIDATES + 3,)
    factor: np.ndarray  # float32 (WAITING, n-1)
    entry: np.ndarray
    rows: np.ndarray  # (n-1,) those that vanish at the best vertex
    centre: np.ndarray  # (n,) of the chart
    inside: np.ndarray


@intrinsic
def _near(_, margins, line, offset, radius):
    """Bits 0-15: |margin| <= radius |line| for sixteen columns from `offset`."""
    signature = types.uint64(margins, line, types.int64, types.float32)

    def codegen(context, builder, signature, args):
        vector, words = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(32), LANES)
        undefined = ir.Constant(vector, ir.Undefined)

        def magnitude(k):
            array = cgutils.create_struct_proxy(signature.args[k])(context, builder, value=args[k])
            pointer = builder.bitcast(builder.gep(array.data, [args[2]]), ir.PointerType(words))
            rest = builder.and_(builder.load(pointer, align=4), ir.Constant(words, [0x7FFFFFFF] * LANES))
            return builder.bitcast(rest, vector)

        one = builder.insert_element(undefined, args[3], ir.Constant(ir.IntType(32), 0))
        splat = builder.shuffle_vector(one, undefined, ir.Constant(words, [0] * LANES))
        truth = builder.fcmp_ordered("<=", magnitude(0), builder.fmul(magnitude(1), splat))
        return builder.zext(builder.bitcast(truth, ir.IntType(LANES)), ir.IntType(64))

    return signature, codegen


@intrinsic
def _trailing_zeros(_, word):
    def codegen(_context, builder, _signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))  # undefined at 0; not called there

    return types.int64(types.uint64), codegen


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
        vertex.margins[j] = -1
    return positive


@compiled
def _up_to_date(table, waiting, pending, r, out):
    """Row r of the table as it is after the exchanges that wait."""
    first = 0
    for p in range(pending):
        first = p + 1 if waiting.slot[p] == r else first
    scaled(waiting.line[first - 1] if first else table[r], np.float32(1), out)
    if first:
        out[waiting.column[first - 1]] = waiting.inverse[first - 1]
    for p in range(first, pending):
        s = waiting.column[p]
        factor = out[s]
        subtract(out, factor, waiting.line[p])
        out[s] = -factor * waiting.inverse[p]


@njit(inline="always")
def _waits(waiting, first, r):
    """Whether slot r takes part in an exchange from number `first` on."""
    found = False
    for p in range(first, WAITING):
        found |= waiting.slot[p] == r
    return found


@compiled
def _carry_out(table, waiting, factor, entry, out):
    """All WAITING exchanges on the whole table; `factor` and `entry` (WAITING, n-1) and `out` are work space."""
    line, inverse, slot, column = waiting
    for p in range(WAITING):
        for k in range(len(table)):
            entry[p, k] = table[k, column[p]]
    for q in range(WAITING):
        scaled(entry[q], np.float32(1), factor[q])
        for p in range(WAITING):
            if column[p] == column[q]:
                scaled(factor[q], -inverse[q], entry[p])
            else:
                subtract(entry[p], line[q, column[p]], factor[q])
    for k in range(len(table)):
        if not _waits(waiting, 0, k):
            _subtract_four(table[k], line[:4], factor[0, k], factor[1, k], factor[2, k], factor[3, k])
            _subtract_four(table[k], line[4:], factor[4, k], factor[5, k], factor[6, k], factor[7, k])
            for p in range(WAITING):
                table[k, column[p]] = entry[p, k]
    for p in range(WAITING):
        if not _waits(waiting, p + 1, slot[p]):
            _up_to_date(table, waiting, len(slot), slot[p], out)
            scaled(out, np.float32(1), table[slot[p]])


@compiled
def _look(margins, line, radius, found):
    """The crossings within `radius` along a line, in order; whether there was room for them all."""
    distance, column, number = found
    number[:] = 0
    for offset in range(0, len(margins), LANES):
        bits = _near(margins, line, offset, radius)  # pyright: ignore[reportCallIssue]
        while bits:
            j = offset + _trailing_zeros(bits)  # pyright: ignore[reportCallIssue]
            bits &= bits - np.uint64(1)
            if abs(line[j]) < PIVOT:
                continue
            t = -margins[j] / line[j]
            side = int(t < 0)
            p = number[side]
            if p == CANDIDATES:
                return False
            t = abs(t)
            while p > 0 and distance[side, p - 1] > t:
                distance[side, p], column[side, p] = distance[side, p - 1], column[side, p - 1]
                p -= 1
            distance[side, p], column[side, p] = t, j
            number[side] += 1
    return True


@compiled
def _choose(margins, found, powers, uniform, weight):
    """Heat bath: (t, column, change of count) of a crossing, or column -1 to stay.

    `powers`[CANDIDATES + 1 + change] is the weight of a change of the count, `weight` (2, CANDIDATES) work space.
    """
    distance, column, number = found
    zero = CANDIDATES + 1
    total = powers[zero]
    for side in range(2):
        change = 1 - side  # the row that is left turns positive on side 0, negative on side 1
        for p in range(number[side]):
            falls = int(margins[column[side, p]] > 0)
            weight[side, p] = powers[zero + change - falls]
            total += weight[side, p]
            change += 1 - 2 * falls
    left = uniform * total - powers[zero]
    if left < 0:
        return np.float32(0), -1, 0
    for side in range(2):
        change = 1 - side
        for p in range(number[side]):
            falls = int(margins[column[side, p]] > 0)
            left -= weight[side, p]
            if left < 0:
                t = distance[side, p]
                return -t if side else t, column[side, p], change - falls
            change += 1 - 2 * falls
    return np.float32(0), -1, 0


@compiled
def _step(vertex, waiting, pending, r, s, t, line):
    """Move to where column s vanishes on the `line` of slot r; the exchange waits."""
    _, margins, basic, other, radius = vertex
    inverse = np.float32(1) / line[s]
    subtract(margins, -t, line)
    margins[s] = t
    for j in range(len(line)):
        waiting.line[pending, j] = inverse * line[j]
    waiting.line[pending, s] = 0
    waiting.inverse[pending], waiting.slot[pending], waiting.column[pending] = inverse, r, s
    radius[other[s]] = radius[basic[r]] * abs(line[s])
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
def _set_powers(weight, powers):
    """Fill the table of `_choose`: weight^change, changes beyond 64 as 64."""
    zero = len(powers) // 2
    powers[zero] = 1
    for k in range(1, zero + 1):
        powers[zero + k] = powers[zero + k - 1] * weight if k <= 64 else powers[zero + 64]
        powers[zero - k] = 1 / powers[zero + k]


@compiled
def _move(vertex, waiting, pending, found, work, a, b):
    """One move with the random words a and b: whether a step was taken, and the change of count."""
    r = np.int64(np.uint64(a) * np.uint64(len(vertex.basic)) >> np.uint64(32))
    row = vertex.basic[r]
    if row < 0:
        return False, 0
    _up_to_date(vertex.table, waiting, pending, r, work.line)
    if not _look(vertex.margins, work.line, vertex.radius[row], found):
        vertex.radius[row] *= np.float32(0.6)
        return False, 0
    few = found.number[0] + found.number[1] < NEAREST
    vertex.radius[row] = min(vertex.radius[row] * np.float32(1.1 if few else 0.9), np.float32(1e6))
    t, s, change = _choose(vertex.margins, found, work.powers, b * 2.0**-32, work.weight)
    if s >= 0:
        _step(vertex, waiting, pending, r, s, t, work.line)
    return s >= 0, change


@compiled
def _anneal(W, unit, key, draw, tensor, moves, margin, exact, vertex, waiting, found, work, x):
    """Anneal one network from `x` (n,), which receives the best direction; returns its count."""
    best, n = _start(W, margin, x), W.shape[1]
    if n == 1 or best == 0:
        return best
    scaled(x, 1.0, work.centre)
    nearest_vertex(unit, work.centre, exact)
    count = _load(exact, vertex)
    least, improved, steps, pending, hot = count, True, 0, np.int64(0), HOT  # a literal 0 is another type
    scaled(vertex.basic, 1, work.rows)
    for stage in range(STAGES):
        _set_powers(hot, work.powers)
        hot *= COOLING
        for move in range(stage * moves // STAGES, (stage + 1) * moves // STAGES):
            a, b, _, _ = philox(move, tensor, draw, draw >> np.uint64(32), key, key >> np.uint64(32))
            stepped, change = _move(vertex, waiting, pending, found, work, a, b)
            if not stepped:
                continue
            count, steps, pending = count + change, steps + 1, pending + 1
            if count < least:
                least, improved = count, True
                scaled(vertex.basic, 1, work.rows)
            if steps == REFRESH * n:
                if improved:
                    best, least = _certify(W, unit, work.centre, work.rows, exact, margin, best, work.inside, x)
                count, steps, pending, improved = _refresh(unit, work.centre, exact, vertex), 0, 0, False
            elif pending == WAITING:
                _carry_out(vertex.table, waiting, work.factor, work.entry, work.line)
                pending = 0
    if improved:
        best, least = _certify(W, unit, work.centre, work.rows, exact, margin, best, work.inside, x)
    return best


def _space(n, padded):
    few, many = np.zeros(WAITING, np.float32), np.zeros((2, CANDIDATES))
    slots, lines = np.zeros(WAITING, np.int64), np.zeros((WAITING, padded), np.float32)
    waiting = _Waiting(lines, few, slots, slots.copy())
    found = _Line(many.astype(np.float32), many.astype(np.int64), np.zeros(2, np.int64))
    rows, centre = np.zeros(n - 1, np.int64), np.zeros(n)
    powers = np.zeros(2 * CANDIDATES + 3)
    factor = np.zeros((WAITING, n - 1), np.float32)
    work = _Work(lines[0].copy(), many, powers, factor, factor.copy(), rows, centre, centre.copy())
    return waiting, found, work


def search(
    W: np.ndarray, keys: np.ndarray, draws: np.ndarray, tensor: int, moves: int, margin: float = 1e-9
) -> tuple[np.ndarray, np.ndarray]:
    """Fewest active rows found and where: (count int64 (networks,), x float64 (networks, n) of length 1).

    `W` is float64 (networks, m, n), any finite rows; `keys` and `draws` uint64 (networks,) and `tensor` address the
    words a network uses, one block a move, up to 2**32 moves. `count` is that of all rows with
    <w_i, x> >= -margin |w_i| |x| in float64, so k* <= count whatever the search did; zero rows count as active.
    A network's answer is a function of its rows, its words, `moves` and `margin` alone. Memory does not grow with
    their number: it is about 20 m n bytes.
    """
    networks, m, n = W.shape
    padded = -(-max(m - n + 1, 1) // LANES) * LANES
    unit, wide = np.zeros((n, m + n)), np.zeros(m + n)
    exact = Exact(wide, np.zeros((n - 1, m + n)), np.zeros(n - 1, np.int64), np.zeros(m + n, np.int64), wide.copy())
    count, x = np.empty(networks, np.int64), np.zeros((networks, n))
    for k in range(networks):
        unit_rows(W[k], unit)
        vertex = _Vertex(
            np.zeros((n - 1, padded), np.float32),
            np.zeros(padded, np.float32),
            np.zeros(n - 1, np.int64),
            np.zeros(padded, np.int64),
            np.full(m, 0.1, np.float32),
        )
        count[k] = _anneal(
            W[k], unit, keys[k], draws[k], np.uint32(tensor), moves, margin, exact, vertex, *_space(n, padded), x[k]
        )
    return count, x
