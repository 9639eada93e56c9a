"""H W + b for rows of ReLU activations, with the same bits on every machine.

Every element is b_j + sum_k h_ik w_kj with k rising and one rounding a term (a fused multiply-add), so
nothing depends on the machine's vectors, caches, threads or where an array lies. BLAS promises none of this.

ROWS rows are multiplied together by COLUMNS columns of W, whose sums stay in vector registers. Entries k that vanish in
all these rows are left out, which changes no bit: along a segment neighbouring rows share most of their zeros, so
about half of the work goes. W is laid out in panels of COLUMNS columns once, and then used for many rows. A CHUNK
of a panel stays in the first cache while GROUP blocks of rows pass by it.
"""

from __future__ import annotations

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils

from sweeps.compiled import compiled, intrinsic

WIDE = binding.get_host_cpu_features().get("avx512f", False)
ROWS, LANES, VECTORS = (8, 8, 2) if WIDE else (6, 4, 2)  # sums, one entry of H and VECTORS of W fill the registers
COLUMNS = LANES * VECTORS
TILE = ROWS * COLUMNS
CHUNK, GROUP = 256, 16
STRIP = 16  # rows of W laid out together
LINE = 8  # float64 numbers in 64 bytes


def sparse_product(H, W, b):
    """H W + b, float64 (rows, m), of finite H (rows, n), W (n, m) and b (m,)."""
    return multiply(H, np.arange(H.shape[1]), 1.0, panels(W), b, np.empty((len(H), len(b))), 1, 0)


@compiled
def aligned(size):
    """Zeros (size,) from the start of a cache line on."""
    return from_line(np.zeros(size + LINE))


@compiled
def from_line(room):
    """`room` from the start of a cache line on, and LINE numbers less."""
    start = -(room.ctypes.data // LINE) % LINE
    return room[start : start + len(room) - LINE]


@compiled
def panel_size(n, m):
    return (m + COLUMNS - 1) // COLUMNS * n * COLUMNS


@compiled
def panels(W):
    """W (n, m) as `multiply` reads it, (panel_size(n, m),)."""
    n, m = W.shape
    out = aligned(panel_size(n, m))
    fill_panels(W.copy().reshape(n * m), 0, n, m, out, 0)
    return out


@compiled
def fill_panels(numbers, offset, n, m, out, at):
    """The panels of the matrix (n, m) that starts at `offset`, from `at` on."""
    for top in range(0, n, STRIP):
        for first in range(0, m, COLUMNS):
            width = min(COLUMNS, m - first)
            for k in range(top, min(top + STRIP, n)):
                source, target = offset + k * m + first, at + first * n + k * COLUMNS
                if width == COLUMNS:
                    _copy(_at(numbers, source), _at(out, target))
                else:
                    for j in range(width):
                        out[target + j] = numbers[source + j]


@compiled
def multiply(X, entries, slope, packed, b, out, stride, offset):
    """max(x, 0) + slope min(x, 0) times W, plus b, for x the `entries` (n,) of every row of X, -1 standing for a zero.

    `packed` are the panels of W; column j goes to out[:, stride j + offset].
    """
    rows, n, m = len(X), len(entries), len(b)
    chunks = (n + CHUNK - 1) // CHUNK
    columns, values = np.empty((GROUP, n), np.int64), np.empty((GROUP, n, ROWS))
    stops = np.zeros((GROUP, chunks + 1), np.int64)
    start = np.zeros((m + COLUMNS - 1) // COLUMNS * COLUMNS)
    for j in range(m):
        start[j] = b[j]
    sums = aligned(GROUP * TILE)
    for top in range(0, rows, GROUP * ROWS):
        blocks = min(GROUP, (rows - top + ROWS - 1) // ROWS)
        for g in range(blocks):
            _gather(X, top + g * ROWS, entries, slope, columns, values, stops, g)
        for first in range(0, m, COLUMNS):
            for chunk in range(chunks):
                for g in range(blocks):
                    source, source_pitch = _at(sums, g * TILE), COLUMNS
                    if chunk == 0:
                        source, source_pitch = _at(start, first), 0
                    target, target_pitch = _at(sums, g * TILE), COLUMNS
                    if (chunk == chunks - 1) & _whole(rows, m, top + g * ROWS, first, stride):
                        target, target_pitch = _at(out, (top + g * ROWS) * m + first), m
                    lo = stops[g, chunk]
                    panel, some = _at(packed, first * n), _at(columns, g * n + lo)
                    factors = _at(values, (g * n + lo) * ROWS)
                    count = stops[g, chunk + 1] - lo
                    _add_product(source, source_pitch, target, target_pitch, panel, some, factors, count)
            for g in range(blocks):
                if not _whole(rows, m, top + g * ROWS, first, stride):
                    _store(sums, g * TILE, out, top + g * ROWS, first, m, stride, offset)
    return out


@compiled
def _whole(rows, m, top, first, stride):
    """Whether a tile lies in the output as it is."""
    return (stride == 1) & (top + ROWS <= rows) & (first + COLUMNS <= m)


@compiled
def _store(sums, at, out, top, first, m, stride, offset):
    for r in range(min(ROWS, len(out) - top)):
        for j in range(min(COLUMNS, m - first)):
            out[top + r, (first + j) * stride + offset] = sums[at + r * COLUMNS + j]


@compiled
def _gather(X, top, entries, slope, columns, values, stops, g):
    """Entries not zero in all ROWS rows from `top` on: indices, values by ROWS, and where each chunk of them stops."""
    at, last = 0, len(X) - 1
    for k in range(len(entries)):
        if k % CHUNK == 0:
            stops[g, k // CHUNK] = at
        entry = entries[k]
        if entry < 0:
            continue
        some = False
        for r in range(ROWS):
            x = X[min(top + r, last), entry]
            h = x if x > 0 else slope * x
            values[g, at, r] = h
            some |= h != 0
        columns[g, at] = k
        at += some
    stops[g, stops.shape[1] - 1] = at


@intrinsic
def fma(typingctx, x, y, z):
    """x y + z of float64 with one rounding, on every machine."""

    def build(context, builder, signature, args):
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), build


@intrinsic
def _at(typingctx, array, entry):
    """The address of an entry of a contiguous array."""

    def build(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(builder.gep(data, [args[1]]), ir.IntType(64))

    return types.int64(array, types.int64), build


@intrinsic
def _copy(typingctx, source, target):
    """COLUMNS numbers from one address to another."""
    vector = ir.VectorType(ir.DoubleType(), COLUMNS)

    def build(context, builder, signature, args):
        pointers = [builder.inttoptr(address, vector.as_pointer()) for address in args]
        builder.store(builder.load(pointers[0], align=8), pointers[1], align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), build


@intrinsic
def _add_product(typingctx, source, source_pitch, target, target_pitch, panel, columns, values, count):
    """target[r] = source[r] + sum_c values[c, r] panel[columns[c]], c < count: addresses, and the pitches of rows.

    The sums stay in vector registers.
    """
    vector = ir.VectorType(ir.DoubleType(), LANES)
    first = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

    def build(context, builder, signature, args):
        def pointer(i, kind):
            return builder.inttoptr(args[i], kind.as_pointer())

        def number(i):
            return ir.Constant(ir.IntType(64), i)

        def vector_at(base, i):
            return builder.bitcast(builder.gep(base, [i]), vector.as_pointer())

        def repeat(x):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), x, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(one, one, first)

        kind = ir.FunctionType(vector, [vector] * 3)
        vector_fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f64")
        source, target, panel, values = (pointer(i, ir.DoubleType()) for i in (0, 2, 4, 6))
        columns = pointer(5, ir.IntType(64))
        places = [(r, number(LANES * v)) for r in range(ROWS) for v in range(VECTORS)]
        registers = [cgutils.alloca_once(builder, vector) for _ in places]
        for (r, v), register in zip(places, registers, strict=True):
            place = builder.add(builder.mul(number(r), args[1]), v)
            builder.store(builder.load(vector_at(source, place), align=8), register)
        with cgutils.for_range(builder, args[7]) as loop:
            start = builder.mul(builder.load(builder.gep(columns, [loop.index])), number(COLUMNS))
            w = [builder.load(vector_at(panel, builder.add(start, number(LANES * v))), align=8) for v in range(VECTORS)]
            for r in range(ROWS):
                place = builder.add(builder.mul(loop.index, number(ROWS)), number(r))
                h = repeat(builder.load(builder.gep(values, [place])))
                for v in range(VECTORS):
                    register = registers[r * VECTORS + v]
                    builder.store(builder.call(vector_fma, [h, w[v], builder.load(register)]), register)
        for (r, v), register in zip(places, registers, strict=True):
            place = builder.add(builder.mul(number(r), args[3]), v)
            builder.store(builder.load(register), vector_at(target, place), align=8)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), build
