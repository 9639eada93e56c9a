"""Active rows against numpy's rank and eigenvalues point by point, and where rows nearly depend on one another."""

from __future__ import annotations

import numpy as np
import pytest

from sweeps.frames.active import active, frame


def a_layer(m, n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, n)) * rng.uniform(0.1, 5, (m, 1)), 0.2 * rng.standard_normal(m)


@pytest.mark.parametrize(("m", "n"), [(3, 2), (7, 4), (40, 10), (5, 8)])
def test_against_numpy(m, n):
    W, alpha = a_layer(m, n)
    points = np.random.default_rng(1).standard_normal((40, n))
    got = active(W, alpha, points)
    for i, x in enumerate(points):
        rows = np.array([row for row, a in zip(W, alpha, strict=True) if row @ x > a]).reshape(-1, n)
        values = np.linalg.eigvalsh(rows.T @ rows)
        rank = np.linalg.matrix_rank(rows) if len(rows) else 0
        assert (got.count[i], got.rank[i]) == (len(rows), rank)
        assert got.largest[i] == pytest.approx(values[-1], rel=1e-12)
        assert got.smallest[i] == pytest.approx(values[0] if rank == n else 0, rel=1e-9)


def test_active_is_strict():
    got = active(np.eye(3), np.array([0.5, 1, 2.0]), np.array([[0.5, 1.5, 3.0], [1, 1, 2], [0, 0, 0]]))
    assert got.count.tolist() == got.rank.tolist() == [2, 1, 0]
    assert got.largest.tolist() == [1, 1, 0]
    assert got.smallest.tolist() == [0, 0, 0]


def test_no_points():
    assert all(len(part) == 0 for part in active(np.eye(2), np.zeros(2), np.zeros((0, 2))))


def test_a_bound_below_what_a_gram_matrix_can_tell():
    """Two rows at a small angle: A = 1 - cos and B = 1 + cos."""
    for angle in (1e-3, 1e-6, 1e-8):
        rank, A, B = frame(np.array([[1, 0], [np.cos(angle), np.sin(angle)]]))
        assert rank == 2
        np.testing.assert_allclose((A, B), (2 * np.sin(angle / 2) ** 2, 2), rtol=1e-5)
    assert frame(np.array([[1, 0], [np.cos(1e-10), np.sin(1e-10)]]))[:2] == (1, 0)


def test_repeated_rows_do_not_span_and_short_ones_do():
    W = np.repeat(a_layer(3, 4)[0], 4, axis=0)
    assert frame(W)[:2] == (3, 0)
    rank, A, B = frame(np.diag([1, 1e-12, 1e6]))
    assert rank == 3
    np.testing.assert_allclose((A, B), (1e-24, 1e12))


def test_bits_of_a_point_do_not_depend_on_the_others():
    W, alpha = a_layer(30, 7)
    points = np.random.default_rng(2).standard_normal((20, 7))
    order = np.random.default_rng(3).integers(0, 20, 33)
    for one, moved in zip(active(W, alpha, points), active(W, alpha, points[order]), strict=True):
        np.testing.assert_array_equal(moved, one[order])
