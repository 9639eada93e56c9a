"""Sampled biases against a plain loop, against shapes whose biases are known, and against themselves cut otherwise."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from sweeps.frames import sampled
from sweeps.frames.sampled import Screen, chunk, sampled_bias

TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)


def units(k, n, seed=0):
    x = np.random.default_rng(seed).standard_normal((k, n))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def plainly(rows, directions):
    """One direction after the other, dependent rows left out by their rank."""
    bias, n = np.full(len(rows), np.inf), rows.shape[1]
    for u in directions:
        products, taken = rows @ u, []
        for i in np.argsort(-products, kind="stable"):
            if np.linalg.matrix_rank(rows[[*taken, i]], tol=1e-8) > len(taken):
                taken.append(i)
            if len(taken) == n:
                break
        bias[taken] = np.minimum(bias[taken], products[taken])
    return bias


def same(found, expected):
    assert np.array_equal(np.isinf(found), np.isinf(expected))
    assert np.allclose(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("general", [True, False])
@pytest.mark.parametrize(("m", "n"), [(4, 3), (12, 3), (7, 7), (40, 5), (60, 20)])
def test_a_plain_loop_agrees(m, n, general):
    rows, directions = units(m, n), units(300, n, seed=1)
    same(sampled_bias(rows, [directions], general=general), plainly(rows, directions))


DEPENDENT = {
    "repeated": np.repeat(units(6, 3), [1, 2, 3, 1, 1, 4], axis=0),
    "line": np.sign(units(9, 1)),
    "opposite": np.vstack([units(5, 3), -units(5, 3)]),
    "coplanar": np.vstack([units(3, 4), units(8, 2) @ np.eye(2, 4)]),
    "signs": np.sign(units(40, 4)) / 2,
    "cross": np.vstack([np.eye(5), -np.eye(5)]),
}


@pytest.mark.parametrize("rows", DEPENDENT.values(), ids=DEPENDENT)
def test_of_dependent_rows_a_basis_is_taken(rows):
    directions = units(400, rows.shape[1], seed=1)
    same(sampled_bias(rows, [directions], general=False), plainly(rows, directions))


def test_of_equal_rows_the_first_is_taken():
    rows = np.vstack([np.eye(3), -np.eye(3), np.eye(3)])
    assert np.isinf(sampled_bias(rows, [units(500, 3)], general=False)).tolist() == [False] * 6 + [True] * 3


@pytest.mark.parametrize(("m", "n"), [(12, 3), (60, 6), (300, 40)])
def test_nearly_equal_rows_are_told_apart_in_float64(m, n):
    """Rows so near to each other that float32 cannot order their products."""
    rows = units(m // 3, n)
    rows = np.vstack([rows, rows + 1e-9 * units(len(rows), n, 1), rows + 1e-8 * units(len(rows), n, 2)])
    rows, directions = rows / np.linalg.norm(rows, axis=1, keepdims=True), units(200, n, seed=3)
    products = directions @ rows.T
    taken = products >= np.sort(products, axis=1)[:, -n, None]
    same(sampled_bias(rows, [directions], general=True), np.where(taken, products, np.inf).min(0))


@pytest.mark.parametrize("general", [True, False])
def test_biases_of_known_shapes_are_met_from_above(general):
    """The third nearest vertex is farthest at the middle of an edge of a tetrahedron, -1/sqrt(3), and at a vertex of an
    icosahedron, 1/sqrt(5)."""
    directions = units(20_000, 3)
    bias = sampled_bias(TETRAHEDRON, [directions], general=general)
    assert (bias > -1 / np.sqrt(3)).all()
    assert (bias < -1 / np.sqrt(3) + 0.03).all()
    golden = (1 + np.sqrt(5)) / 2
    corners = [(0.0, a, b * golden) for a in (1, -1) for b in (1, -1)]
    icosahedron = np.array([np.roll(corner, i) for corner in corners for i in range(3)]) / np.hypot(1, golden)
    bias = sampled_bias(icosahedron, [directions], general=general)
    assert (bias > 1 / np.sqrt(5)).all()
    assert (bias < 1 / np.sqrt(5) + 0.03).all()


@pytest.mark.parametrize("general", [True, False])
def test_chunks_and_devices_change_no_bit(general, monkeypatch):
    rows, directions = units(30, 5), units(3000, 5, seed=1)
    whole = sampled_bias(rows, [directions], general=general)
    cut = np.split(directions, [1, 4, 1000, 1000, 2999])
    assert np.array_equal(sampled_bias(rows, cut, general=general), whole)
    assert np.array_equal(sampled_bias(rows, [directions[::-1]], general=general), whole)
    assert np.array_equal(sampled_bias(rows, iter([torch.from_numpy(directions)]), general=general), whole)
    monkeypatch.setattr(sampled, "PART", 70)
    assert np.array_equal(sampled_bias(rows, [directions], general=general), whole)
    order = np.random.default_rng(2).permutation(30)
    assert np.array_equal(sampled_bias(rows[order], [directions], general=general), whole[order])


def test_what_a_device_puts_aside_changes_no_bit():
    rows, directions = units(30, 5), torch.from_numpy(units(5000, 5, seed=1))
    whole = sampled_bias(rows, [directions], general=True)
    assert np.array_equal(sampled_bias(rows, [directions], general=True, device="cpu:0"), whole)
    assert (
        len(Screen(rows, "cpu").doubtful(directions[4000:], sampled_bias(rows, [directions[:4000]], general=True))) < 60
    )


def test_more_directions_never_raise_a_bias():
    rows, bias = units(20, 4), np.full(20, np.inf)
    directions = units(2000, 4, seed=1)
    for k in (1, 10, 100, 2000):
        before, bias = bias, sampled_bias(rows, [directions[:k]], general=True)
        assert (bias <= before).all()


def test_the_rows_needed_are_active_at_every_direction():
    rows, directions = units(25, 4), units(1000, 4, seed=1)
    bias = sampled_bias(rows, [directions], general=True)
    assert ((directions @ rows.T >= bias - 1e-15).sum(1) >= 4).all()


def test_memory_does_not_grow_with_the_sample():
    m, n = 300, 20
    rows, size = units(m, n), chunk(m, n)
    one = units(size, n, seed=1)
    tracemalloc.start()
    try:
        sampled_bias(rows, (one for _ in range(10)), general=True)
        assert tracemalloc.get_traced_memory()[1] < 8 * sampled.CHUNK
    finally:
        tracemalloc.stop()


def test_chunks_are_as_large_as_memory_allows():
    assert chunk(12, 3) == 2**22 // 15
    assert chunk(2**21, 2**22) == 1


@pytest.mark.parametrize("rows", [np.eye(3)[:2], np.vstack([np.eye(3)[:2]] * 2)], ids=["few", "flat"])
def test_rows_that_do_not_span_are_refused(rows):
    with pytest.raises(ValueError, match=r"^the \d rows must span all 3 dimensions, and span 2$"):
        sampled_bias(rows, [], general=True)
