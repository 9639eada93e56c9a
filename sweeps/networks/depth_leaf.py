"""The three-dimensional leaves of sweeps.networks.depth: branch and bound over the directions of a leaf.

A leaf is float32 (3, columns): the rows in an orthonormal basis of the directions orthogonal to the n-3 rows chosen,
those of W and, on the orthant, those of the identity, which are constraints (`fixed`: the bits of their columns).
A direction is *certainly* positive at a row beyond MARGIN, which is above any rounding error on the way there.
The sphere of directions is covered by triangles, each standing for its opposite too.

* A row that is positive at three corners is positive on the triangle: the count there is at least
  popcount(P_a & P_b & P_c). A triangle with a constraint that is negative at three corners is infeasible.
* The count just off a feasible corner, on the negative side of the rows chosen, is at most the number of rows
  that are not certainly negative there.
* A triangle that may beat the best known count is cut in two at the middle of the edge most rows cross.

This ends: at every direction of the leaf the strictly positive rows alone are no fewer than the least count, so that
small triangles are decided, unless a doubtful sign or a tiny cell is in the way. Then the leaf is enumerated.

Masks are one or two words of 64 bits. Their number is that of `fixed`, a tuple, hence known to the compiler.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from sweeps.compiled import compiled

LANES = 16
MARGIN = np.float32(2e-6)  # above the float32 rounding error of <w, x>, |w| <= 1, |x| <= 1: less than 1e-6
NONE = -1
NEVER = 1 << 30  # the count where a constraint is not certainly met


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


@njit(forceinline=True)
def _signs_word(leaf, word, x, y, z):
    """Masks of the certainly positive and certainly negative among columns 64 * word and on."""
    positive, negative = np.uint64(0), np.uint64(0)
    for offset in range(64 * word, min(64 * word + 64, leaf.shape[1]), LANES):
        bits, shift = _signs(leaf, offset, x, y, z), np.uint64(offset & 63)  # pyright: ignore[reportCallIssue]
        positive |= (bits & np.uint64(0xFFFF)) << shift
        negative |= (bits >> np.uint64(16)) << shift
    return positive, negative


@njit(forceinline=True)
def _count(fixed, masks, at, total):
    """The least count certain just off direction `at` or its opposite."""
    here, opposite, above, below = total, total, np.uint64(0), np.uint64(0)
    for word in range(len(fixed)):
        positive, negative = masks[at, 2 * word], masks[at, 2 * word + 1]
        here -= _popcount(negative & ~fixed[word])  # pyright: ignore[reportCallIssue]
        opposite -= _popcount(positive & ~fixed[word])  # pyright: ignore[reportCallIssue]
        above |= fixed[word] & ~positive
        below |= fixed[word] & ~negative
    return min(NEVER if above else here, NEVER if below else opposite)


@njit(forceinline=True)
def _look(leaf, fixed, corners, masks, at, x, y, z, total):
    """Store direction `at` and its masks; return its _count."""
    corners[at, 0], corners[at, 1], corners[at, 2] = x, y, z
    for word in range(len(fixed)):
        masks[at, 2 * word], masks[at, 2 * word + 1] = _signs_word(leaf, word, x, y, z)
    return _count(fixed, masks, at, total)


@njit(forceinline=True)
def _beats(fixed, masks, a, b, c, best):
    """Whether the triangle of corners a, b, c, or its opposite, might hold a feasible count below `best`."""
    here, opposite, above, below = 0, 0, np.uint64(0), np.uint64(0)
    for word in range(len(fixed)):
        i, j = np.uint64(2 * word), np.uint64(2 * word + 1)
        positive = masks[a, i] & masks[b, i] & masks[c, i]
        negative = masks[a, j] & masks[b, j] & masks[c, j]
        here += _popcount(positive & ~fixed[word])  # pyright: ignore[reportCallIssue]
        opposite += _popcount(negative & ~fixed[word])  # pyright: ignore[reportCallIssue]
        above |= positive & fixed[word]
        below |= negative & fixed[word]
    return min(best if below else here, best if above else opposite) < best


@njit(forceinline=True)
def _crossing(fixed, masks, a, b):
    """Rows that certainly change sign between corners a and b."""
    rows = 0
    for word in range(len(fixed)):
        i, j = np.uint64(2 * word), np.uint64(2 * word + 1)
        rows += _popcount(masks[a, i] & masks[b, j] | masks[a, j] & masks[b, i])  # pyright: ignore[reportCallIssue]
    return rows


@njit(forceinline=True)
def _search(leaf, fixed, total, best, corners, masks, queue):
    """Branch and bound over a leaf: (least count seen or `best`, whether nothing is lower).

    `total` is the number of rows of W in the leaf. Breadth first and without branches on the counts, so that the
    processor can overlap triangles. A triangle is queued as a, b, c, a, b: three neighbours are the triangle turned.
    """
    half = np.float32(0.5)
    for axis in range(3):
        x, y, z = np.float32(axis == 0), np.float32(axis == 1), np.float32(axis == 2)
        best = min(best, _look(leaf, fixed, corners, masks, axis, x, y, z, total))
        corners[axis + 3, 0], corners[axis + 3, 1], corners[axis + 3, 2] = -x, -y, -z
        for word in range(len(fixed)):
            masks[axis + 3, 2 * word], masks[axis + 3, 2 * word + 1] = masks[axis, 2 * word + 1], masks[axis, 2 * word]
    tail, used = np.uint64(0), np.uint64(6)  # unsigned: no test for an index from the end
    for octant in range(4):  # the others are opposite
        a, b, c = np.uint64(0), np.uint64(1 + 3 * (octant & 1)), np.uint64(2 + 3 * (octant >> 1))
        queue[tail, 0], queue[tail, 1], queue[tail, 2], queue[tail, 3], queue[tail, 4] = a, b, c, a, b
        tail += np.uint64(_beats(fixed, masks, a, b, c, best))
    head = np.uint64(0)
    while head < tail:
        if used == np.uint64(len(corners)):
            return best, False
        a, b, c = queue[head, 0], queue[head, 1], queue[head, 2]
        ab, bc, ca = _crossing(fixed, masks, a, b), _crossing(fixed, masks, b, c), _crossing(fixed, masks, c, a)
        turn = np.uint64(bc > ab)
        turn = np.uint64(2) if ca > max(ab, bc) else turn
        a, b, c = queue[head, turn], queue[head, turn + np.uint64(1)], queue[head, turn + np.uint64(2)]
        head += np.uint64(1)
        x = half * (corners[a, 0] + corners[b, 0])
        y = half * (corners[a, 1] + corners[b, 1])
        z = half * (corners[a, 2] + corners[b, 2])
        best = min(best, _look(leaf, fixed, corners, masks, used, x, y, z, total))
        queue[tail, 0], queue[tail, 1], queue[tail, 2], queue[tail, 3], queue[tail, 4] = a, used, c, a, used
        tail += np.uint64(_beats(fixed, masks, a, used, c, best))
        queue[tail, 0], queue[tail, 1], queue[tail, 2], queue[tail, 3], queue[tail, 4] = used, b, c, used, b
        tail += np.uint64(_beats(fixed, masks, used, b, c, best))
        used += np.uint64(1)
    return best, True


@compiled
def search(leaf, total, best, corners, masks, queue):
    """_search of a leaf of one word without constraints."""
    return _search(leaf, (np.uint64(0),), total, best, corners, masks, queue)


@compiled
def search_constrained(leaf, fixed, total, best, corners, masks, queue):
    """_search of a leaf of one or two words, constrained or not, in two words."""
    return _search(leaf, fixed, total, best, corners, masks, queue)


@compiled
def corner(fixed, masks, total, best):
    """The first corner whose count is `best`, of a search that has just found it."""
    at = 0
    while _count(fixed, masks, at, total) != best:
        at += 1
    return at


@compiled
def candidate(leaf, fixed, i, j, best):
    """Whether the vertex where columns i and j vanish, or its opposite, might be feasible and count below `best`.

    `fixed` is an array here, with a word for any 64 columns, or more.
    """
    a, b, c = leaf[0, i], leaf[1, i], leaf[2, i]
    d, e, f = leaf[0, j], leaf[1, j], leaf[2, j]
    x, y, z = b * f - c * e, c * d - a * f, a * e - b * d
    here, opposite, above, below = 0, 0, np.uint64(0), np.uint64(0)
    for word in range(len(fixed)):
        positive, negative = _signs_word(leaf, word, x, y, z)
        here += _popcount(positive & ~fixed[word])  # pyright: ignore[reportCallIssue]
        opposite += _popcount(negative & ~fixed[word])  # pyright: ignore[reportCallIssue]
        above |= positive & fixed[word]
        below |= negative & fixed[word]
    return (here < best and below == 0) or (opposite < best and above == 0)
