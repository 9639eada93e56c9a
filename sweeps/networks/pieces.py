"""Deep ReLU networks without biases in 2 to 4 dimensions: every linear piece, active neurons, injectivity.

What sweeps.networks.circle does with arcs is done here with polyhedral cones: z_0 = x in R^n, z_i = ReLU(A_i z_{i-1}),
and a piece of the first i layers is a cone, the hull of its extreme rays, on which z_i is linear. Rays carry x and the
pre-activations. A neuron with both signs on a piece cuts it in two (sweeps.networks.cones). R^n begins as n + 1
cones, those of n of the rays e_1, ..., e_n, -(1, ..., 1).

- k_i, the neurons of layer i active on a piece, are those positive at one of its rays at least.
- *Locally injective* up to layer i iff k_j >= n on every piece and for every j <= i, for almost all weights.
- *Injective* up to layer i: as in the plane, two inputs can become one in layer i only on pieces with the same
  active set S of n <= s < 2n neurons. The images of two such pieces are n-dimensional cones in R^s; a ray in both
  is two inputs x, x' with the same z_i. They count if they are TOLERANCE apart and their images are not, evaluated by
  the network itself. Neighbours, which share a boundary, fail that unless they overlap.

So "not injective" is certain, up to rounding. "Injective" may miss a collision of inputs closer than TOLERANCE.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sweeps.compiled import compiled
from sweeps.networks.circle import mixed
from sweeps.networks.cones import common_ray, copy, meet_plane, put
from sweeps.networks.sparse_product import sparse_product

TOLERANCE = 1e-6
"""Least distance of two inputs that collide, relative to their length."""
ROUNDING = 1e-9
"""Most distance of their images, relative to their length, as a part of the inputs' distance."""


def decide(flat, widths):
    """k_i* (networks, layers), the first layer that collapses (networks,), and two inputs (networks, 2, n).

    `widths` (layers + 1,) begins with n inputs; `flat` (networks, size) holds the layers' transposed weights.
    """
    least = np.empty((len(flat), len(widths) - 1), np.int64)
    pairs = np.full((len(flat), 2, widths[0]), np.nan)
    first = [_decide_one(*network, widths) for network in zip(flat, least, pairs, strict=True)]
    return least, np.array(first, np.int64), pairs


def _decide_one(flat, least, pair, widths):
    """The first layer in which two inputs become one; fills `least` and `pair`."""
    n, layers = int(widths[0]), len(widths) - 1
    neurons = int(widths[1:].sum())
    x, facets, ends = _whole_space(n, (n + 1 + neurons + 63) // 64)
    most = 4 * (n + neurons)  # a cone with f facets has at most 2f - 4 rays in four dimensions, and as many appear
    z, found, bits = x, layers, n + 1
    for i, W in enumerate(_layers(flat, widths)):
        V, facets, ends = _cut(np.hstack((x, _product(z, W))), facets, ends, n, bits, most)
        x, z = np.ascontiguousarray(V[:, :n]), np.maximum(V[:, n:], 0.0)
        count, sets = _active_sets(z, ends)
        least[i], bits = count.min(), bits + W.shape[1]
        if found < layers:
            continue
        if least[i] < n:
            p = int(count.argmin())
            piece = slice(ends[p - 1] if p else 0, ends[p])
            pair[:] = _kernel_step(x[piece], z[piece])
            found = i
        elif i > 0 and _collides(flat, widths, i, x, z, facets, ends, count, sets, pair):
            found = i
    return found


def _layers(flat, widths):
    """The transposed weights of one network."""
    ends = np.cumsum(widths[:-1] * widths[1:])
    return [part.reshape(-1, m) for part, m in zip(np.split(flat, ends[:-1]), widths[1:], strict=True)]


def _product(z, W):
    return sparse_product(z, W, np.zeros(W.shape[1]))


def _kernel_step(x, z):
    """Two points inside a piece with the same image: rays x (rays, n), images z (rays, m) of rank below n."""
    length = np.sqrt((x * x).sum(axis=1, keepdims=True))
    x, inverse = x / length, np.linalg.pinv(x / length)
    unseen = np.linalg.svd((inverse @ (z / length)).T)[2][-1]  # by the Jacobian (m, n)
    middle = x.sum(axis=0)
    return np.stack([middle, middle + unseen / (2 * np.abs(unseen @ inverse).max())])


def _collides(flat, widths, layer, x, z, facets, ends, count, sets, pair):
    """Whether two pieces share an image in this layer, none having shared one before."""
    few = np.flatnonzero(count < 2 * x.shape[1])
    few = few[np.argsort(sets[few], kind="stable")]
    if (sets[few[1:]] != sets[few[:-1]]).all():
        return False
    total = z.sum(axis=1, keepdims=True)
    x, z = x / total, z / total
    one, two = _next_meeting(x, z, facets, ends, count, sets, few, 0, 0, pair)
    while one < len(few):
        if _is_collision(flat, widths, layer, pair):
            return True
        one, two = _next_meeting(x, z, facets, ends, count, sets, few, one, two, pair)
    pair[:] = np.nan
    return False


def _is_collision(flat, widths, layer, pair):
    """Whether two inputs are clearly different and their z of a layer is not."""
    z = pair
    for W in _layers(flat, widths)[: layer + 1]:
        z = np.maximum(_product(z, W), 0.0)
    inputs = np.abs(pair[0] - pair[1]).max() / np.abs(pair).max()
    return inputs > TOLERANCE and np.abs(z[0] - z[1]).max() <= ROUNDING * inputs * z.max()


@njit(inline="always")
def _cutting(V, start, end, n, neuron):
    """The next neuron with both signs on a cone, from `neuron` on; the number of neurons if there is none."""
    m = V.shape[1] - n
    while neuron < m:
        low, high = False, False
        for a in range(start, end):
            low |= V[a, n + neuron] < 0
            high |= V[a, n + neuron] > 0
        if low and high:
            return neuron
        neuron += 1
    return m


@njit(inline="always")
def _grown(array, rows):
    """An array with space for so many rows."""
    if rows <= len(array):
        return array
    larger = np.empty((2 * rows, array.shape[1]), array.dtype)
    for r in range(len(array)):
        for c in range(array.shape[1]):
            larger[r, c] = array[r, c]
    return larger


@compiled
def _cut(V, facets, ends, n, bits, most):
    """All pieces cut by all neurons of a layer. V (rays, n + m) holds x and pre-activations, a piece after another;
    `ends` (pieces,) is where each ends. `bits` is the facet of the first neuron, `most` the most rays of a piece."""
    m, words = V.shape[1] - n, facets.shape[1]
    stack, marks = np.empty(((m + 2) * most, n + m)), np.empty(((m + 2) * most, words), np.uint64)
    piece, on = np.empty((most, n + m)), np.empty((most, words), np.uint64)
    common = np.empty(words, np.uint64)
    bounds = np.empty((m + 3, 3), np.int64)  # start, end and next neuron of the pieces on the stack
    out, out_on, out_ends = np.empty((2 * len(V), n + m)), np.empty((2 * len(V), words), np.uint64), np.empty((64, 1))
    begin, at, pieces = 0, 0, 0
    for end in ends:
        for a in range(begin, end):
            put(V, facets, a, stack, marks, a - begin)
        bounds[0, 0], bounds[0, 1], bounds[0, 2] = 0, end - begin, 0
        begin, top = end, 0
        while top >= 0:
            low, high = bounds[top, 0], bounds[top, 1]
            neuron, rays = _cutting(stack, low, high, n, bounds[top, 2]), high - low
            if neuron == m:
                out, out_on = _grown(out, at + rays), _grown(out_on, at + rays)
                for a in range(rays):
                    put(stack, marks, low + a, out, out_on, at + a)
                at += rays
                out_ends = _grown(out_ends, pieces + 1)
                out_ends[pieces, 0] = at
                pieces += 1
                top -= 1
                continue
            for a in range(rays):
                put(stack, marks, low + a, piece, on, a)
            total = meet_plane(piece, on, rays, n + neuron, bits + neuron, common)
            middle = copy(piece, on, total, n + neuron, True, False, stack, marks, low)
            high = copy(piece, on, total, n + neuron, False, True, stack, marks, middle)
            bounds[top, 1], bounds[top, 2] = middle, neuron + 1
            top += 1
            bounds[top, 0], bounds[top, 1], bounds[top, 2] = middle, high, neuron + 1
    return out[:at], out_on[:at], out_ends[:pieces, 0].astype(np.int64)


def _whole_space(n, words):
    """R^n as n + 1 cones: rays x (n (n + 1), n), facets, ends."""
    ends = np.vstack([np.eye(n), -np.ones(n)])
    x, facets = [], []
    for left_out in range(n + 1):
        for i in range(n + 1):
            if i != left_out:
                x.append(ends[i])
                facets.append(sum(1 << other for other in range(n + 1) if other not in (i, left_out)))
    bits = np.zeros((len(x), words), np.uint64)
    bits[:, 0] = facets  # those opposite to the other rays
    return np.array(x), bits, n * np.arange(1, n + 2)


@compiled
def _active_sets(z, ends):
    """Number of active neurons of every piece and the hash of their set."""
    count, sets, begin = np.zeros(len(ends), np.int64), np.zeros(len(ends), np.uint64), 0
    for p in range(len(ends)):
        for j in range(z.shape[1]):
            active = False
            for a in range(begin, ends[p]):
                active |= z[a, j] > 0
            if active:
                count[p] += 1
                sets[p] = mixed(sets[p], j)
        begin = ends[p]
    return count, sets


@compiled
def _images(z, low, high, count):
    """The rays of a piece in the coordinates of its active neurons, (rays, count)."""
    y, at = np.empty((high - low, count)), 0
    for j in range(z.shape[1]):
        active = False
        for a in range(low, high):
            active |= z[a, j] > 0
        if active:
            for a in range(low, high):
                y[a - low, at] = z[a, j]
            at += 1
    return y


@compiled
def _apart(y, other):
    """Whether one coordinate keeps two cones apart, whose rays have coordinates that sum to 1."""
    apart = False
    for c in range(y.shape[1]):
        low, high, other_low, other_high = np.inf, -np.inf, np.inf, -np.inf
        for a in range(len(y)):
            low, high = min(low, y[a, c]), max(high, y[a, c])
        for a in range(len(other)):
            other_low, other_high = min(other_low, other[a, c]), max(other_high, other[a, c])
        apart |= high <= other_low or other_high <= low
    return apart


@compiled
def _next_meeting(x, z, facets, ends, count, sets, few, one, two, pair):
    """The first two of the `few` pieces, in order behind (one, two), with one active set and a common ray.

    Rays are scaled so that an image's coordinates sum to 1. Writes the `pair`; (len(few), 0) if there are none.
    """
    start = two + 1
    for i in range(one, len(few)):
        a = few[i]
        low, high = ends[a - 1] if a else 0, ends[a]
        y = _images(z, low, high, count[a])
        for j in range(max(start, i + 1), len(few)):
            b = few[j]
            if sets[a] != sets[b]:
                break
            first, last = ends[b - 1] if b else 0, ends[b]
            other = _images(z, first, last, count[b])
            if not _apart(y, other) and common_ray(
                x[low:high], y, facets[low:high], x[first:last], other, facets[first:last], pair
            ):
                return i, j
        start = 0
    return len(few), 0
