"""Deep ReLU networks without biases on the plane: active neurons of every layer and injectivity, exactly.

z_0 = x in R^2, z_i = ReLU(A_i z_{i-1}). The network is positively homogeneous, so the unit circle tells all. It is
cut into arcs, each the cone of two rays, on which z_i is linear: a pre-activation that has opposite signs at an arc's
two rays vanishes at one place between, which is a new ray. Layer after layer, rays carry pre-activations; those of
a new ray are a mean of its neighbours', and the one that vanishes there is 0 exactly.

- k_i, the active neurons of layer i on an arc, are those positive at one of its rays at least.
- *Locally injective* up to layer i: the Jacobian of every arc has rank 2. For almost all weights that is k_j >= 2 on
  every arc and for every j <= i: of the finitely many products D_i A_i ... D_1 A_1, D_j of rank k_j, none has a rank
  below min(2, k_1, ..., k_i), save on a set of weights of measure zero.
- *Injective* up to layer i: no two inputs share z_i. Take the first layer where some do, x and x', z_i = z_i', both
  with the active set S of s neurons, and z_{i-1} != z_{i-1}'. On the two arcs z_{i-1} spans r dimensions, r = 2, 3 or
  4, and the s rows of A_i see a difference other than 0 as 0: for almost all weights s < r <= 4, so s is 2 or 3.
  It remains to compare arcs with the same S. For s = 2 the images are intervals of directions in a quadrant,
  and must not overlap. For s = 3 they are segments in a triangle, and must not cross; segments that share
  an end, and segments on the same line because r = 2, do not.

Which arcs are on one plane is known without arithmetic: those whose active sets agree in every layer, back to
the first or to one of 2 neurons, where all arcs with that set are on a plane. A 64-bit hash stands for it.
Everything else is signs of float64 numbers. Two inputs that collide are a proof that can be checked by evaluation.
Puthawala, Kothari, Lassas, Dokmanic, de Hoop, "Globally Injective ReLU Networks", JMLR 2022 (arXiv 2006.08464);
local and global injectivity as in Stojnic, "Deep ReLU networks", arXiv 2412.19677.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sweeps.compiled import compiled


@compiled
def _product(z, weights, start, m):
    """Pre-activations (rays, m) of values (rays, m') under the transposed weights (m', m) from `start` on."""
    H = np.zeros((z.shape[0], m))
    for p in range(z.shape[0]):
        for k in range(z.shape[1]):
            if z[p, k] != 0:
                row = start + k * m
                for j in range(m):
                    H[p, j] += z[p, k] * weights[row + j]
    return H


@njit(inline="always")
def _opposite(a, b):
    return a < 0 < b or b < 0 < a


@njit(inline="always")
def _mean(rows, p, q, t, to, at):
    """Write (1 - t) times row p and t times row q."""
    for c in range(rows.shape[1]):
        to[at, c] = (1 - t) * rows[p, c] + t * rows[q, c]


@compiled
def _cut(rays, H):
    """Arcs cut where a pre-activation vanishes: finer rays and pre-activations, and the arc each comes from."""
    arcs, m = H.shape
    cuts = 0
    for p in range(arcs):
        for j in range(m):
            cuts += _opposite(H[p, j], H[(p + 1) % arcs, j])
    fine, values, parent = np.empty((arcs + cuts, 2)), np.empty((arcs + cuts, m)), np.empty(arcs + cuts, np.int64)
    places, neurons = np.empty(m), np.empty(m, np.int64)
    at = 0
    for p in range(arcs):
        q = (p + 1) % arcs
        _mean(rays, p, q, 0.0, fine, at)
        _mean(H, p, q, 0.0, values, at)
        parent[at] = p
        at += 1
        found = 0
        for j in range(m):
            if _opposite(H[p, j], H[q, j]):
                place = H[p, j] / (H[p, j] - H[q, j])
                slot = found
                while slot > 0 and places[slot - 1] > place:
                    places[slot], neurons[slot] = places[slot - 1], neurons[slot - 1]
                    slot -= 1
                places[slot], neurons[slot] = place, j
                found += 1
        for c in range(found):
            t = places[c]
            _mean(rays, p, q, t, fine, at)
            _mean(H, p, q, t, values, at)
            values[at, neurons[c]] = 0
            parent[at] = p
            at += 1
    return fine, values, parent


@njit(inline="always")
def mixed(word, item):
    """A 64-bit hash of a hash and a small number, by the finaliser of SplitMix64."""
    word = (word ^ np.uint64(item)) + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@compiled
def _active_sets(z, before, parent):
    """Number of active neurons of every arc, the first three (arcs, 3), and the hash of the plane z is on."""
    arcs, m = z.shape
    count, first, plane = np.zeros(arcs, np.int64), np.full((arcs, 3), -1), np.empty(arcs, np.uint64)
    for p in range(arcs):
        q, word = (p + 1) % arcs, np.uint64(0)
        for j in range(m):
            if z[p, j] > 0 or z[q, j] > 0:
                if count[p] < 3:
                    first[p, count[p]] = j
                count[p] += 1
                word = mixed(word, j)
        plane[p] = word if count[p] == 2 else word ^ mixed(before[parent[p]], m)
    return count, first, plane


@njit(inline="always")
def _share(z, p, q, j, k):
    """Part that neuron j has of the sum of neurons j and k, at both ends of arc p."""
    return z[p, j] / (z[p, j] + z[p, k]), z[q, j] / (z[q, j] + z[q, k])


@njit(inline="always")
def _put_point(rays, p, q, t, total, pair, which):
    """Write the point of an arc at t, divided by `total`."""
    for c in range(2):
        pair[which, c] = ((1 - t) * rays[p, c] + t * rays[q, c]) / total


@njit(inline="always")
def _put_share(rays, z, p, q, j, k, share, pair, which):
    """Write the point of arc p where neurons j and k sum to 1 and j has that share."""
    a = z[p, j] - share * (z[p, j] + z[p, k])
    b = z[q, j] - share * (z[q, j] + z[q, k])
    t = a / (a - b)
    _put_point(rays, p, q, t, (1 - t) * (z[p, j] + z[p, k]) + t * (z[q, j] + z[q, k]), pair, which)


@njit(inline="always")
def _normal(z, p, q, S):
    """The cross product of an arc's two images in the three coordinates S."""
    a, b, c = z[p, S[0]], z[p, S[1]], z[p, S[2]]
    d, e, f = z[q, S[0]], z[q, S[1]], z[q, S[2]]
    return b * f - c * e, c * d - a * f, a * e - b * d


@njit(inline="always")
def _crosses(rays, z, p, q, normal, S, pair, which):
    """Whether arc p's image crosses the plane of that normal; writes the point where S sums to 1 there."""
    a = normal[0] * z[p, S[0]] + normal[1] * z[p, S[1]] + normal[2] * z[p, S[2]]
    b = normal[0] * z[q, S[0]] + normal[1] * z[q, S[1]] + normal[2] * z[q, S[2]]
    found = _opposite(a, b)
    if found:
        t, total = a / (a - b), 0.0
        for j in S:
            total += (1 - t) * z[p, j] + t * z[q, j]
        _put_point(rays, p, q, t, total, pair, which)
    return found


@compiled
def _meet(rays, z, a, b, count, S, pair):
    """Whether two arcs with the active set S of 2 or 3 neurons have an image in common; writes the `pair`."""
    after_a, after_b = (a + 1) % len(z), (b + 1) % len(z)
    if count == 2:
        j, k = S[0], S[1]
        one, two = _share(z, a, after_a, j, k), _share(z, b, after_b, j, k)
        low, high = max(min(one), min(two)), min(max(one), max(two))
        if low < high:
            _put_share(rays, z, a, after_a, j, k, (low + high) / 2, pair, 0)
            _put_share(rays, z, b, after_b, j, k, (low + high) / 2, pair, 1)
        return low < high
    return _crosses(rays, z, a, after_a, _normal(z, b, after_b, S), S, pair, 0) and _crosses(
        rays, z, b, after_b, _normal(z, a, after_a, S), S, pair, 1
    )


@compiled
def _collides(rays, z, count, first, plane, pair):
    """Whether two arcs share an image in this layer, none having shared one before."""
    few = np.flatnonzero(count <= 3)
    for one in range(len(few)):
        a = few[one]
        for two in range(one):
            b = few[two]
            if count[a] != count[b] or first[a, 0] != first[b, 0]:
                continue
            if first[a, 1] != first[b, 1] or first[a, 2] != first[b, 2]:
                continue
            apart = 1 < a - b < len(z) - 1  # neighbours share a ray
            if count[a] == 3 and (not apart or plane[a] == plane[b]):
                continue
            if _meet(rays, z, a, b, count[a], first[a], pair):
                return True
    pair[:, :] = np.nan
    return False


@compiled
def _collapse(rays, z, p, active, pair):
    """Two inputs of arc p with the same image, where at most one neuron, `active`, is active."""
    q = (p + 1) % len(z)
    a, b, step = 0.0, 1.0, 0.5
    if active >= 0:
        a, b = z[p, active], z[q, active]
        step /= max(a, b)
    for c in range(2):
        pair[0, c] = rays[p, c] + rays[q, c]
        pair[1, c] = (1 + step * b) * rays[p, c] + (1 - step * a) * rays[q, c]


@compiled
def decide(flat, widths):
    """k_i* (networks, layers), the first layer that collapses (networks,), and two inputs (networks, 2, 2).

    `widths` (layers + 1,) begins with 2 inputs; `flat` (networks, size) holds the layers' transposed weights.
    """
    layers = len(widths) - 1
    least, found = np.empty((len(flat), layers), np.int64), np.full(len(flat), layers)
    pairs = np.full((len(flat), 2, 2), np.nan)
    for k in range(len(flat)):
        rays, plane, start = np.zeros((4, 2)), np.zeros(4, np.uint64), 0
        for quarter in range(4):  # so that no arc is half the circle
            rays[quarter, quarter & 1] = 1 - (quarter & 2)
        z = rays
        for i in range(layers):
            rays, z, parent = _cut(rays, _product(z, flat[k], start, widths[i + 1]))
            for p in range(len(z)):
                for j in range(z.shape[1]):
                    z[p, j] = max(z[p, j], 0.0)
            count, first, plane = _active_sets(z, plane, parent)
            start += widths[i] * widths[i + 1]
            p = np.argmin(count)
            least[k, i] = count[p]
            if found[k] == layers:
                if count[p] < 2:
                    _collapse(rays, z, p, first[p, 0], pairs[k])
                    found[k] = i
                elif _collides(rays, z, count, first, plane, pairs[k]):
                    found[k] = i
    return least, found, pairs
