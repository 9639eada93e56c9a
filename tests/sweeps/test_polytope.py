"""Biases from the polytope of the rows: known polytopes, every face of every cone, and the property itself."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from sweeps.errors import OutsideError
from sweeps.frames.facets import facets, orthant_sides
from sweeps.frames.polytope import covering_radius, polytope_bias

GOLDEN = (1 + 5**0.5) / 2


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def uniform(seed, m, n):
    return unit(np.random.default_rng(seed).standard_normal((m, n)))


def simplex(n):
    """n + 1 vectors in R^n, all at one angle."""
    centred = np.eye(n + 1) - 1 / (n + 1)
    return unit(centred @ np.linalg.svd(centred)[2][:n].T)


def icosahedron():
    corners = np.array([[0, a, b * GOLDEN] for a in (-1, 1) for b in (-1, 1)])
    return unit(np.vstack([np.roll(corners, k, axis=1) for k in range(3)]))


def projection(limits, target):
    """Of a vector on {x: limits @ x >= 0}: the nearest of the feasible projections on all faces' spans."""
    best = np.zeros_like(target)
    for size in range(len(target)):
        for face in combinations(range(len(limits)), size):
            basis = np.linalg.svd(limits[list(face)])[2][size:] if size else np.eye(len(target))
            x = target @ basis.T @ basis
            if (limits @ x).min() > -1e-9 and np.linalg.norm(target - x) < np.linalg.norm(target - best):
                best = x
    return best


def slow(rows, corners, positive):
    bias = np.full(len(rows), np.inf)
    for corner, normals in zip(corners, orthant_sides(rows[corners]), strict=True):
        limits = normals if positive else normals[: len(corner)]
        for i in corner:
            negative = np.linalg.norm(projection(limits, -rows[i]))
            least = min(rows[corner] @ rows[i])
            bias[i] = min(bias[i], least if least >= 0 and not positive else 0 - negative)
    return bias


@pytest.mark.parametrize("n", [2, 3, 4, 7, 12])
def test_simplices(n):
    expected = -np.sqrt((n - 1) / (2 * n))
    np.testing.assert_allclose(polytope_bias(simplex(n)), expected, atol=1e-14)


def test_the_tetrahedron():
    np.testing.assert_allclose(polytope_bias(simplex(3)), -(3**-0.5), rtol=1e-14)


def test_the_icosahedron():
    np.testing.assert_allclose(polytope_bias(icosahedron()), 5**-0.5, rtol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_basis_and_its_negative(n):
    B = np.linalg.qr(np.random.default_rng(n).standard_normal((n, n)))[0]
    expected = 0 if n > 1 else 1
    np.testing.assert_allclose(polytope_bias(np.vstack([B, -B])), expected, atol=1e-15)
    np.testing.assert_array_equal(polytope_bias(np.eye(n), positive=True), 0)


def test_in_the_plane_the_next_rows_decide():
    rows = uniform(0, 9, 2)
    angles = np.arctan2(rows[:, 1], rows[:, 0])
    order = np.argsort(angles)
    gaps = np.diff(angles[order], append=angles.min() + 2 * np.pi)
    expected = np.cos(np.maximum(gaps, np.roll(gaps, 1)))
    np.testing.assert_allclose(polytope_bias(rows)[order], expected, atol=1e-14)


def test_in_the_quadrant():
    angles = np.radians([-100, -50, 60, 170])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    expected = [np.inf, np.cos(np.radians(110)), 0, np.cos(np.radians(110))]
    np.testing.assert_allclose(polytope_bias(rows, positive=True), expected, atol=1e-14)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("kind", ["uniform", "integers", "signs"])
@pytest.mark.parametrize(("m", "n"), [(6, 2), (10, 3), (14, 3), (14, 4)])
def test_against_every_face_of_every_cone(m, n, kind, positive):
    rows = uniform(n, m, n)
    if kind != "uniform":
        whole = np.round(2 * rows) if kind == "integers" else np.sign(rows)
        rows = unit(np.vstack([whole[np.abs(whole).sum(axis=1) > 0], np.eye(n), -np.ones((1, n))]))
    corners = facets(rows, positive)
    expected = slow(rows, corners, positive)
    np.testing.assert_allclose(polytope_bias(rows, positive), expected, atol=1e-12)
    np.testing.assert_array_equal(polytope_bias(rows, positive, given=corners), polytope_bias(rows, positive))


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (9, 2), (10, 3), (14, 4), (16, 5), (20, 7)])
def test_on_every_direction_all_rows_of_a_facet_are_active(m, n, positive):
    rows = uniform(m, m, n) if n > 1 else np.array([[1.0], [-1.0]])
    corners, bias = facets(rows, positive), polytope_bias(rows, positive)
    directions = uniform(1, 2000, n)
    directions = np.abs(directions) if positive else directions
    active = directions @ rows.T >= bias - 1e-12
    assert active[:, corners].all(axis=2).any(axis=1).all()
    assert np.isposinf(bias[np.setdiff1d(np.arange(len(rows)), corners)]).all()


def test_it_is_attained_in_the_cone_of_a_facet():
    """No larger bias keeps all rows of the facet active: directions in the cones come near it."""
    rows = uniform(3, 10, 3)
    corners, seen = facets(rows), np.full(10, np.inf)
    weights = np.random.default_rng(0).exponential(size=(20000, 3)) ** 3
    for corner in corners:
        products = unit(weights @ rows[corner]) @ rows[corner].T
        seen[corner] = np.minimum(seen[corner], products.min(axis=0))
    bias = polytope_bias(rows)
    assert (seen >= bias - 1e-12).all()
    np.testing.assert_allclose(seen[seen < np.inf], bias[seen < np.inf], atol=2e-3)


def test_it_turns_with_the_rows():
    rows, Q = uniform(5, 20, 5), np.linalg.qr(np.random.default_rng(6).standard_normal((5, 5)))[0]
    np.testing.assert_allclose(polytope_bias(rows @ Q), polytope_bias(rows), atol=1e-12)


@pytest.mark.parametrize("positive", [False, True])
def test_it_follows_the_order_of_rows_to_the_bit(positive):
    cube = unit(np.array(np.meshgrid(*[[-1.0, 1.0]] * 4)).reshape(4, -1).T)
    for rows in (cube, uniform(7, 20, 4)):
        order = np.random.default_rng(8).permutation(len(rows))
        np.testing.assert_array_equal(polytope_bias(rows[order], positive), polytope_bias(rows, positive)[order])


def test_repeated_rows_are_needed_once():
    rows = uniform(9, 12, 3)
    bias = polytope_bias(np.vstack([rows, rows]))
    np.testing.assert_allclose(np.minimum(bias[:12], bias[12:]), polytope_bias(rows), atol=1e-12)
    assert np.isposinf(np.maximum(bias[:12], bias[12:])).all()


def test_nearly_equal_rows_keep_the_property():
    rng = np.random.default_rng(10)
    rows = uniform(10, 12, 4)
    for apart in (1e-8, 1e-7, 1e-5):
        twice = unit(np.vstack([rows, rows + apart * rng.standard_normal(rows.shape)]))
        corners, bias = facets(twice), polytope_bias(twice)
        active = uniform(11, 2000, 4) @ twice.T >= bias - 1e-9
        assert active[:, corners].all(axis=2).any(axis=1).all()


def test_chunks_of_facets_change_nothing(monkeypatch):
    rows = uniform(12, 30, 4)
    whole = [polytope_bias(rows, positive) for positive in (False, True)]
    monkeypatch.setattr("sweeps.frames.facets.CHUNK", 7)
    for positive in (False, True):
        np.testing.assert_array_equal(polytope_bias(rows, positive), whole[positive])


def test_refusals():
    with pytest.raises(OutsideError, match="0 is not inside"):
        polytope_bias(np.eye(3))
    with pytest.raises(ValueError, match="facets, above 1000000; take fewer"):
        polytope_bias(uniform(0, 60, 20))
    with pytest.raises(ValueError, match=r"100000 directions in R\^9 would have"):
        covering_radius(uniform(0, 100000, 9))
    with pytest.raises(ValueError, match=r"100000 directions >= 0 in R\^9 would have"):
        covering_radius(np.abs(uniform(0, 100000, 9)), positive=True)


def test_covering_radius_in_the_plane():
    angles = np.radians([0, 50, 130, 260])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert covering_radius(points) == pytest.approx(2 * np.sin(np.radians(130 / 4)), rel=1e-12)
    inside = np.radians([10, 50, 60])
    points = np.stack([np.cos(inside), np.sin(inside)], axis=1)
    assert covering_radius(points, positive=True) == pytest.approx(2 * np.sin(np.radians(30 / 2)), rel=1e-12)
    assert covering_radius(points) == 2


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize(("count", "n"), [(12, 2), (40, 3), (200, 4)])
def test_covering_radius_against_dense_directions(count, n, positive):
    points, dense = uniform(0, count, n), uniform(1, 200_000, n)
    if positive:
        points, dense = np.abs(points), np.abs(dense)
    seen = np.sqrt(2 - 2 * (dense @ points.T).max(axis=1).min())
    radius = covering_radius(points, positive)
    assert seen <= radius + 1e-12
    assert seen >= radius - (0.01 if n < 4 else 0.05)  # of the order of the covering radius of the dense ones


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_covering_radius_of_the_orthant_is_that_of_the_sample_reflected(n):
    points = np.abs(uniform(2, 30, n))
    signs = np.array(np.meshgrid(*[[1, -1]] * n)).reshape(n, -1).T
    reflected = (points[:, None] * signs).reshape(-1, n)
    assert covering_radius(points, positive=True) == pytest.approx(covering_radius(reflected), abs=1e-12)


@pytest.mark.parametrize("points", [np.eye(3), np.eye(3)[:2], np.ones((1, 1)), -simplex(3)[:3]])
def test_covering_radius_is_the_largest_where_0_is_outside(points):
    assert covering_radius(points) == 2
