"""Geometry of k inputs in a fully connected network with Gaussian weights, sampled without the weights.

Given activations h_0, ..., h_{k-1} of a layer, the pre-activations z_j = sqrt(weight_variance/N) W h_j +
sqrt(bias_variance) b of the next are, neuron by neuron, independent draws of a k-dimensional Gaussian that depends on
the Gram matrix of the h_j alone. So a layer costs N k normals instead of N x fan-in, with exactly the same law.

What is carried is not the Gram matrix but a triangular factor of it, one row for h_0 and one for each difference
h_j - h_0, taken from the activations themselves by modified Gram and Schmidt: nothing is subtracted from anything
nearly equal, no radicand can be negative, and each difference keeps its relative precision. With differences of
activations computed as such (`activations.difference_row`), an angle keeps ten digits however small it gets, down to
1e-150, where it is that of two inputs or where all k inputs come close to each other. (Among more than two inputs,
two that are close to each other but not to the first keep 1e-16 of their length.)

Scales are carried as logarithms. Where scaling an input scales all that follows, every input has length one after
each layer and a scale of its own; otherwise all have one scale, that of the longest, and what is r times as long as
the first keeps 1e-16/r of its length.

Layer l draws the normals of tensor l, (k, width), in float32, as everywhere; the rest is float64, in loops that add in
one order on every machine. A network's bits are its own.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from sweeps.compiled import compiled
from sweeps.networks import activations
from sweeps.networks.activations import LIMIT, activate_row, difference_row
from sweeps.networks.architecture import Architecture, Geometry, lane_within
from sweeps.randomness import checked, normal_from_word, philox
from sweeps.statistic import Networks

_HIGH = np.uint64(32)


def fnn(log_square: np.ndarray, angle: np.ndarray, networks: Networks, architecture: Architecture) -> Geometry:
    """Geometry (networks, depth, ...) of inputs of mean squares exp(`log_square`) (networks, k), not zero, at `angle`
    (networks, pairs), which must be those of k vectors; the law of the weights must be gaussian."""
    n, k = log_square.shape
    depth, a = architecture.depth, architecture
    out = Geometry(np.empty((n, depth, k)), *np.empty((2, n, depth, k * (k - 1) // 2)))
    keys, draws = checked(networks.keys, networks.draws, depth, k * a.width)
    variances = np.array([a.weight_variance, a.bias_variance])
    with np.errstate(divide="ignore"):
        logs = 0.5 * np.log(variances)
    angle = np.ascontiguousarray(angle, dtype=np.float64)
    log_length = 0.5 * np.ascontiguousarray(log_square, dtype=np.float64)
    _run(log_length, angle, keys, draws, a.width, *logs, a.homogeneous, *activations.code(a), *out)
    return out


def seconds(architecture: Architecture, k: int) -> float:
    """Of a network with k inputs, on one core."""
    a, differences = architecture, k * (k - 1) / 2
    neuron = k * (2.5e-9 + activations.seconds(a)) + 1e-9 * differences
    return 1e-6 + a.depth * (4e-7 + 1e-7 * k**2 + a.width * neuron)


def launch_bytes(architecture: Architecture, k: int) -> int:
    """That a network needs."""
    return 16 * k * architecture.width + 8 * (k + 1) ** 2 * (4 + architecture.depth)


def lane(architecture: Architecture, k: int) -> int:
    """Networks a launch, a power of two; their bits do not depend on it."""
    return lane_within(2**22, launch_bytes(architecture, k), 256)


def geometry(vectors: np.ndarray) -> Geometry:
    """Log mean squares (k,), cosines and angles (pairs,) of vectors, float64 (k, size); numpy adds pairwise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        square = (vectors * vectors).sum(1)
        unit = vectors / np.sqrt(square)[:, None]
        log_square = np.where(square > 0, np.log(square / vectors.shape[1]), np.nan)
    which = list(zip(*np.triu_indices(len(vectors), 1), strict=True))
    difference = np.array([((unit[p] - unit[q]) ** 2).sum() for p, q in which])
    total = np.array([((unit[p] + unit[q]) ** 2).sum() for p, q in which])
    angle = 2 * np.arctan2(np.sqrt(difference), np.sqrt(total))
    return Geometry(log_square, (total - difference) / (total + difference), angle)


@compiled
def _run(
    log_length, angle, keys, draws, width, log_w, log_b, own, code, slope, degree, bounded, log_square, cosine, theta
):
    k = log_length.shape[1]
    g = np.empty(-(-k * width // 4) * 4, np.float32)
    words = np.empty(len(g), np.uint32)
    H, z = np.empty((k, width)), np.empty(width)
    rows, factor, unit = np.empty((k, k)), np.empty((k, k)), np.empty((k, k))
    log_scale, square = np.empty(k), np.empty(k)
    for i in range(len(keys)):
        _start(angle[i], unit)
        copy(log_length[i], log_scale)
        copy_rows(unit, rows)
        if not own:
            fill(log_scale, greatest(log_length[i]))
            _stretch(unit, log_length[i], log_scale[0], rows)
        for layer in range(log_square.shape[1]):
            if own:
                copy_rows(rows, factor)
                for j in range(k):
                    log_scale[j] += log_w
            else:
                largest = max(log_scale[0] + log_w, log_b)
                if largest == -np.inf:  # nothing is left
                    largest = 0.0
                _add_bias(rows, math.exp(log_scale[0] + log_w - largest), math.exp(log_b - largest), factor)
                fill(log_scale, largest)
            _fill(keys[i], draws[i], layer, words, g)
            _combine(factor, g, H)
            s = math.exp(min(max(log_scale[0], -LIMIT), LIMIT))
            copy(H[0], z)
            activate_row(H[0], s, code, slope)
            for j in range(1, k):
                difference_row(H[j], z, H[0], s, code, slope)
            for j in range(k):
                log_scale[j] = degree * min(log_scale[j], LIMIT if bounded else np.inf)
                square[j] = (square_of_sum(H[0], H[j]) if j else dot(H[0], H[0])) / width
                log_square[i, layer, j] = 2 * log_scale[j] + math.log(square[j]) if square[j] > 0 else np.nan
            triangular(H, rows)
            _units(rows, square, unit)
            pairs(unit, square, cosine[i, layer], theta[i, layer])
            most = greatest(square)
            if own:
                copy_rows(unit, rows)
                for j in range(k):
                    log_scale[j] += 0.5 * math.log(square[j]) if square[j] > 0 else 0.0
            elif most > 0:
                for j in range(k):
                    multiply(rows[j], 1 / math.sqrt(width * most), rows[j])
                    log_scale[j] += 0.5 * math.log(most)
            else:
                fill(log_scale, -np.inf)


# Rows are copied and filled in loops: numba takes seconds to compile an assignment of a whole array.


@compiled
def copy(row, to):
    for e in range(len(row)):
        to[e] = row[e]


@compiled
def multiply(row, factor, to):
    for e in range(len(row)):
        to[e] = factor * row[e]


@compiled
def fill(row, value):
    for e in range(len(row)):
        row[e] = value


@compiled
def copy_rows(rows, to):
    for i in range(len(rows)):
        copy(rows[i], to[i])


@compiled
def fill_rows(rows, value):
    for i in range(len(rows)):
        fill(rows[i], value)


@compiled
def greatest(row):
    found = row[0]
    for value in row:
        found = max(found, value)
    return found


@compiled
def _start(angle, unit):
    """Rows of k unit vectors at given angles, the first as it is, the others less the first: (k, k), triangular.

    Inner products come from the chords 2 sin(angle/2), so that small ones stay exact, of rows scaled to length one.
    """
    k = len(unit)
    chord = np.zeros((k, k))
    at = 0
    for p in range(k):
        for q in range(p + 1, k):
            chord[p, q] = chord[q, p] = 2 * math.sin(angle[at] / 2)
            at += 1
    fill_rows(unit, 0.0)
    unit[0, 0] = 1
    for p in range(1, k):
        c = chord[0, p]
        unit[p, 0] = -c / 2
        left = (1 - c / 2) * (1 + c / 2)
        for q in range(1, p):
            if c > 0 and chord[0, q] > 0 and unit[q, q] > 0:
                product = _cosine_of_sides(chord[0, q], c, chord[p, q])
                for r in range(q):
                    product -= unit[p, r] * unit[q, r]
                unit[p, q] = product / unit[q, q]
                left -= unit[p, q] ** 2
        if left > 1e-15 * k:  # otherwise the row depends on those before it
            unit[p, p] = math.sqrt(left)
    for p in range(1, k):
        multiply(unit[p], chord[0, p], unit[p])


@njit(inline="always")
def _cosine_of_sides(a, b, opposite):
    """Cosine of the angle between sides a, b > 0 of a triangle."""
    return ((a - opposite) * (a + opposite) + b * b) / (2 * a * b)


@compiled
def _stretch(unit, log_length, log_scale, rows):
    """Rows of the vectors of lengths exp(log_length - log_scale) along those of `unit`."""
    first = math.exp(log_length[0] - log_scale)
    multiply(unit[0], first, rows[0])
    for j in range(1, len(unit)):
        multiply(unit[j], math.exp(log_length[j] - log_scale), rows[j])
        rows[j, 0] += first * math.expm1(log_length[j] - log_length[0])


@compiled
def _add_bias(rows, a, b, factor):
    """Rows of a times the vectors of `rows`, each with one coordinate b more, made triangular."""
    k = len(rows)
    n = math.hypot(a * rows[0, 0], b)
    fill_rows(factor, 0.0)
    factor[0, 0] = n
    others, triangle = np.empty((k - 1, k)), np.empty((k - 1, k - 1))
    for j in range(1, k):
        along = a * rows[j, 0] / n if n > 0 else 0.0
        factor[j, 0] = along * a * rows[0, 0]
        multiply(rows[j], a, others[j - 1])
        others[j - 1, 0] = -along * b
    triangular(others, triangle)
    for j in range(1, k):
        copy(triangle[j - 1], factor[j, 1:])


@compiled
def _fill(key, draw, tensor, words, g):
    """The normals of a tensor of one network, a whole number of blocks."""
    k0, k1, d0, d1 = np.uint32(key), np.uint32(key >> _HIGH), np.uint32(draw), np.uint32(draw >> _HIGH)
    for r in range(len(g) // 4):
        x0, x1, x2, x3 = philox(r, tensor, d0, d1, k0, k1)
        words[4 * r], words[4 * r + 1], words[4 * r + 2], words[4 * r + 3] = x0, x1, x2, x3
    for e in range(len(g)):
        g[e] = normal_from_word(words[e])


@compiled
def _combine(factor, g, H):
    """Rows of H: those of `factor` times the rows of normals."""
    k, width = H.shape
    for j in range(k):
        row, c = H[j], factor[j, 0]
        for e in range(width):
            row[e] = c * g[e]
        for r in range(1, j + 1):
            c, normals = factor[j, r], g[r * width : (r + 1) * width]
            for e in range(width):
                row[e] += c * normals[e]


@compiled
def square_of_sum(a, b):
    """|a + b|^2, 0 only if a + b is 0; in four sums, for which LLVM has vectors."""
    s0 = s1 = s2 = s3 = 0.0
    whole = len(a) // 4 * 4
    for e in range(0, whole, 4):
        s0 += (a[e] + b[e]) ** 2
        s1 += (a[e + 1] + b[e + 1]) ** 2
        s2 += (a[e + 2] + b[e + 2]) ** 2
        s3 += (a[e + 3] + b[e + 3]) ** 2
    total = (s0 + s1) + (s2 + s3)
    for e in range(whole, len(a)):
        total += (a[e] + b[e]) ** 2
    return total


@compiled
def triangular(V, factor):
    """The lower triangular `factor` of the rows of V, V V^T = factor factor^T, by modified Gram and Schmidt; V is
    spent. The error of a row is relative to that row."""
    fill_rows(factor, 0.0)
    for p in range(len(V)):
        square = dot(V[p], V[p])
        factor[p, p] = math.sqrt(square)
        if square == 0:
            continue
        for q in range(p + 1, len(V)):
            share = dot(V[p], V[q]) / square
            factor[q, p] = share * factor[p, p]
            first, other = V[p], V[q]
            for e in range(len(other)):
                other[e] -= share * first[e]


@compiled
def dot(a, b):
    """In eight sums, for which LLVM has vectors."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = len(a) // 8 * 8
    for e in range(0, whole, 8):
        s0 += a[e] * b[e]
        s1 += a[e + 1] * b[e + 1]
        s2 += a[e + 2] * b[e + 2]
        s3 += a[e + 3] * b[e + 3]
        s4 += a[e + 4] * b[e + 4]
        s5 += a[e + 5] * b[e + 5]
        s6 += a[e + 6] * b[e + 6]
        s7 += a[e + 7] * b[e + 7]
    total = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
    for e in range(whole, len(a)):
        total += a[e] * b[e]
    return total


@compiled
def _units(rows, square, unit):
    """`rows` for the vectors scaled to length one; those whose square is 0 stay 0."""
    fill_rows(unit, 0.0)
    first = abs(rows[0, 0])
    if square[0] > 0:
        unit[0, 0] = 1
    for j in range(1, len(rows)):
        if square[j] == 0:
            multiply(unit[0], -1.0, unit[j])
            continue
        length = math.sqrt((rows[0, 0] + rows[j, 0]) ** 2 + dot(rows[j, 1:], rows[j, 1:]))
        multiply(rows[j], 1 / length, unit[j])
        if square[0] > 0:
            excess = (2 * rows[0, 0] * rows[j, 0] + dot(rows[j], rows[j])) / first**2  # of the squared lengths' ratio
            unit[j, 0] -= first * excess / (1 + length / first) / length


@compiled
def pairs(unit, square, cosine, theta):
    """Cosines and angles (pairs,) of unit vectors, the rows of `unit`, all but the first less the first, from their
    differences and sums; NaN where a vector's square is 0."""
    at = 0
    for p in range(len(unit)):
        for q in range(p + 1, len(unit)):
            difference = total = 0.0
            for r in range(unit.shape[1]):
                x, y = (0.0, unit[q, r]) if p == 0 else (unit[p, r], unit[q, r])
                difference += (y - x) ** 2
                total += (2 * unit[0, r] + x + y) ** 2
            alive = square[p] > 0 and square[q] > 0
            cosine[at] = (total - difference) / (total + difference) if alive else np.nan
            theta[at] = 2 * math.atan2(math.sqrt(difference), math.sqrt(total)) if alive else np.nan
            at += 1
