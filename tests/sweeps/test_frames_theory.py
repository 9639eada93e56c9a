from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

from sweeps.frames.facets import facets
from sweeps.frames.polytope import polytope_bias as exact
from sweeps.frames.rows import polytope
from sweeps.theory import frames as theory


def drawn(n: int, count: int, *, gaussian: bool, seed: int = 1) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, n))
    return rows / math.sqrt(n) if gaussian else rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize(("n", "bias"), [(2, 0.3), (3, -0.7), (5, 0.0), (40, 0.1)])
def test_probability_that_a_row_is_active(n: int, bias: float, gaussian: bool) -> None:
    rows = drawn(n, 200_000, gaussian=gaussian)
    for length in (0.2, 0.6, 2.0):
        got = theory.active_probability(n, bias, np.array([length]), gaussian=gaussian)[0]
        seen = np.mean(length * rows[:, 0] > bias)
        assert abs(seen - got) <= 4 * math.sqrt(got * (1 - got) / len(rows)) + 1e-12


def test_at_zero_a_row_is_active_where_its_bias_is_negative() -> None:
    for gaussian in (False, True):
        got = [theory.active_probability(3, bias, np.zeros(1), gaussian=gaussian)[0] for bias in (-0.1, 0.0, 0.1)]
        assert got == [1, 0, 0]


@pytest.mark.parametrize(("n", "inner"), [(2, 0.0), (3, 0.4), (30, 0.0), (300, 0.1)])
@pytest.mark.parametrize("bias", [-0.5, 0.0, 0.05, 0.7])
def test_means_over_a_ball(n: int, inner: float, bias: float) -> None:
    lengths, weights = theory.radii(n, bias, inner, 1.0)
    assert weights.sum() == pytest.approx(1)

    def density(r: float) -> float:
        return theory.active_probability(n, bias, np.array([r]), gaussian=False)[0] * n * r ** (n - 1)

    kink = [abs(bias)] if inner < abs(bias) < 1 else None
    want = integrate.quad(density, inner, 1, points=kink, limit=400, epsabs=1e-12)[0] / (1 - inner**n)
    assert weights @ theory.active_probability(n, bias, lengths, gaussian=False) == pytest.approx(want, rel=1e-7)


def test_a_sphere_is_one_length() -> None:
    lengths, weights = theory.radii(4, 0.1, 2.0, 2.0)
    assert (lengths.tolist(), weights.tolist()) == ([2.0], [1.0])


@pytest.mark.parametrize("gaussian", [False, True])
def test_active_rows_too_few_and_lost(gaussian: bool) -> None:
    m, n, bias, layers = 9, 3, 0.15, 4000
    rows = drawn(n, m * layers, gaussian=gaussian, seed=3).reshape(layers, m, n)
    counts = (rows[..., 0] > bias).sum(1)  # at one input of length 1
    want = theory.active(m, n, bias, np.ones(1), np.ones(1), gaussian=gaussian)
    for got, expected in ((counts, want.active), (counts < n, want.too_few), (np.maximum(n - counts, 0), want.lost)):
        assert abs(got.mean() - expected) <= 4 * got.std() / math.sqrt(layers)


@pytest.mark.parametrize(
    ("law", "n"),
    [
        ("simplex", 2),
        ("simplex", 3),
        ("simplex", 7),
        ("cross", 4),
        ("icosahedron", 3),
        ("dodecahedron", 3),
        ("24-cell", 4),
        ("600-cell", 4),
    ],
)
def test_known_polytopes(law: str, n: int) -> None:
    assert exact(polytope(law, n)).min() == pytest.approx(theory.polytope_bias(law, n), abs=1e-12)


@pytest.mark.parametrize(("law", "n"), [("simplex", 5), ("cross", 4), ("icosahedron", 3)])
def test_nearest_vertices_are_those_of_a_facet(law: str, n: int) -> None:
    vertices, corners = polytope(law, n), {frozenset(f) for f in facets(polytope(law, n)).tolist()}
    for u in drawn(n, 300, gaussian=False):
        assert frozenset(np.argsort(vertices @ u)[-n:].tolist()) in corners
    assert law in theory.NEAREST


def test_no_closed_form_for_other_rows() -> None:
    assert math.isnan(theory.polytope_bias("sphere", 3))
