"""Halfspace depth of the origin among the rows of W: the least number of strictly positive <w_i, x>.

In general position k* = min over x != 0 of #{i : <w_i, x> > 0} is attained at a vertex, a direction orthogonal
to n-1 rows, as min(p, m-n+1-p) with p the positive rows among the others (Dyckerhoff and Mozharovskyi,
arXiv 1411.6927). There are C(m, n-1) of them; three observations make most of the work unnecessary.

1. *Every face will do.* The open cell where k* is attained is a pointed cone, and at each of its vertices n-1
   facets meet. It is enough to look at a family of (n-3)-subsets of rows, the *leaves*, such that every
   (n-1)-subset contains one: cut the rows in G blocks and take the subsets that lie within a block (pigeonhole,
   G = 3 for n = 5 and G = 2 for n = 6). For n >= 7 the first n-6 rows are taken in order, as the
   smallest facets of the cell, and the blocks are cut from the rows behind them.
2. *A leaf is three-dimensional*: rows eliminated one at a time by Householder reflections, work shared between
   leaves. Its sphere of directions is covered by triangles. A row that is positive at three corners is positive on
   the triangle, so popcount(P_a & P_b & P_c) bounds the count from below. A triangle that may beat the best known
   count is cut in two at the middle of the edge most rows cross; every corner is a count, hence an upper bound.
3. *A leaf that is not decided within a budget of directions is enumerated*, all pairs of rows by cross products;
   so is every leaf with more than 64 rows, the bits of a word.

Signs are evaluated in float32, sixteen rows at a time, and used only beyond a margin above any rounding error.
A lower bound counts rows that are certainly positive, an upper bound all rows not certainly negative; in an
enumeration a vertex whose doubtful signs could matter is recomputed from W in float64. So the answer is
that of float64 and depends neither on the order of networks nor on the vector width.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from sweeps.compiled import compiled

LANES = 16
BUDGET = 256  # directions tried in a leaf before it is enumerated
MARGIN = np.float32(2e-6)  # above the float32 rounding error of <w, x>, |w| <= 1, |x| <= 1: less than 1e-6


@intrinsic
def _signs(_, rows, offset, x, y, z):
    """Bits 0-15: <w_j, (x, y, z)> > MARGIN for sixteen rows from `offset`; bits 16-31: < -MARGIN."""
    signature = types.uint64(rows, types.int64, types.float32, types.float32, types.float32)

    def codegen(context, builder, signature, args):
        array = cgutils.create_struct_proxy(signature.args[0])(context, builder, value=args[0])
        stride = cgutils.unpack_tuple(builder, array.shape)[1]
        vector = ir.VectorType(ir.FloatType(), LANES)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        undefined = ir.Constant(vector, ir.Undefined)

        def product(axis, scalar):
            start = builder.add(args[1], builder.mul(stride, ir.Constant(stride.type, axis)))
            pointer = builder.bitcast(builder.gep(array.data, [start]), ir.PointerType(vector))
            one = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
            splat = builder.shuffle_vector(one, undefined, zeros)
            return builder.fmul(builder.load(pointer, align=4), splat, flags=fuse)

        def bits(comparison, margin):
            truth = builder.fcmp_ordered(comparison, h, ir.Constant(vector, [margin] * LANES))
            return builder.zext(builder.bitcast(truth, ir.IntType(LANES)), ir.IntType(64))

        fuse = ("contract",)  # a fused multiply-add where there is one: only roundings change
        h = builder.fadd(product(0, args[2]), product(1, args[3]), flags=fuse)
        h = builder.fadd(h, product(2, args[4]), flags=fuse)
        negative = builder.shl(bits("<", -float(MARGIN)), ir.Constant(ir.IntType(64), LANES))
        return builder.or_(bits(">", float(MARGIN)), negative)

    return signature, codegen


@intrinsic
def _popcount(_, word):
    def codegen(context, builder, signature, args):
        return builder.call(builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(64)]), args)

    return types.int64(types.uint64), codegen


@njit(inline="always")
def _signs_word(rows, word, x, y, z):
    """Masks of the certainly positive and certainly negative among rows 64 * word and on."""
    positive, negative = np.uint64(0), np.uint64(0)
    for offset in range(64 * word, min(64 * word + 64, rows.shape[1]), LANES):
        bits, shift = _signs(rows, offset, x, y, z), np.uint64(offset & 63)  # pyright: ignore[reportCallIssue]
        positive |= (bits & np.uint64(0xFFFF)) << shift
        negative |= (bits >> np.uint64(16)) << shift
    return positive, negative


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
def _vertex_count(unit, chosen, m, scratch):
    """min(p, m-n+1-p) at the vertex where the n-1 `chosen` rows vanish, in float64."""
    n = unit.shape[0]
    scratch[0] = unit
    for level in range(n - 1):
        _eliminate(scratch[level], n - level, chosen[level], scratch[level + 1])
    p = 0
    for j in range(m):
        p += scratch[n - 1, 0, j] > 0
    return min(p, m - n + 1 - p)


@compiled
def _enumerate(leaf, gap, m, best, unit, chosen, scratch):
    """Least count over the vertices of a leaf, or `best` if none is lower; column `gap` is row m-1."""
    n = unit.shape[0]
    columns = min(m, leaf.shape[1])
    for i in range(columns):
        a, b, c = leaf[0, i], leaf[1, i], leaf[2, i]
        if a == 0 and b == 0 and c == 0:
            continue
        for j in range(i + 1, columns):
            d, e, f = leaf[0, j], leaf[1, j], leaf[2, j]
            if d == 0 and e == 0 and f == 0:
                continue
            p, q = 0, 0
            for word in range((columns + 63) // 64):
                positive, negative = _signs_word(leaf, word, b * f - c * e, c * d - a * f, a * e - b * d)
                p += _popcount(positive)  # pyright: ignore[reportCallIssue]
                q += _popcount(negative)
            if min(p, q) < best:
                chosen[n - 3] = m - 1 if i == gap else i
                chosen[n - 2] = m - 1 if j == gap else j
                best = min(best, _vertex_count(unit, chosen, m, scratch))
    return best


@njit(inline="always")
def _look(leaf, corners, masks, at, x, y, z):
    """Store direction `at` and its masks; return the larger of its numbers of positive and negative rows."""
    corners[at, 0], corners[at, 1], corners[at, 2] = x, y, z
    positive, negative = _signs_word(leaf, 0, x, y, z)
    masks[at, 0], masks[at, 1] = positive, negative
    return max(_popcount(positive), _popcount(negative))  # pyright: ignore[reportCallIssue]


@njit(inline="always")
def _beats(masks, a, b, c, best):
    """Whether the triangle of corners a, b, c, or its opposite, might hold a count below `best`."""
    positive = _popcount(masks[a, 0] & masks[b, 0] & masks[c, 0])  # pyright: ignore[reportCallIssue]
    negative = _popcount(masks[a, 1] & masks[b, 1] & masks[c, 1])
    return min(positive, negative) < best


@njit(inline="always")
def _crossing(masks, a, b):
    """Rows that certainly change sign between corners a and b."""
    return _popcount(masks[a, 0] & masks[b, 1] | masks[a, 1] & masks[b, 0])  # pyright: ignore[reportCallIssue]


@compiled
def _search(leaf, total, best, corners, masks, queue):
    """Branch and bound over a leaf's directions: (least count seen or `best`, whether nothing is lower).

    Breadth first and without branches on the counts, so that the processor can overlap triangles.
    A triangle is queued as a, b, c, a, b: three neighbours are the triangle turned.
    """
    half = np.float32(0.5)
    for axis in range(3):
        x, y, z = np.float32(axis == 0), np.float32(axis == 1), np.float32(axis == 2)
        best = min(best, total - _look(leaf, corners, masks, axis, x, y, z))
        corners[axis + 3, 0], corners[axis + 3, 1], corners[axis + 3, 2] = -x, -y, -z
        masks[axis + 3, 0], masks[axis + 3, 1] = masks[axis, 1], masks[axis, 0]
    tail, used = np.uint64(0), np.uint64(6)  # unsigned: no test for an index from the end
    for octant in range(4):  # the others are opposite
        a, b, c = np.uint64(0), np.uint64(1 + 3 * (octant & 1)), np.uint64(2 + 3 * (octant >> 1))
        queue[tail, 0], queue[tail, 1], queue[tail, 2], queue[tail, 3], queue[tail, 4] = a, b, c, a, b
        tail += np.uint64(_beats(masks, a, b, c, best))
    head = np.uint64(0)
    while head < tail:
        if used == np.uint64(len(corners)):
            return best, False
        a, b, c = queue[head, 0], queue[head, 1], queue[head, 2]
        ab, bc, ca = _crossing(masks, a, b), _crossing(masks, b, c), _crossing(masks, c, a)
        turn = np.uint64(bc > ab)
        turn = np.uint64(2) if ca > max(ab, bc) else turn
        a, b, c = queue[head, turn], queue[head, turn + np.uint64(1)], queue[head, turn + np.uint64(2)]
        head += np.uint64(1)
        x = half * (corners[a, 0] + corners[b, 0])
        y = half * (corners[a, 1] + corners[b, 1])
        z = half * (corners[a, 2] + corners[b, 2])
        best = min(best, total - _look(leaf, corners, masks, used, x, y, z))
        queue[tail, 0], queue[tail, 1], queue[tail, 2], queue[tail, 3], queue[tail, 4] = a, used, c, a, used
        tail += np.uint64(_beats(masks, a, used, c, best))
        queue[tail, 0], queue[tail, 1], queue[tail, 2], queue[tail, 3], queue[tail, 4] = used, b, c, used, b
        tail += np.uint64(_beats(masks, used, b, c, best))
        used += np.uint64(1)
    return best, True


@compiled
def _block_end(i, start, m, blocks):
    """End of the block of row i when rows start..m-1 are cut in `blocks` nearly equal runs."""
    block = (i - start) * blocks // (m - start)
    return start + ((block + 1) * (m - start) + blocks - 1) // blocks


@compiled
def _unit_rows(W, padded):
    """Rows scaled to length 1 (zero rows stay), transposed and padded with zeros: (n, padded)."""
    m, n = W.shape
    unit = np.zeros((n, padded))
    for i in range(m):
        square = 0.0
        for q in range(n):
            square += W[i, q] * W[i, q]
        scale = 1.0 / np.sqrt(square) if square > 0 else 0.0
        for q in range(n):
            unit[q, i] = W[i, q] * scale
    return unit


@compiled
def _min_active_low(W):
    """n = 1 and n = 2 by their few vertices."""
    m, n = W.shape
    best = m
    for i in range(m if n == 2 else 1):
        p = 0
        for j in range(m):
            if n == 1:
                p += W[j, 0] > 0
            elif j != i:
                p += W[i, 0] * W[j, 1] > W[i, 1] * W[j, 0]
        best = min(best, p, m - n + 1 - p)
    return best


@compiled
def _flatten(rows, gap, last, leaf):
    """The rows (3, .) as float32 in `leaf`, row `last` moved to the `gap` an eliminated row left."""
    for axis in range(3):
        for j in range(leaf.shape[1]):
            leaf[axis, j] = rows[axis, j]
        if gap < last:
            leaf[axis, gap] = rows[axis, last]
        if last < leaf.shape[1]:
            leaf[axis, last] = 0


@compiled
def _min_active(W):
    m, n = W.shape
    if m <= n:
        return 0
    if n < 3:
        return _min_active_low(W)
    depth, ordered = n - 3, max(0, n - 6)  # rows that make a leaf, and how many of them are taken in order
    blocks = (n - 2 - ordered) // (depth - ordered - 1) if depth - ordered > 1 else 1
    padded, width = -(-m // LANES) * LANES, -(-(m - min(depth, 1)) // LANES) * LANES
    unit = _unit_rows(W, padded)
    levels, scratch = np.zeros((n, n, padded)), np.zeros((n, n, padded))
    leaf = np.zeros((3, width), np.float32)
    corners, masks = np.zeros((BUDGET, 3), np.float32), np.zeros((BUDGET, 2), np.uint64)
    queue = np.zeros((2 * BUDGET, 5), np.uint64)
    chosen, ends = np.full(n, -1), np.full(n, m)
    if ordered or depth == 1:
        ends[0] = m - n + 1  # a cell has at least n facets
    levels[0] = unit
    best, level = (m - n + 1) // 2, 0
    while level >= 0 and best > 0:
        if level < depth:
            chosen[level] += 1
            i = chosen[level]
            if i == ends[level]:
                level -= 1
                continue
            if level == ordered:
                ends[level + 1] = _block_end(i, chosen[level - 1] + 1 if ordered else 0, m, blocks)
            elif level > ordered:
                ends[level + 1] = ends[level]
            _eliminate(levels[level], n - level, i, levels[level + 1])
            level += 1
            chosen[level] = i
            continue
        gap, last = (chosen[depth - 1], m - 1) if depth else (width, width)
        _flatten(levels[depth], gap, last, leaf)
        proved = False
        if width <= 64:  # one word a mask
            best, proved = _search(leaf, m - depth, best, corners, masks, queue)
        if not proved:
            best = _enumerate(leaf, gap, m, best, unit, chosen, scratch)
        level -= 1
    return best


@compiled
def min_active(W):
    """Least number of strictly positive <w_i, x> over non-zero x, exactly: k*, int64 (networks,).

    `W` is float64 (networks, m, n) whose rows are in general position (every n of them linearly independent), as
    Gaussian rows are almost surely. Outside general position (zero, repeated or antiparallel rows), or so close
    to it that n rows of length 1 are within 1e-9 of being dependent, the result is not defined. Each network is
    treated by itself, in memory that does not grow with their number.
    """
    out = np.empty(W.shape[0], np.int64)
    for k in range(W.shape[0]):
        out[k] = _min_active(W[k])
    return out
