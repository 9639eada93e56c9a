"""Polyhedral cones by their extreme rays: cutting one by a hyperplane, and looking for a ray in two at once.

A cone is rows V (rays, columns) and a set of bits a ray, the facets it lies on. Columns are linear functions on the
cone: coordinates, or anything else that is linear there. Along every edge from a ray where a column is positive to one
where it is negative lies a new ray where it is 0 (the double description method, Fukuda and Prodon, "Double description
method revisited", 1996). Two rays span an edge iff no third one lies on all the facets they share, so
that only signs are arithmetic.

`common_ray` takes two n-dimensional cones in R^s, n <= s < 2n. One is cut with the other: by the s - n hyperplanes
through its span, and by the half-spaces of its facets.

Loops are written out: array expressions take numba many times as long to compile.
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
                for c in range(V.shape[1]):
                    V[total, c] = (1 - t) * V[a, c] + t * V[b, c]
                for w in range(len(common)):
                    facets[total, w] = common[w]
                V[total, column] = 0
                facets[total, word] |= mark
                total += 1
    return total


@njit(inline="always")
def put(V, facets, a, to, marks, at):
    """Copy ray a to place `at`."""
    for c in range(V.shape[1]):
        to[at, c] = V[a, c]
    for w in range(facets.shape[1]):
        marks[at, w] = facets[a, w]


@compiled
def copy(V, facets, total, column, below, above, to, marks, at):
    """Copy the rays whose sign in a column is wanted; zero always is. The end of what was written."""
    for a in range(total):
        value = V[a, column]
        if value == 0 or (value < 0 and below) or (value > 0 and above):
            put(V, facets, a, to, marks, at)
            at += 1
    return at


@njit(inline="always")
def _dot(a, i, b, j):
    """The product of row i of a and row j of b."""
    total = 0.0
    for c in range(a.shape[1]):
        total += a[i, c] * b[j, c]
    return total


@njit(inline="always")
def _project(rows, r, basis, level):
    """Take from a row its part along a basis vector."""
    share = _dot(rows, r, basis, level)
    for c in range(rows.shape[1]):
        rows[r, c] -= share * basis[level, c]


@compiled
def _independent(rows, chosen, basis):
    """Choose rows one at a time, the farthest from the span of those before; `basis` is orthonormal."""
    rest = rows.copy()
    for level in range(len(chosen)):
        best = 0.0
        for r in range(len(rest)):
            square = _dot(rest, r, rest, r)
            if square > best:
                best, chosen[level] = square, r
        for earlier in range(level):  # once more, for the roundings
            _project(rest, chosen[level], basis, earlier)
        length = np.sqrt(max(_dot(rest, chosen[level], rest, chosen[level]), 1e-300))
        for c in range(rest.shape[1]):
            basis[level, c] = rest[chosen[level], c] / length
        for r in range(len(rest)):
            _project(rest, r, basis, level)


@compiled
def _conditions(y, facets, n, basis):
    """What holds on a cone of R^s with that basis of its span: s - n equations, and a vector a facet, in the span, that
    is 0 on the facet and positive on the other rays. (conditions, s), one below another."""
    s, most = y.shape[1], 64 * facets.shape[1]
    found, total = np.zeros((s - n + most, s)), s - n
    unit = np.zeros((s, s))
    for r in range(s):
        unit[r, r] = 1
        for _ in range(2):  # twice, for the roundings
            for level in range(n):
                _project(unit, r, basis, level)
    chosen = np.empty(s, np.int64)
    _independent(unit, chosen[: s - n], found[: s - n])
    side, on = np.empty((n - 1, s)), np.empty_like(y)
    for bit in range(most):
        rays = 0
        for r in range(len(y)):
            if facets[r, bit >> 6] >> np.uint64(bit & 63) & np.uint64(1):
                for c in range(s):
                    on[rays, c] = y[r, c]
                rays += 1
            else:
                for c in range(s):
                    found[total, c] += y[r, c]
        if n - 1 <= rays < len(y):
            _independent(on[:rays], chosen[: n - 1], side)
            for _ in range(2):
                for level in range(n - 1):
                    _project(found, total, side, level)
            total += 1
        else:
            for c in range(s):
                found[total, c] = 0
    return found[:total]


@compiled
def _clipped(x, y, facets, conditions, equations):
    """Rays (rays, n + s) of the part of a cone where the first conditions are 0 and the others are not negative."""
    n, s, words = x.shape[1], y.shape[1], facets.shape[1]
    most = 4 * (64 * words + len(conditions))
    V, on = np.empty((most, n + s + len(conditions))), np.zeros((most, words + len(conditions) // 64 + 1), np.uint64)
    kept, kept_on, common = np.empty_like(V), np.empty_like(on), np.empty(on.shape[1], np.uint64)
    rays = len(x)
    for r in range(rays):
        for c in range(n):
            V[r, c] = x[r, c]
        for c in range(s):
            V[r, n + c] = y[r, c]
        for c in range(len(conditions)):
            V[r, n + s + c] = _dot(conditions, c, y, r)
        for w in range(words):
            on[r, w] = facets[r, w]
    for c in range(len(conditions)):
        total = meet_plane(V, on, rays, n + s + c, 64 * words + c, common)
        rays = copy(V, on, total, n + s + c, False, c >= equations, kept, kept_on, 0)
        V, on, kept, kept_on = kept, kept_on, V, on
    return V[:rays, : n + s]


@compiled
def common_ray(x, y, facets, other_x, other_y, other_facets, pair):
    """Whether two cones meet: rays x (rays, n) and their images y (rays, s) under a linear map, n <= s.

    Writes to `pair` a point of each cone, with the same image, inside what the images have in common. Cones
    that share no more than a boundary may give a pair on it, or none.
    """
    n, s = x.shape[1], y.shape[1]
    chosen, basis = np.empty(n, np.int64), np.empty((n, s))
    _independent(other_y, chosen, basis)
    part = _clipped(x, y, facets, _conditions(other_y, other_facets, n, basis), s - n)
    if len(part) == 0:
        return False
    rest = np.zeros((1, s))
    pair[:, :] = 0.0
    for r in range(len(part)):
        for c in range(n):
            pair[0, c] += part[r, c]
        for c in range(s):
            rest[0, c] += part[r, n + c]
    for a in range(n - 1, -1, -1):  # chosen ray a is in the span of basis vectors 0 to a
        weight = _dot(basis, a, rest, 0) / max(_dot(basis, a, other_y, chosen[a]), 1e-300)
        for c in range(s):
            rest[0, c] -= weight * other_y[chosen[a], c]
        for c in range(n):
            pair[1, c] += weight * other_x[chosen[a], c]
    return True
