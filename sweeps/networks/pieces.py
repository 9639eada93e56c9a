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
from sweeps.networks.cones import common_ray, copy, kernel_step, meet_plane
from sweeps.networks.sparse_product import sparse_product

TOLERANCE = 1e-6
"""Least distance of two inputs that collide, relative to their length."""
ROUNDING = 1e-9
"""Most distance of their images, relative to their length, as a part of the inputs' distance."""


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
    if rows <= len(array):
        return array
    larger = np.empty((2 * rows, array.shape[1]), array.dtype)
    larger[: len(array)] = array
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
    out, out_on, out_ends = np.empty((2 * len(V), n + m)), np.empty((2 * len(V), words), np.uint64), [0]
    begin = 0
    for end in ends:
        stack[: end - begin], marks[: end - begin] = V[begin:end], facets[begin:end]
        bounds[0, 0], bounds[0, 1], bounds[0, 2] = 0, end - begin, 0
        begin, top = end, 0
        while top >= 0:
            low, high = bounds[top, 0], bounds[top, 1]
            neuron = _cutting(stack, low, high, n, bounds[top, 2])
            rays = high - low
            if neuron == m:
                at = out_ends[-1]
                out, out_on = _grown(out, at + rays), _grown(out_on, at + rays)
                out[at : at + rays], out_on[at : at + rays] = stack[low:high], marks[low:high]
                out_ends.append(at + rays)
                top -= 1
                continue
            piece[:rays], on[:rays] = stack[low:high], marks[low:high]
            total = meet_plane(piece, on, rays, n + neuron, bits + neuron, common)
            middle = copy(piece, on, total, n + neuron, True, False, stack, marks, low)
            high = copy(piece, on, total, n + neuron, False, True, stack, marks, middle)
            bounds[top, 1], bounds[top, 2] = middle, neuron + 1
            top += 1
            bounds[top, 0], bounds[top, 1], bounds[top, 2] = middle, high, neuron + 1
    last = out_ends[-1]
    return out[:last], out_on[:last], np.array(out_ends[1:])


@compiled
def _whole_space(n, words):
    """R^n as n + 1 cones: rays x (n (n + 1), n), facets, ends."""
    x, facets = np.zeros((n * (n + 1), n)), np.zeros((n * (n + 1), words), np.uint64)
    at = 0
    for left_out in range(n + 1):
        for i in range(n + 1):
            if i != left_out:
                if i < n:
                    x[at, i] = 1
                else:
                    x[at] = -1
                for other in range(n + 1):  # on the facets opposite to the other rays
                    if other not in (i, left_out):
                        facets[at, 0] |= np.uint64(1) << np.uint64(other)
                at += 1
    return x, facets, n * np.arange(1, n + 2)


@compiled
def _active(V, n, begin, end):
    """Number of active neurons of a piece and the hash of their set."""
    count, word = 0, np.uint64(0)
    for j in range(n, V.shape[1]):
        for a in range(begin, end):
            if V[a, j] > 0:
                count += 1
                word = mixed(word, j)
                break
    return count, word


@njit(inline="always")
def _rays_of(p, ends):
    return (ends[p - 1] if p else 0), ends[p]


@compiled
def _images(z, low, high, count):
    """The rays of a piece in the coordinates of its active neurons, (rays, count)."""
    y, at = np.empty((high - low, count)), 0
    for j in range(z.shape[1]):
        if at < count and z[low:high, j].max() > 0:
            y[:, at] = z[low:high, j]
            at += 1
    return y


@njit(inline="always")
def _scaled(x, y):
    """Rays and their images, scaled so that an image's coordinates sum to 1."""
    for a in range(len(y)):
        total = y[a].sum()
        x[a] /= total
        y[a] /= total


@njit(inline="always")
def _apart(y, other):
    """Whether one coordinate keeps two cones apart, whose rays have coordinates that sum to 1."""
    apart = False
    for c in range(y.shape[1]):
        apart |= y[:, c].max() <= other[:, c].min() or other[:, c].max() <= y[:, c].min()
    return apart


@compiled
def _is_collision(flat, widths, layer, pair):
    """Whether two inputs are clearly different and their z of a layer is not."""
    z, start = pair, 0
    for i in range(layer + 1):
        size = widths[i] * widths[i + 1]
        W = flat[start : start + size].reshape(widths[i], widths[i + 1])
        z = np.maximum(sparse_product(z, W, np.zeros(widths[i + 1])), 0.0)
        start += size
    inputs = np.abs(pair[0] - pair[1]).max() / np.abs(pair).max()
    return inputs > TOLERANCE and np.abs(z[0] - z[1]).max() <= ROUNDING * inputs * z.max()


@compiled
def _collides(flat, widths, layer, x, z, facets, ends, count, sets, pair):
    """Whether two pieces share an image in this layer, none having shared one before."""
    n = x.shape[1]
    few = np.flatnonzero(count < 2 * n)
    few = few[np.argsort(sets[few], kind="mergesort")]
    for one in range(len(few)):
        a = few[one]
        low, high = _rays_of(a, ends)
        u, y = x[low:high].copy(), _images(z, low, high, count[a])
        _scaled(u, y)
        for two in range(one + 1, len(few)):
            b = few[two]
            if sets[a] != sets[b]:
                break
            first, last = _rays_of(b, ends)
            v, other = x[first:last].copy(), _images(z, first, last, count[b])
            _scaled(v, other)
            if _apart(y, other) or not common_ray(u, y, facets[low:high], v, other, facets[first:last], pair):
                continue
            if _is_collision(flat, widths, layer, pair):
                return True
    pair[:] = np.nan
    return False


@compiled
def _decide_one(flat, widths, least, pair):
    """First layer that two inputs do not survive; fills `least` and `pair`."""
    n, layers = widths[0], len(widths) - 1
    facets_most = n + widths[1:].sum()
    x, facets, ends = _whole_space(n, (n + 1 + widths[1:].sum() + 63) // 64)
    most = 4 * facets_most  # a cone with f facets has at most 2f - 4 rays in four dimensions, and as many appear
    z, found, start, bits = x, layers, 0, n + 1
    for i in range(layers):
        size = widths[i] * widths[i + 1]
        W = flat[start : start + size].reshape(widths[i], widths[i + 1])
        H = sparse_product(z, W, np.zeros(widths[i + 1]))
        V, facets, ends = _cut(np.hstack((x, H)), facets, ends, n, bits, most)
        x, z = np.ascontiguousarray(V[:, :n]), np.maximum(V[:, n:], 0.0)
        count, sets = np.empty(len(ends), np.int64), np.empty(len(ends), np.uint64)
        for p in range(len(ends)):
            count[p], sets[p] = _active(V, n, *_rays_of(p, ends))
        start, bits = start + size, bits + widths[i + 1]
        p = np.argmin(count)
        least[i] = count[p]
        if found == layers:
            if count[p] < n:
                low, high = _rays_of(p, ends)
                kernel_step(x[low:high], _images(z, low, high, count[p]), pair)
                found = i
            elif i > 0 and _collides(flat, widths, i, x, z, facets, ends, count, sets, pair):
                found = i
    return found


@compiled
def decide(flat, widths):
    """k_i* (networks, layers), the first layer that collapses (networks,), and two inputs (networks, 2, n).

    `widths` (layers + 1,) begins with n inputs; `flat` (networks, size) holds the layers' transposed weights.
    """
    layers = len(widths) - 1
    least, first = np.empty((len(flat), layers), np.int64), np.empty(len(flat), np.int64)
    pairs = np.full((len(flat), 2, widths[0]), np.nan)
    for k in range(len(flat)):
        first[k] = _decide_one(flat[k], widths, least[k], pairs[k])
    return least, first, pairs
