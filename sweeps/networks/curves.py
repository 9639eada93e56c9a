"""Lengths of the curves that hidden activations run through along paths: Euclidean, and as seen from the origin.

Between two places where the layer's input or the layer itself bends, the curve is a straight segment from h to h + d.
Its spherical length is the angle of the two at the origin, of tangent
    |h| |d'| / (|h|^2 + h.d),    d' = d - (h.d/|h|^2) h,
and 0 where one of them is 0: where a layer is dead, and along rays. |d'|^2 = |d|^2 - (h.d)^2/|h|^2 loses digits where d
points along h, and then d' is computed.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from sweeps.compiled import compiled, intrinsic
from sweeps.networks.path_rows import TOLERANCE
from sweeps.networks.sparse_product import fma

LANES = 8
NEARLY_ALONG = 0.01  # the part of |d|^2 below which |d'|^2 is computed anew


@compiled
def add_lengths(Z, of, cuts, slope, scale, arcs, lengths, layer):
    """Add to arcs and lengths (paths, layers) those of the activations of the pre-activations Z of a hidden layer."""
    rows, m = Z.shape
    size = (m + LANES - 1) // LANES * LANES
    before, after = np.zeros(size), np.zeros(size)
    squared = 0.0
    for i in range(rows):
        p = of[i]
        if i > 0 and of[i - 1] == p:
            for k in range(cuts.first[i - 1], cuts.first[i]):
                _between(Z, i - 1, cuts.fraction[k], cuts.neuron[k], slope, scale, p, after)
                squared = _add_segment(before, after, squared, p, layer, arcs, lengths)
                before, after = after, before
        _between(Z, i, 0.0, np.int64(-1), slope, scale, p, after)
        if i > 0 and of[i - 1] == p:
            squared = _add_segment(before, after, squared, p, layer, arcs, lengths)
        else:
            squared = _products(after, after, size)[2]
        before, after = after, before


@compiled
def _between(Z, i, fraction, neuron, slope, scale, p, out):
    """Activations at a fraction of the way from row i to the next, in `out`."""
    m, z0 = Z.shape[1], Z[i]
    if neuron < 0:
        for j in range(m):
            out[j] = z0[j] if z0[j] > 0 else slope * z0[j]
        return
    z1, most = Z[i + 1], scale[p]
    for j in range(m):
        z = fma(fraction, z1[j] - z0[j], z0[j])
        z = z if abs(z) > TOLERANCE * most[j] else 0.0
        out[j] = z if z > 0 else slope * z
    out[neuron] = 0.0


@compiled
def _add_segment(h, end, squared, p, layer, arcs, lengths):
    """Add the segment from h, of squared length `squared`, to `end`, whose squared length comes back."""
    along, step, found = _products(h, end, len(h))
    lengths[p, layer] += np.sqrt(step)
    if (squared > 0) & (found > 0):
        across = step - along * (along / squared)
        if across < NEARLY_ALONG * step:
            across = 0.0
            for j in range(len(h)):
                d = end[j] - h[j] - along / squared * h[j]
                across += d * d
        arcs[p, layer] += np.arctan2(np.sqrt(squared) * np.sqrt(across), squared + along)
    return found


@intrinsic
def _products(typingctx, h, end, size):
    """h.d, d.d and end.end, where d = end - h; every sum in LANES parts, which are added up in order at the end."""
    kind = ir.DoubleType()
    vector = ir.VectorType(kind, LANES)

    def build(context, builder, signature, args):
        pointers = [context.make_array(signature.args[i])(context, builder, args[i]).data for i in range(2)]
        fma_kind = ir.FunctionType(vector, [vector] * 3)
        vector_fma = cgutils.get_or_insert_function(builder.module, fma_kind, f"llvm.fma.v{LANES}f64")
        sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * LANES)) for _ in range(3)]
        lanes = ir.Constant(ir.IntType(64), LANES)
        with cgutils.for_range(builder, builder.udiv(args[2], lanes)) as loop:
            place = builder.mul(loop.index, lanes)
            x, y = (
                builder.load(builder.bitcast(builder.gep(pointer, [place]), vector.as_pointer()), align=8)
                for pointer in pointers
            )
            d = builder.fsub(y, x)
            for total, (a, b) in zip(sums, ((x, d), (d, d), (y, y)), strict=True):
                builder.store(builder.call(vector_fma, [a, b, builder.load(total)]), total)
        found = []
        for total in sums:
            parts = builder.load(total)
            result = ir.Constant(kind, 0.0)
            for lane in range(LANES):
                result = builder.fadd(result, builder.extract_element(parts, ir.Constant(ir.IntType(32), lane)))
            found.append(result)
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(types.float64, 3)(h, end, types.int64), build
