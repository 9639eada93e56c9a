"""Facets of the hull of a layer's rows, against counting, linear programs and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from sweeps.errors import OutsideError
from sweeps.frames.facets import MOST, expected_facets, facets, orthant_sides


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def uniform(seed, m, n):
    return unit(np.random.default_rng(seed).standard_normal((m, n)))


def holders(rows, corners, x):
    """How many facets' cones each direction is in."""
    weights = np.linalg.solve(np.swapaxes(rows[corners], 1, 2)[:, None], x[None, :, :, None])[..., 0]
    return (weights > -1e-9).all(axis=2).sum(axis=0)


def width(limits):
    """The largest t <= 1 with A x >= t for some x <= 1, A the limits."""
    count, n = limits.shape
    A = np.hstack([-limits, np.ones((count, 1))])
    found = linprog([*np.zeros(n), -1], A_ub=A, b_ub=np.zeros(count), bounds=[(None, 1)] * (n + 1))
    return -found.fun


@pytest.mark.parametrize("m", [4, 5, 17, 1000, 10**6])
def test_mean_number_of_facets_in_three_dimensions(m):
    assert expected_facets(3, m) == pytest.approx(2 * m - 4, rel=1e-9)


@pytest.mark.parametrize("m", [3, 40, 10**6])
def test_mean_number_of_facets_in_the_plane(m):
    assert expected_facets(2, m) == pytest.approx(m, rel=1e-9)
    assert expected_facets(1, m) == 2


@pytest.mark.parametrize(("n", "m", "draws"), [(4, 12, 300), (5, 14, 200), (6, 16, 100), (6, 7, 3), (9, 10, 3)])
def test_mean_number_of_facets_is_that_of_simulated_hulls(n, m, draws):
    counts = [len(ConvexHull(uniform(seed, m, n)).simplices) for seed in range(draws)]
    assert abs(np.mean(counts) - expected_facets(n, m)) <= 4 * np.std(counts) / np.sqrt(draws) + 1e-9


def test_mean_numbers_too_large_for_a_float_are_infinite():
    assert 1e50 < expected_facets(200, 300) < np.inf
    assert expected_facets(2000, 10**6) == np.inf


@pytest.mark.parametrize(("m", "n"), [(2, 1), (7, 2), (12, 3), (14, 4), (16, 5)])
def test_every_direction_is_in_the_cone_of_one_facet(m, n):
    rows = uniform(m, m, n) if n > 1 else np.array([[-1.0], [1.0]])
    corners = facets(rows)
    assert corners.dtype == np.int64
    assert corners.shape[1] == n
    assert (holders(rows, corners, uniform(1, 500, n)) == 1).all()


@pytest.mark.parametrize(("m", "n"), [(1, 1), (9, 2), (12, 3), (20, 4), (22, 5)])
def test_every_positive_direction_is_in_the_cone_of_one_facet(m, n):
    rows = uniform(m, m, n) if n > 1 else np.array([[1.0]])
    corners = facets(rows, positive=True)
    assert (holders(rows, corners, np.abs(uniform(1, 500, n))) == 1).all()


@pytest.mark.parametrize(("m", "n"), [(9, 2), (14, 3), (20, 4), (24, 5)])
def test_positive_facets_are_those_of_all_whose_cones_meet_the_open_orthant(m, n):
    rows = uniform(m, m, n)
    everything = facets(rows)
    wide = np.array([width(limits) > 1e-7 for limits in orthant_sides(rows[everything])])
    assert 0 < wide.sum() < len(wide)
    expected = {tuple(sorted(c)) for c in everything[wide]}
    assert {tuple(sorted(c)) for c in facets(rows, positive=True)} == expected


def test_cones_that_touch_the_orthant_from_outside_are_left_out():
    cross = np.vstack([np.eye(4), -np.eye(4)])
    assert len(facets(cross)) == 16
    assert [sorted(c) for c in facets(cross, positive=True)] == [[0, 1, 2, 3]]


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_an_orthonormal_basis_holds_the_orthant(n):
    assert [sorted(c) for c in facets(np.eye(n), positive=True)] == [list(range(n))]


def test_the_rows_may_hold_the_orthant_though_0_is_outside_their_hull():
    rows = unit(np.array([[1, -0.1, -0.1], [-0.1, 1, -0.1], [-0.1, -0.1, 1], [1, 1, 1]]))
    assert sorted(sorted(c) for c in facets(rows, positive=True)) == [[0, 1, 3], [0, 2, 3], [1, 2, 3]]


def test_facets_with_more_corners_are_cut_into_simplices_that_have_an_interior():
    cube = unit(np.array(np.meshgrid(*[[-1.0, 1.0]] * 4)).reshape(4, -1).T)
    corners = facets(cube)
    assert np.linalg.svd(cube[corners], compute_uv=False).min() > 0.1
    assert (holders(cube, corners, uniform(0, 500, 4)) == 1).all()


@pytest.mark.parametrize(("m", "n"), [(9, 2), (12, 3), (30, 5)])
@pytest.mark.parametrize("apart", [0, 1e-16, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6])
def test_repeated_rows(m, n, apart):
    rng = np.random.default_rng(n)
    rows = uniform(n, m, n)
    twice = unit(np.vstack([rows, rows + apart * rng.standard_normal((m, n)), rows]))
    corners = facets(twice)
    assert (holders(twice, corners, uniform(1, 300, n)) >= 1).all()
    if apart < 1e-9:
        assert {tuple(sorted(c % m)) for c in corners} == {tuple(sorted(c)) for c in facets(rows)}


def test_facets_do_not_depend_on_the_order_of_rows():
    order = np.random.default_rng(0).permutation(16)
    cube = unit(np.array(np.meshgrid(*[[-1.0, 1.0]] * 4)).reshape(4, -1).T)
    np.testing.assert_array_equal(order[facets(cube[order])], facets(cube))


OUTSIDE = [
    (np.array([[1.0, 0], [0, 1], [0.6, 0.8]]), False, "0 is not inside"),
    (np.array([[1.0, 0], [-1, 0], [0, 1]]), False, "0 is not inside"),
    (np.eye(3), False, "0 is not inside"),
    (np.array([[1.0, 0], [-1, 0], [1, 0]]), False, "the rows span 1 of 2 dimensions"),
    (np.array([[1.0, 0, 0], [0, 1, 0]]), True, "the rows span 2 of 3 dimensions"),
    (np.array([[1.0, 0], [0.6, 0.8]]), True, "unit vector 1 is in no facet's cone"),
    (unit(np.array([[1.0, 1, 1, 1], [1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1]])), True, "unit vector 0 is in no"),
    (np.array([[-1.0]]), True, "unit vector 0"),
]


@pytest.mark.parametrize(("rows", "positive", "message"), OUTSIDE)
def test_inputs_in_no_cone_are_refused(rows, positive, message):
    with pytest.raises(OutsideError, match=message):
        facets(rows, positive)


def test_too_many_facets_are_refused_before_they_are_made():
    with pytest.raises(ValueError, match=rf"60 rows of 20 inputs would have about 8.8e\+08 facets, above {MOST}"):
        facets(uniform(0, 60, 20))
