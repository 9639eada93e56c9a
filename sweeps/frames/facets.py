"""Facets of the convex hull of a layer's rows: where 0 is inside it, the cones over them cover R^n.

A facet is told by the n rows that are its corners; where more lie in one hyperplane it is cut into such simplices.
The rows of the facet in whose cone x lies are a basis, and x has products with them that can be bounded from below
(sweeps.frames.polytope). Only rows on the hull are needed: of rows closer together than `MERGED` the first in
lexicographic order is kept, so that facets depend on the rows and not on their order, up to the numbering.

For inputs x >= 0 the rows need no more than a cone that holds the orthant: the facets are those of the hull of the rows
and 0 that 0 is not in, and of these such that some x > 0 is inside their cone. With N the inward normals of a cone's
sides, there is one iff 0 is no convex combination of the rows of N and the unit vectors e_j (Gordan), that is iff the
projection of e_(n+1) on the cone of the vectors (N_k, 1) and (e_j, 1) is not e_(n+1) itself.

How many there are. Of m independent points, uniform on S^(n-1), n given ones span a hyperplane at a signed distance h
of density proportional to (1 - h^2)^((n^2-2n-1)/2), by the affine Blaschke-Petkantschin formula (n points of a sphere
of radius r = (1 - h^2)^(1/2) and dimension n-2 have measure r^(n(n-2)), their simplex the volume r^(n-1), and the
slant of the sphere gives r^(-n); Miles, Isotropic random simplices, 1971). With F the distribution function of one
coordinate of a uniform point,

    mean number of facets = 2 C(m, n) int_-1^1 F(h)^(m-n) g(h) dh,

2m - 4 for n = 3. The number grows like m with a factor that itself grows faster than exponentially with n.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy.spatial import ConvexHull, KDTree, QhullError
from scipy.special import betainc, betaln

from sweeps.errors import OutsideError
from sweeps.frames.nonnegative_least_squares import projections

MOST = 10**6
"""Facets; with 8 inputs qhull takes half a minute and half a gigabyte for so many."""
MERGED = 1e-9
INSIDE = 1e-9
"""A hyperplane closer to 0 goes through it."""
FLAT = 1e-11
"""Where the corners' smallest singular value is below, the cone is one of fewer dimensions."""
CHUNK = 1 << 18


@lru_cache(maxsize=1024)
def expected_facets(n: int, m: float) -> float:
    """Mean number of facets of the hull of m independent points, uniform on the sphere in R^n; inf from 1e308."""
    if n == 1:
        return 2.0
    log = math.log(2) - betaln(n + 1, m - n + 1) - math.log(m + 1) - betaln((n * n - 2 * n + 1) / 2, 0.5)
    log += _log_integral(n, m - n)
    return math.exp(log) if log < 709 else math.inf


def _log_integral(n: int, others: float) -> float:
    """log int_0^pi F(cos a)^others sin(a)^(n^2-2n) da: trapezia in s, a = pi / (1 + e^-s), where it is large."""
    s = np.linspace(-40, 40, 4001)
    for _ in range(3):
        heights = _log_integrand(s, n, others)
        large = np.flatnonzero(heights > heights.max() - 45)
        s = np.linspace(s[max(large[0] - 1, 0)], s[min(large[-1] + 1, 4000)], 4001)
    heights = _log_integrand(s, n, others)
    return heights.max() + np.log(np.exp(heights - heights.max()).sum() * (s[1] - s[0]))


def _log_integrand(s: np.ndarray, n: int, others: float) -> np.ndarray:
    sine = np.sin(np.pi * np.exp(-np.logaddexp(0, np.abs(s))))
    cap = betainc((n - 1) / 2, 0.5, sine**2) / 2
    below = np.where(s < 0, np.log1p(-cap), np.log(np.maximum(cap, 1e-300)))  # log F
    slope = np.log(np.pi) - np.logaddexp(0, -s) - np.logaddexp(0, s)  # log da/ds
    return others * below + (n * n - 2 * n) * np.log(sine) + slope


def facets(rows: np.ndarray, positive: bool = False) -> np.ndarray:
    """Corners of the facets of the hull of `rows`, float64 (m, n) of length 1: indices, int64 (facets, n).

    With `positive` only those whose cones the inputs x > 0 are in.

    Raises:
        OutsideError: some inputs are in no facet's cone: the rows do not span, 0 is not inside their hull or, with
            `positive`, some x >= 0 is no combination of rows with positive weights.
        ValueError: so many random rows would have more than `MOST` facets.
    """
    _check_span(rows)
    kept = _distinct(rows)
    refuse(expected_facets(rows.shape[1], len(kept)), f"{len(kept)} rows of {rows.shape[1]} inputs")
    corners, normals, offsets = hull(np.vstack([rows[kept], np.zeros((1, rows.shape[1]))]))
    away = offsets < -INSIDE
    if positive:
        _check_orthant(normals[~away])
    elif not away.all():
        raise OutsideError("0 is not inside the convex hull of the rows: some inputs are in no facet's cone")
    corners = kept[corners[away]]
    tests = [_solid, _meets_orthant] if positive else [_solid]
    for test in tests:
        corners = corners[np.concatenate([test(rows[some]) for some in in_chunks(corners)])]
    return corners


def refuse(expected: float, what: str) -> None:
    """Raise a ValueError where so many facets are expected of the hull of `what`."""
    if expected > MOST:
        raise ValueError(
            f"the hull of {what} would have about {expected:.2g} facets, above {MOST}; "
            "take fewer, or the estimate from samples"
        )


def _distinct(rows: np.ndarray) -> np.ndarray:
    """Indices of rows that are farther than `MERGED` from each other, in lexicographic order."""
    values, first = np.unique(rows + 0.0, axis=0, return_index=True)
    pairs = KDTree(values).query_pairs(MERGED, output_type="ndarray")
    return np.delete(first, np.unique(pairs[:, 1]))


def _check_span(rows: np.ndarray) -> None:
    rank = np.linalg.matrix_rank(rows, tol=INSIDE)
    if rank < rows.shape[1]:
        raise OutsideError(f"the rows span {rank} of {rows.shape[1]} dimensions: inputs orthogonal to them are lost")


def _check_orthant(normals: np.ndarray) -> None:
    """That all unit vectors are in the cone {x: normals @ x <= 0} of the rows."""
    outside = np.flatnonzero((normals > INSIDE).any(axis=0))
    if len(outside):
        raise OutsideError(
            f"the inputs x >= 0 are not inside the cone of the rows: unit vector {outside[0]} is in no facet's cone"
        )


def hull(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners (facets, n), outward unit normals (facets, n), offsets of the hull: inside normals @ x + offsets <= 0."""
    if points.shape[1] == 1:  # qhull has no such case
        ends = np.array([points[:, 0].argmax(), points[:, 0].argmin()])
        normals = np.array([[1.0], [-1.0]])
        return ends[:, None], normals, -(normals * points[ends])[:, 0]
    try:
        found = ConvexHull(points)
    except QhullError as error:
        raise ValueError(f"qhull finds no hull of the rows: {str(error).splitlines()[0]}") from error
    return found.simplices, found.equations[:, :-1], found.equations[:, -1]


def in_chunks(corners: np.ndarray) -> Iterator[np.ndarray]:
    """The facets, so many at a time that their rows are some megabytes."""
    size = max(1, CHUNK // corners.shape[1] ** 2)
    for start in range(0, max(len(corners), 1), size):
        yield corners[start : start + size]


def _solid(simplices: np.ndarray) -> np.ndarray:
    """Whether cones have an interior, bool (facets,)."""
    solid = np.abs(np.linalg.det(simplices)) > 2 * FLAT  # at most e^0.5 times the smallest singular value
    if not solid.all():
        solid[~solid] = np.linalg.svd(simplices[~solid], compute_uv=False)[:, -1] > FLAT
    return solid


def orthant_sides(simplices: np.ndarray) -> np.ndarray:
    """Inward unit normals of the sides of cones and of the orthant, float64 (facets, 2 n, n)."""
    count, n, _ = simplices.shape
    normals = np.empty((count, 2 * n, n))
    normals[:, :n] = np.swapaxes(np.linalg.inv(simplices), 1, 2)
    normals[:, :n] /= np.linalg.norm(normals[:, :n], axis=2, keepdims=True)
    normals[:, n:] = np.eye(n)
    return normals


def _meets_orthant(simplices: np.ndarray) -> np.ndarray:
    """Whether some x > 0 is inside the cones, bool (facets,)."""
    limits = np.insert(orthant_sides(simplices), simplices.shape[1], 1, axis=2) * math.sqrt(0.5)
    target = np.zeros((len(limits), 1, limits.shape[2]))
    target[..., -1] = 1
    return projections(limits, target)[1][:, 0] > INSIDE
