"""The crossings of an edge line: where rows vanish on it, nearest first, and a choice among them by heat bath.

On the line v + t d the margins are h + t l: row j vanishes at t = -h_j / l_j. That is a vertex, and its count follows
from that of v by walking outwards, a row more or less at a crossing. `margins` (padded,) and `line` (padded,) are
float32, their lengths multiples of LANES.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sweeps.compiled import compiled

LANES = 16
CANDIDATES = 256  # most crossings of one side looked at
PIVOT = np.float32(1e-3)  # smallest entry of a line that is exchanged in float32


class Crossings(NamedTuple):
    """The crossings of a line, of either side by distance."""

    distance: np.ndarray  # float32 (2, CANDIDATES)
    column: np.ndarray
    number: np.ndarray


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
def look(margins, line, radius, found):
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
def choose(margins, found, powers, uniform, weight):
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
def set_powers(weight, powers):
    """Fill the table of `choose`: weight^change, changes beyond 64 as 64."""
    zero = len(powers) // 2
    powers[zero] = 1
    for k in range(1, zero + 1):
        powers[zero + k] = powers[zero + k - 1] * weight if k <= 64 else powers[zero + 64]
        powers[zero - k] = 1 / powers[zero + k]
