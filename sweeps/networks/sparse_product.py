"""H W + b for rows of ReLU activations, with the same bits on every machine.

Every element is b_j + sum_k h_ik w_kj with k rising and one rounding a term (a fused multiply-add), so
nothing depends on the machine's vectors, caches, threads or where an array lies. BLAS promises none of this.

Eight rows are multiplied together. Columns k of H that vanish in all eight are left out, which changes no
bit: along a segment neighbouring rows share most of their zeros, so about half of the work goes.
On one core with AVX-512 this is as fast as a BLAS product of the same float64 matrices.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sweeps.compiled import compiled

ROWS, LANES, VECTORS = 8, 8, 2
COLUMNS = LANES * VECTORS


@compiled
def sparse_product(H, W, b):
    """H W + b, float64 (rows, m), of finite H (rows, n), W (n, m) and b (m,)."""
    rows, n = H.shape
    m = len(b)
    columns, values, counts = _gather(H)
    out = np.empty((rows, m))
    panel = np.zeros((n, COLUMNS))
    sums = np.zeros((ROWS, COLUMNS))
    for first in range(0, m, COLUMNS):
        last = min(first + COLUMNS, m)
        panel[:, : last - first] = W[:, first:last]
        for block in range(len(counts)):
            top = block * ROWS
            bottom = min(top + ROWS, rows)
            sums[:, : last - first] = b[first:last]
            _add_product(sums, panel, columns[block], values[block], counts[block])  # pyright: ignore[reportCallIssue]
            out[top:bottom, first:last] = sums[: bottom - top, : last - first]
    return out


@compiled
def _gather(H):
    """Columns of H not all zero in a block of rows: indices, values (blocks, n, ROWS), how many."""
    rows, n = H.shape
    blocks = (rows + ROWS - 1) // ROWS
    columns = np.empty((blocks, n), np.int64)
    values = np.empty((blocks, n, ROWS))
    counts = np.zeros(blocks, np.int64)
    for block in range(blocks):
        at = 0
        for k in range(n):
            some = False
            for r in range(ROWS):
                h = H[min(block * ROWS + r, rows - 1), k]
                values[block, at, r] = h
                some |= h != 0
            columns[block, at] = k
            at += some
        counts[block] = at
    return columns, values, counts


@intrinsic
def fma(typingctx, x, y, z):
    """x y + z of float64 with one rounding, on every machine."""

    def build(context, builder, signature, args):
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), build


@intrinsic
def _add_product(typingctx, sums, panel, columns, values, count):
    """sums[r] += sum_c values[c, r] panel[columns[c]], c < count; the sums stay in vector registers."""
    vector = ir.VectorType(ir.DoubleType(), LANES)
    first = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

    def build(context, builder, signature, args):
        def pointer(i):
            return context.make_array(signature.args[i])(context, builder, args[i]).data

        def number(i):
            return ir.Constant(ir.IntType(64), i)

        def vector_at(base, i):
            return builder.bitcast(builder.gep(base, [i]), vector.as_pointer())

        def repeat(x):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), x, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(one, one, first)

        kind = ir.FunctionType(vector, [vector] * 3)
        vector_fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f64")
        sums, panel, columns, values = map(pointer, range(4))
        registers = [cgutils.alloca_once(builder, vector) for _ in range(ROWS * VECTORS)]
        for i, register in enumerate(registers):
            builder.store(builder.load(vector_at(sums, number(LANES * i)), align=8), register)
        with cgutils.for_range(builder, args[4]) as loop:
            start = builder.mul(builder.load(builder.gep(columns, [loop.index])), number(COLUMNS))
            places = [builder.add(start, number(LANES * v)) for v in range(VECTORS)]
            w = [builder.load(vector_at(panel, place), align=8) for place in places]
            for r in range(ROWS):
                place = builder.add(builder.mul(loop.index, number(ROWS)), number(r))
                h = repeat(builder.load(builder.gep(values, [place])))
                for v in range(VECTORS):
                    register = registers[r * VECTORS + v]
                    builder.store(builder.call(vector_fma, [h, w[v], builder.load(register)]), register)
        for i, register in enumerate(registers):
            builder.store(builder.load(register), vector_at(sums, number(LANES * i)), align=8)
        return context.get_dummy_value()

    return types.void(sums, panel, columns, values, types.int64), build
