"""Maximal biases by the polytope of the rows (Haider, Ehler, Balazs, arXiv 2307.09672 and 2406.15856), facet by facet.

A layer x -> ReLU(<x, phi_i> - alpha_i) is injective on K if for every x in K the active rows, <x, phi_i> >= alpha_i,
span. The cones over the facets of the rows' hull cover R^n, and the n rows of a facet span. So it is enough that on
the cone of each facet all its rows are active: for directions |x| = 1

    alpha_i = min over facets F with i in F of  min {<x, phi_i> : x in cone F, |x| = 1}.

Row i of the Gram matrix of F decides. If it has no negative entry, the inner minimum is its smallest: {<x, phi_i> >= c}
with c >= 0 is a cap of at most half the sphere, which holds with its corners the spherical simplex. Else it is -|p|
with p the projection of -phi_i on the cone. (Merging all facets at row i into one cone, as the published code does,
asks for too much: for the tetrahedron -1, where -1/sqrt 3 is enough.)

For x >= 0 the cone is that of F cut by the orthant, and alpha_i = min(0, .), which is right for |x| <= 1: -|p| with p
the projection on {x : N x >= 0, x >= 0}, N the inward normals of the cone's sides.

The covering radius of a sample of directions is the largest distance of any direction from the nearest of the sample.
The direction u with the smallest max_p <u, p> is the normal of a facet of the sample's hull, at its distance d from 0:
    radius = (2 - 2 d)^(1/2).
Among directions u >= 0 it is a facet of the hull minus the orthant, conv(p) - {x >= 0}, whose normals are those that
are >= 0: the hull of the sample and n points at infinity, -e_j. A projective map brings all into R^n: (x, 1) and
(-e_j, 0) are divided by l(x, t) = 2 n^(1/2) t - sum_j x_j, which is positive on them all.
"""

from __future__ import annotations

import math

import numpy as np

from sweeps.frames.facets import INSIDE, expected_facets, facets, hull, in_chunks, orthant_sides, refuse
from sweeps.frames.nonnegative_least_squares import projections


def polytope_bias(rows: np.ndarray, positive: bool = False, *, given: np.ndarray | None = None) -> np.ndarray:
    """The bias alpha, float64 (m,), of `rows`, float64 (m, n) of length 1, for directions x; inf where in no facet.

    With `positive` for x >= 0, |x| <= 1. `given` are the facets, where they are known.

    Raises:
        OutsideError, ValueError: there are no such facets, or too many (sweeps.frames.facets).
    """
    corners = facets(rows, positive) if given is None else given
    least = _least_positive if positive else _least
    bias = np.full(len(rows), np.inf)
    for some in in_chunks(corners):
        np.minimum.at(bias, some, least(rows[some]))
    return bias


def _least(simplices: np.ndarray) -> np.ndarray:
    """The least product with each corner of the unit vectors in the cones, float64 (facets, n)."""
    lengths, _ = projections(simplices, -simplices)
    return np.where(lengths > 0, -lengths, (simplices @ np.swapaxes(simplices, 1, 2)).min(axis=2))


def _least_positive(simplices: np.ndarray) -> np.ndarray:
    """The least product with each corner of the x >= 0 in the cones, |x| <= 1, float64 (facets, n)."""
    _, rests = projections(-orthant_sides(simplices), -simplices)
    return 0.0 - rests


def covering_radius(points: np.ndarray, positive: bool = False) -> float:
    """Largest distance of a direction from the nearest of `points`, float64 (count, n) of length 1.

    With `positive` of the directions u >= 0, and all points are >= 0. 2.0, the largest there is, where 0 is not inside
    the points' hull.

    Raises:
        ValueError: so many points would have more than MOST facets.
    """
    count, n = points.shape
    if positive:
        refuse(expected_facets(n, 2.0**n * count) / 2.0**n, f"{count} directions >= 0 in R^{n}")
        distances = _above_orthant(points)
    else:
        refuse(expected_facets(n, max(count, n)), f"{count} directions in R^{n}")
        if count <= n or np.linalg.matrix_rank(points, tol=INSIDE) < n:
            return 2.0
        distances = -hull(np.vstack([points, np.zeros((1, n))]))[2]
    nearest = distances.min()
    return math.sqrt(max(2 - 2 * nearest, 0.0)) if nearest > INSIDE else 2.0


def _above_orthant(points: np.ndarray) -> np.ndarray:
    """Distances from 0 of the facets of the hull of `points` minus the orthant."""
    n = points.shape[1]
    scale = 2 * math.sqrt(n)
    mapped = points / (scale - points.sum(axis=1, keepdims=True))
    _, normals, offsets = hull(np.vstack([mapped, -np.eye(n)]))
    directions = normals - offsets[:, None]
    lengths = np.linalg.norm(directions, axis=1)
    finite = lengths > INSIDE  # the facet between the points at infinity has none
    return -offsets[finite] * scale / lengths[finite]
