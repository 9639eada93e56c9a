"""Polyhedral cones by their extreme rays: cutting one by a hyperplane, and looking for a ray in two at once.

A cone is rows V (rays, columns) and a set of bits a ray, the facets it lies on. Columns are linear functions on the
cone: coordinates, or anything else that is linear there. Along every edge from a ray where a column is positive to one
where it is negative lies a new ray where it is 0 (the double description method, Fukuda and Prodon, "Double description
method revisited", 1996). Two rays span an edge iff no third one lies on all the facets they share, so
that only signs are arithmetic.

`common_ray` takes two n-dimensional cones in R^s, n <= s < 2n. One is cut with the other: by the s - n hyperplanes
through its span, and by the half-spaces of its facets.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sweeps.compiled import compiled


@njit(inline="always")
def _is_edge(facets, rays, a, b, common):
    """Whether no third ray lies on all the facets that rays a and b share; writes those to `common`."""
    for w in range(len(common)):
        common[w] = facets[a, w] & facets[b, w]
    third = False
    for c in range(rays):
        missing = np.uint64(0)
        for w in range(len(common)):
            missing |= common[w] & ~facets[c, w]
        third |= missing == 0 and c != a and c != b
    return not third


@compiled
def meet_plane(V, facets, rays, column, bit, common):
    """Append the rays where the edges of a cone meet the plane of a column; how many rays there are then.

    V is (space, columns), of which `rays` are in use. Rays on the plane get the facet `bit`.
    """
    mark, word, total = np.uint64(1) << np.uint64(bit & 63), bit >> 6, rays
    for a in range(rays):
        if V[a, column] == 0:
            facets[a, word] |= mark
    for a in range(rays):
        if V[a, column] <= 0:
            continue
        for b in range(rays):
            if V[b, column] < 0 and _is_edge(facets, rays, a, b, common):
                t = V[a, column] / (V[a, column] - V[b, column])
                V[total] = (1 - t) * V[a] + t * V[b]
                V[total, column] = 0
                facets[total] = common
                facets[total, word] |= mark
                total += 1
    return total


@njit(inline="always")
def copy(V, facets, total, column, below, above, to, marks, at):
    """Copy the rays whose sign in a column is wanted; zero always is. The end of what was written."""
    for a in range(total):
        value = V[a, column]
        if value == 0 or (value < 0 and below) or (value > 0 and above):
            to[at], marks[at] = V[a], facets[a]
            at += 1
    return at


@compiled
def _independent(rows, chosen, basis):
    """Choose rows one at a time, the farthest from the span of those before; `basis` is orthonormal."""
    rest = rows.copy()
    for level in range(len(chosen)):
        best = 0.0
        for r in range(len(rest)):
            length = np.sqrt((rest[r] * rest[r]).sum())
            if length > best:
                best, chosen[level] = length, r
        basis[level] = rest[chosen[level]] / max(best, 1e-300)
        for r in range(len(rest)):
            rest[r] -= (rest[r] * basis[level]).sum() * basis[level]


@compiled
def _residual(vector, basis):
    """A vector less its projection on the span of an orthonormal basis, twice for the roundings."""
    rest = vector.copy()
    for _ in range(2):
        for level in range(len(basis)):
            rest -= (rest * basis[level]).sum() * basis[level]
    return rest


@compiled
def _facet_normals(y, facets, n):
    """A vector for every facet of a cone in R^s, in the cone's span: 0 on the facet, positive on the other rays."""
    found = np.empty((64 * facets.shape[1], y.shape[1]))
    basis, chosen, total = np.empty((n - 1, y.shape[1])), np.empty(n - 1, np.int64), 0
    for bit in range(len(found)):
        on = (facets[:, bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1) == 1
        if n - 1 <= on.sum() < len(y):
            _independent(y[on], chosen, basis)
            found[total] = _residual(y[~on].sum(axis=0), basis)
            total += 1
    return found[:total]


@compiled
def _equations(basis):
    """An orthonormal basis of what is orthogonal to `basis` (n, s): (s - n, s)."""
    n, s = basis.shape
    unit, rest = np.eye(s), np.empty((s - n, s))
    for r in range(s):
        unit[r] = _residual(unit[r], basis)
    _independent(unit, np.empty(s - n, np.int64), rest)
    return rest


@compiled
def _clipped(x, y, facets, equations, normals):
    """Rays (rays, n + s) of the part of a cone where the equations are 0 and the normals are not negative."""
    conditions = np.vstack((equations, normals))
    coordinates, words = x.shape[1] + y.shape[1], facets.shape[1]
    most = 4 * (64 * words + len(conditions))
    V, kept = np.empty((most, coordinates + len(conditions))), np.empty((most, coordinates + len(conditions)))
    on = np.zeros((most, words + len(conditions) // 64 + 1), np.uint64)
    kept_on, common = np.empty_like(on), np.empty(on.shape[1], np.uint64)
    rays = len(x)
    V[:rays, : x.shape[1]], V[:rays, x.shape[1] : coordinates], on[:rays, :words] = x, y, facets
    for r in range(rays):
        for c in range(len(conditions)):
            V[r, coordinates + c] = (conditions[c] * y[r]).sum()
    for c in range(len(conditions)):
        total = meet_plane(V, on, rays, coordinates + c, 64 * words + c, common)
        rays = copy(V, on, total, coordinates + c, False, c >= len(equations), kept, kept_on, 0)
        V, on, kept, kept_on = kept, kept_on, V, on
    return V[:rays, :coordinates]


@compiled
def common_ray(x, y, facets, other_x, other_y, other_facets, pair):
    """Whether two cones meet: rays x (rays, n) and their images y (rays, s) under a linear map, n <= s.

    Writes to `pair` a point of each cone, with the same image, inside what the images have in common. Cones
    that share no more than a boundary may give a pair on it, or none.
    """
    n = x.shape[1]
    chosen, basis = np.empty(n, np.int64), np.empty((n, y.shape[1]))
    _independent(other_y, chosen, basis)
    part = _clipped(x, y, facets, _equations(basis), _facet_normals(other_y, other_facets, n))
    if len(part) == 0:
        return False
    middle = np.empty(part.shape[1])
    for c in range(part.shape[1]):
        middle[c] = part[:, c].mean()
    rest = middle[n:].copy()
    pair[0], pair[1] = middle[:n], 0.0
    for a in range(n - 1, -1, -1):  # chosen ray a is in the span of basis vectors 0 to a
        weight = (basis[a] * rest).sum() / max((basis[a] * other_y[chosen[a]]).sum(), 1e-300)
        rest -= weight * other_y[chosen[a]]
        pair[1] += weight * other_x[chosen[a]]
    return True


@compiled
def kernel_step(x, y, pair):
    """Two points inside a cone with the same image: rays x (rays, n), images y (rays, s) with s < n."""
    n, s = x.shape[1], y.shape[1]
    chosen, basis = np.empty(n, np.int64), np.empty((n, n))
    _independent(x, chosen, basis)
    step = np.ones(n)
    if s > 0:
        step = np.ascontiguousarray(np.linalg.svd(np.ascontiguousarray(y[chosen].T))[2][n - 1])
    step /= 2 * np.abs(step).max()
    for c in range(n):
        pair[0, c] = x[:, c].sum()
        pair[1, c] = pair[0, c] + (step * x[chosen, c]).sum()
