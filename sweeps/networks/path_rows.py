"""Rows of values along paths, and what layers make of them: the parts of the walk in sweeps.networks.walk.

A row holds the values of a layer at one place t of one path. Rows lie in order of path and place; between two of one
path, every value is affine in t. `of` (rows,) says whose row it is, so several paths of one network go together. The
values X before an activation are kept rather than those behind it: `slope` is what negative ones are multiplied by,
1 where nothing is pending.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sweeps.compiled import compiled
from sweeps.networks.sparse_product import fma, multiply

TOLERANCE = 1e-12
FEW = 16
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


class Cuts(NamedTuple):
    """New rows between the rows, in order of interval and place; interval i lies between rows i and i + 1."""

    first: np.ndarray
    """of each interval, and one more: where its cuts start"""
    fraction: np.ndarray
    """place in the interval, between 0 and 1"""
    neuron: np.ndarray
    """the value that is exactly 0 there; -1 for none"""
    bend: np.ndarray
    """by how much its derivative grows there"""
    rises: np.ndarray
    """whether it becomes positive"""


@compiled
def no_cuts(rows):
    return Cuts(np.zeros(rows, np.int64), np.empty(0), np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_))


@compiled
def snap(Z, of, scale):
    """Make values 0 that are below TOLERANCE of the largest they could be."""
    for i in range(Z.shape[0]):
        z, most = Z[i], scale[of[i]]
        for j in range(Z.shape[1]):
            z[j] = z[j] if abs(z[j]) > TOLERANCE * most[j] else 0.0


@compiled
def crossings(Z, of, slope):
    """Zeros between rows. The activation bends by (1 - slope) |z_1 - z_0| whichever way the neuron crosses."""
    rows, m = Z.shape
    first = np.zeros(rows, np.int64)
    for i in range(rows - 1):
        count = 0
        if of[i] == of[i + 1]:
            z0, z1 = Z[i], Z[i + 1]
            for j in range(m):
                count += (z0[j] > 0) & (z1[j] < 0) | (z0[j] < 0) & (z1[j] > 0)
        first[i + 1] = first[i] + count
    total = first[rows - 1]
    fraction, neuron = np.empty(total), np.empty(total, np.int64)
    bend, rises = np.empty(total), np.empty(total, np.bool_)
    for i in range(rows - 1):
        lo, hi = first[i], first[i + 1]
        if lo == hi:
            continue
        at = lo
        for j in range(m):
            if (Z[i, j] > 0) & (Z[i + 1, j] < 0) | (Z[i, j] < 0) & (Z[i + 1, j] > 0):
                fraction[at], neuron[at] = Z[i, j] / (Z[i, j] - Z[i + 1, j]), j
                at += 1
        sort_pairs(fraction, neuron, lo, hi)
        for k in range(lo, hi):
            j = neuron[k]
            bend[k], rises[k] = (1 - slope) * abs(Z[i + 1, j] - Z[i, j]), Z[i + 1, j] > 0
    return Cuts(first, fraction, neuron, bend, rises)


@compiled
def sort_pairs(keys, others, lo, hi):
    """Sort keys[lo:hi], and the others with them; equal keys keep their order."""
    for start in range(lo, hi, FEW):
        _insertion_sort(keys, others, start, min(start + FEW, hi))
    if hi - lo <= FEW:
        return
    keys_room, others_room = np.empty_like(keys), np.empty_like(others)
    size = FEW
    while size < hi - lo:
        for start in range(lo, hi, 2 * size):
            _merge(keys, others, keys_room, others_room, start, min(start + size, hi), min(start + 2 * size, hi))
        for i in range(lo, hi):
            keys[i], others[i] = keys_room[i], others_room[i]
        size *= 2


@compiled
def _insertion_sort(keys, others, lo, hi):
    for i in range(lo + 1, hi):
        key, other, k = keys[i], others[i], i
        while k > lo and keys[k - 1] > key:
            keys[k], others[k] = keys[k - 1], others[k - 1]
            k -= 1
        keys[k], others[k] = key, other


@compiled
def _merge(keys, others, keys_room, others_room, lo, middle, hi):
    i, j = lo, middle
    for k in range(lo, hi):
        if j == hi or (i < middle and keys[i] <= keys[j]):
            keys_room[k], others_room[k] = keys[i], others[i]
            i += 1
        else:
            keys_room[k], others_room[k] = keys[j], others[j]
            j += 1


@compiled
def largest(Z, of, slope, paths):
    """Largest absolute values (paths, m) behind the activation."""
    most = np.zeros((paths, Z.shape[1]))
    for i in range(Z.shape[0]):
        z, found = Z[i], most[of[i]]
        for j in range(Z.shape[1]):
            h = abs(z[j] if z[j] > 0 else slope * z[j])
            found[j] = h if h > found[j] else found[j]
    return most


@compiled
def places(t, of, cuts):
    """t and `of` with the cuts among the rows."""
    rows = len(t)
    found, whose = np.empty(rows + len(cuts.fraction)), np.empty(rows + len(cuts.fraction), np.int64)
    for i in range(rows):
        at = i + cuts.first[i]
        found[at], whose[at] = t[i], of[i]
        for k in range(cuts.first[i], cuts.first[min(i + 1, rows - 1)]):
            at += 1
            found[at], whose[at] = t[i] + cuts.fraction[k] * (t[i + 1] - t[i]), of[i]
    return found, whose


@compiled
def activated(X, cuts, slope):
    """Activations with rows at the cuts, where the cut neuron is exactly 0."""
    rows, m = X.shape
    out = np.empty((rows + len(cuts.fraction), m))
    for i in range(rows):
        at = i + cuts.first[i]
        for j in range(m):
            out[at, j] = X[i, j] if X[i, j] > 0 else slope * X[i, j]
        for k in range(cuts.first[i], cuts.first[min(i + 1, rows - 1)]):
            at += 1
            for j in range(m):
                x = fma(cuts.fraction[k], X[i + 1, j] - X[i, j], X[i, j])
                out[at, j] = x if x > 0 else slope * x
            if cuts.neuron[k] >= 0:
                out[at, cuts.neuron[k]] = 0.0
    return out


@compiled
def bent(Z, W, cuts):
    """The rows Z of a dense layer with the cuts of the layer before among them: each bends Z by its row of W only."""
    rows, m = Z.shape
    out = np.empty((rows + len(cuts.fraction), m))
    slope = np.empty(m)
    for i in range(rows):
        at = i + cuts.first[i]
        for j in range(m):
            out[at, j] = Z[i, j]
        lo, hi = cuts.first[i], cuts.first[min(i + 1, rows - 1)]
        if lo == hi:
            continue
        for j in range(m):
            slope[j] = Z[i + 1, j] - Z[i, j]
        for k in range(lo, hi):
            _add(slope, -cuts.bend[k] * (1 - cuts.fraction[k]), W, cuts.neuron[k])
        done = 0.0
        for k in range(lo, hi):
            at += 1
            for j in range(m):
                out[at, j] = fma(cuts.fraction[k] - done, slope[j], out[at - 1, j])
            _add(slope, cuts.bend[k], W, cuts.neuron[k])
            done = cuts.fraction[k]
    return out


@compiled
def _add(z, a, W, row):
    m = len(z)
    w = W[row * m : (row + 1) * m]
    for j in range(m):
        z[j] = fma(a, w[j], z[j])


@compiled
def dense_scale(scale, W, b):
    """Largest absolute values (paths, m) that sums could take whose terms are at most `scale` (paths, n) times W."""
    out = np.empty((len(scale), len(b)))
    for p in range(len(scale)):
        for j in range(len(b)):
            out[p, j] = abs(b[j])
        for k in range(scale.shape[1]):
            w = W[k * len(b) : (k + 1) * len(b)]
            for j in range(len(b)):
                out[p, j] += abs(w[j]) * scale[p, k]
    return out


@compiled
def patch(pixel, channels, rows, cols, side, circular):
    """Entries of an image under a filter at a pixel, in the order channel, row, column; -1 beyond a border of zeros."""
    entries = np.full(channels * side * side, -1, np.int64)
    row, col, reach, k = pixel // cols, pixel % cols, side // 2, 0
    for c in range(channels):
        for dr in range(-reach, reach + 1):
            for dc in range(-reach, reach + 1):
                r, q = row + dr, col + dc
                if circular:
                    r, q = r % rows, q % cols
                if (r >= 0) & (r < rows) & (q >= 0) & (q < cols):
                    entries[k] = (c * rows + r) * cols + q
                k += 1
    return entries


@compiled
def convolved(X, scale, slope, W, b, packed, shape, side, circular):
    """Rows and scale behind a convolution: one product a pixel, so that rows multiplied together share zeros.

    A dense layer is a convolution on one pixel.
    """
    channels, rows, cols = shape
    pixels = rows * cols
    out, bound = np.empty((len(X), len(b) * pixels)), np.empty((len(scale), len(b) * pixels))
    for pixel in range(pixels):
        entries = patch(pixel, channels, rows, cols, side, circular)
        multiply(X, entries, slope, packed, b, out, pixels, pixel)
        some = np.zeros((len(scale), len(entries)))
        for p in range(len(scale)):
            for k in range(len(entries)):
                some[p, k] = scale[p, entries[k]] if entries[k] >= 0 else 0.0
        found = dense_scale(some, W, b)
        for p in range(len(scale)):
            for j in range(len(b)):
                bound[p, j * pixels + pixel] = found[p, j]
    return out, bound


@compiled
def affine(X, factors, shifts, pixels, absolute):
    """Scale and shift every channel, in place; by the absolute values if `absolute`."""
    for j in range(X.shape[1]):
        factor, shift = factors[j // pixels], shifts[j // pixels]
        if absolute:
            factor, shift = abs(factor), abs(shift)
        for i in range(X.shape[0]):
            X[i, j] = X[i, j] * factor + shift


@compiled
def pooled(X, shape, largest_one):
    """Means or maxima of 2 x 2 pixels."""
    channels, rows, cols = shape
    out = np.empty((len(X), channels * (rows // 2) * (cols // 2)))
    for i in range(len(X)):
        for cell in range(out.shape[1]):
            j = corner(cell, rows, cols)
            a, b, c, d = X[i, j], X[i, j + 1], X[i, j + cols], X[i, j + cols + 1]
            out[i, cell] = max(max(a, b), max(c, d)) if largest_one else ((a + b) + (c + d)) / 4
    return out


@compiled
def corner(cell, rows, cols):
    """The first entry of a cell of 2 x 2 pixels."""
    height, width = rows // 2, cols // 2
    channel, inside = cell // (height * width), cell % (height * width)
    return (channel * rows + 2 * (inside // width)) * cols + 2 * (inside % width)


@compiled
def overtakings(X, of, scale, shape):
    """Where the largest of 2 x 2 pixels becomes another: the corners of the upper envelope of affine functions."""
    channels, rows, cols = shape
    cells = channels * (rows // 2) * (cols // 2)
    first, found, count = np.zeros(len(X), np.int64), np.empty(FEW), np.int64(0)
    for i in range(len(X) - 1):
        if of[i] == of[i + 1]:
            for cell in range(cells):
                j = corner(cell, rows, cols)
                found = grown(found, count, len(CORNERS))
                count = _envelope(found, count, X, i, scale, of[i], j, cols)
        first[i + 1] = count
    fraction, neuron = found[:count], np.full(count, -1, np.int64)
    for i in range(len(X) - 1):
        sort_pairs(fraction, neuron, first[i], first[i + 1])
    return Cuts(first, fraction, neuron, np.zeros(count), np.zeros(count, np.bool_))


@compiled
def grown(values, count, more):
    """`values` with room for `more` beyond the first `count`."""
    if count + more <= len(values):
        return values
    out = np.empty(2 * (count + more), values.dtype)
    for i in range(count):
        out[i] = values[i]
    return out


@compiled
def _envelope(found, count, X, i, scale, p, corner, cols):
    """Append the corners in (0, 1) of the largest of four values between rows i and i + 1; how many there are then."""
    close, top = 0.0, corner
    for dr, dc in CORNERS:
        close = max(close, TOLERANCE * scale[p, corner + dr * cols + dc])
    for dr, dc in CORNERS:
        k = corner + dr * cols + dc
        ahead = X[i, k] - X[i, top]
        if (ahead > close) | (ahead >= -close) & (X[i + 1, k] > X[i + 1, top]):
            top = k
    for _ in range(len(CORNERS) - 1):
        best, following = 2.0, top
        for dr, dc in CORNERS:
            k = corner + dr * cols + dc
            before, behind = X[i, top] - X[i, k], X[i + 1, top] - X[i + 1, k]
            if behind < -close:
                f = before / (before - behind)
                if (f < best) | (f == best) & (X[i + 1, k] > X[i + 1, following]):
                    best, following = f, k
        if following == top:
            break
        if (best > 0) & (best < 1):
            found[count] = best
            count += 1
        top = following
    return count
