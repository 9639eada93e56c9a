"""Layers with rows that repeat, oppose, vanish or depend, against every cell found by linear programs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from sweeps.networks.degenerate import deficient_direction, examine
from sweeps.networks.depth import min_active
from sweeps.theory import injectivity as theory
from sweeps.theory import orthant as orthant_theory


def cells(W, *, orthant):
    """Signs of the rows that are not zero in every open cell, by one linear program a prefix of signs."""
    W = W[np.abs(W).sum(axis=1) > 0]
    found = [()]
    for i in range(len(W)):
        found = [(*s, t) for s in found for t in (1, -1) if feasible(np.array([*s, t])[:, None] * W[: i + 1], orthant)]
    return W, [np.array(s) for s in found]


def feasible(A, orthant):
    A = np.vstack([A, np.eye(A.shape[1])]) if orthant else A
    return linprog(np.zeros(A.shape[1]), A_ub=-A, b_ub=-np.ones(len(A)), bounds=(None, None)).status == 0


def slow(W, *, orthant):
    n = W.shape[1]
    rows, signs = cells(W, orthant=orthant)
    return min((s > 0).sum() for s in signs), all(spans(rows[s > 0], n) for s in signs)


def spans(rows, n):
    return len(rows) >= n and np.linalg.matrix_rank(rows) == n


def matrix(kind, seed, m, n):
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((m, n))
    match kind:
        case "signs":
            return np.sign(W)
        case "sparse":
            return W * (rng.random((m, n)) < 0.5)
        case "small integers":
            return np.round(W)
        case "bases":
            B = np.linalg.qr(rng.standard_normal((n, n)))[0]
            return np.vstack([B, -B])
        case "plane":  # rank 2
            return rng.standard_normal((m, 2)) @ rng.standard_normal((2, n))
    return W


KINDS = ["gaussian", "signs", "sparse", "small integers", "bases", "plane"]


@pytest.mark.parametrize("orthant", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_cell_is_accounted_for(kind, orthant):
    for seed, (m, n) in enumerate([(3, 2), (7, 2), (6, 3), (9, 3), (7, 4)]):
        W = matrix(kind, seed, m, n)
        least, injective, _ = examine(W[None], orthant=orthant)
        assert (least[0], injective[0]) == slow(W, orthant=orthant)
        x = deficient_direction(W, orthant=orthant)
        assert (x is None) == injective[0]
        if x is not None:
            h = W[np.abs(W).sum(axis=1) > 0] @ x
            assert np.abs(h).min(initial=1) > 1e-12
            assert not orthant or x.min() > 0
            assert not spans(W[np.abs(W).sum(axis=1) > 0][h > 0], n)


def test_in_general_position_it_is_the_depth():
    for m, n in [(6, 1), (9, 2), (14, 3), (17, 4), (20, 5)]:
        W = np.random.default_rng(m).standard_normal((6, m, n))
        least, injective, _ = examine(W)
        assert np.array_equal(least, min_active(W))
        assert np.array_equal(injective, least >= n)


def test_known_layers():
    B = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    octahedron = np.vstack([B, -B])
    repeated = np.repeat(np.vstack([B, -B])[:9], 7, axis=0)  # the last row's opposite is missing
    doubled = np.vstack([octahedron, octahedron, np.zeros((3, 5))])
    for W, least, injective in [(octahedron, 5, True), (repeated, 28, False), (doubled, 10, True), (B, 0, False)]:
        k, answer, _ = examine(W[None])
        assert (k[0], answer[0]) == (least, injective)


@pytest.mark.parametrize("W", [np.zeros((3, 2)), np.array([[1.0, 0.0]]), np.zeros((0, 2))])
def test_rows_that_do_not_span(W):
    least, injective, rays = examine(W[None])
    assert (least[0], injective[0], rays[0]) == (0, False, -1)
    x = deficient_direction(W)
    assert x is not None
    assert (W @ x > 0).sum() < 2


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.integers(2, 4), st.integers(0, 2**32 - 1), st.booleans())
def test_invariances(kind, n, seed, orthant):
    W, rng = matrix(kind, seed, 3 * n, n), np.random.default_rng(seed + 1)
    permuted = W[rng.permutation(len(W))] * rng.lognormal(0, 2, (len(W), 1))
    columns = permuted[:, rng.permutation(n)]
    zero = np.vstack([columns, np.zeros((1, n))])
    same = examine(W[None], orthant=orthant)
    other = examine(zero[None], orthant=orthant)
    assert [a[0] for a in same] == [a[0] for a in other]
    more = examine(np.vstack([W, rng.standard_normal((1, n))])[None], orthant=orthant)
    assert more[0][0] - same[0][0] in (0, 1)
    assert more[1][0] >= same[1][0]


def close(values, expected):
    return abs(np.mean(values) - expected) <= 4 * np.std(values) / np.sqrt(len(values))


@pytest.mark.parametrize(("m", "n"), [(5, 2), (8, 3), (11, 4)])
def test_rays_below_n_are_those_expected(m, n):
    W = np.random.default_rng(m).standard_normal((2000, m, n))
    assert close(examine(W)[2], theory.expected_vertices(m, n, n))
    assert close(examine(W, orthant=True)[2], orthant_theory.expected_vertices(m, n, n))


@pytest.mark.parametrize(("m", "n"), [(3, 2), (6, 3), (9, 4)])
def test_a_cell_without_active_rows_in_the_orthant(m, n):
    W = np.random.default_rng(n).standard_normal((4000, m, n))
    assert close(examine(W, orthant=True)[0] >= 1, orthant_theory.some_active(m, n))


def test_rays_are_counted_once_in_degenerate_position():
    assert examine(np.vstack([np.eye(3), -np.eye(3)])[None])[2][0] == 6  # one positive row on each
    signs = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert examine(np.repeat(signs, 2, axis=0)[None])[2][0] == 0  # two positive rows on each of the four rays
