"""Projections on cones, against scipy and the conditions that tell them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from sweeps.frames.nonnegative_least_squares import projections


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def generators(kind, rng, count, n):
    G = rng.standard_normal((count, n))
    match kind:
        case "repeated":
            G = np.vstack([G, G[::-1]])
        case "opposite":
            G = np.vstack([G, -G[: count // 2]])
        case "nearly dependent":
            G[1:] = G[0] + 1e-7 * G[1:]
        case "flat":
            G[:, -1] = 0
        case "signs":
            G = np.sign(G)
    return np.ascontiguousarray(unit(G))


KINDS = ["gaussian", "repeated", "opposite", "nearly dependent", "flat", "signs"]


def one(G, target):
    lengths, rests = projections(np.ascontiguousarray(G)[None], target[None, None])
    return lengths[0, 0], rests[0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_projection(kind):
    rng = np.random.default_rng(0)
    for count, n in [(1, 3), (3, 3), (8, 4), (6, 6), (20, 5), (30, 12)] * 10:
        G, target = generators(kind, rng, count, n), unit(rng.standard_normal(n))
        length, rest = one(G, target)
        expected = nnls(G.T, target)[1]
        assert length**2 + rest**2 == pytest.approx(1, abs=1e-14)
        assert rest == pytest.approx(expected, abs=1e-8 if kind == "nearly dependent" else 1e-12)


def test_many_are_as_one():
    rng = np.random.default_rng(3)
    G = np.stack([generators("gaussian", rng, 7, 4) for _ in range(5)])
    targets = unit(rng.standard_normal((5, 3, 4)))
    expected = [[one(G[c], targets[c, t]) for t in range(3)] for c in range(5)]
    np.testing.assert_array_equal(np.moveaxis(projections(G, targets), 0, -1), expected)


def test_targets_that_are_exact_combinations_of_degenerate_generators_leave_nothing():
    """Where rounding could have the method go round: normals of a cone, one of them opposite to e_1."""
    rng = np.random.default_rng(4)
    for n in (2, 3, 4, 5) * 50:
        normals = np.unique(np.round(rng.standard_normal((n, n))), axis=0)
        normals = unit(normals[np.abs(normals).sum(axis=1) > 0])
        G = np.insert(np.vstack([normals, -np.eye(n)[:1], np.eye(n)]), n, 1, axis=1) * np.sqrt(0.5)
        assert one(G, np.eye(n + 1)[n]) == pytest.approx((1, 0), abs=1e-14)


def test_small_projections_and_small_rests_are_exact():
    G = np.array([[1.0, 0, 0], [0, 1, 0]])
    assert one(G, np.array([1e-9, -0.6, 0.8]))[0] == pytest.approx(1e-9, rel=1e-12)
    assert one(G, np.array([0.6, 0.8, 1e-13]))[1] == 1e-13


def test_a_target_inside_the_cone_stays_and_one_in_the_polar_cone_vanishes():
    G = unit(np.random.default_rng(1).standard_normal((4, 4)))
    assert one(G, unit(G.sum(axis=0))) == pytest.approx((1, 0), abs=1e-15)
    length, rest = one(G, -unit(np.linalg.inv(G).sum(axis=1)))
    assert length == 0
    assert rest == pytest.approx(1, abs=1e-15)


def test_generators_dependent_to_rounding():
    rng = np.random.default_rng(2)
    for scale in 10.0 ** -np.arange(1, 18):
        G = unit(np.eye(6)[0] + scale * rng.standard_normal((12, 6)))
        target = unit(rng.standard_normal(6))
        length, rest = one(G, target)
        assert np.hypot(length, rest) == pytest.approx(1, abs=1e-14)
        assert length >= (G @ target).max() - 1e-12
