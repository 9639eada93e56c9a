"""Projections on cones, against scipy and the conditions that tell them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from sweeps.frames.nonnegative_least_squares import project


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


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_projection(kind):
    rng = np.random.default_rng(0)
    for count, n in [(1, 3), (3, 3), (8, 4), (6, 6), (20, 5), (30, 12)] * 10:
        G, target, rest = generators(kind, rng, count, n), unit(rng.standard_normal(n)), np.empty(n)
        length = project(G, target, rest)
        assert (G @ rest).max() <= 1e-11
        assert length == pytest.approx(np.linalg.norm(target - rest), abs=1e-14)
        assert np.dot(target - rest, rest) == pytest.approx(0, abs=1e-14)
        accuracy = 1e-8 if kind == "nearly dependent" else 1e-12  # scipy's
        assert np.linalg.norm(rest) == pytest.approx(nnls(G.T, target)[1], abs=accuracy)


def test_small_projections_and_small_rests_are_exact():
    G, rest = np.array([[1.0, 0, 0], [0, 1, 0]]), np.empty(3)
    assert project(G, np.array([1e-9, -0.6, 0.8]), rest) == pytest.approx(1e-9, rel=1e-12)
    project(G, np.array([0.6, 0.8, 1e-13]), rest)
    np.testing.assert_array_equal(rest, [0, 0, 1e-13])


def test_a_target_inside_the_cone_stays_and_one_in_the_polar_cone_vanishes():
    rng, rest = np.random.default_rng(1), np.empty(4)
    G = unit(rng.standard_normal((4, 4)))
    inside = unit(G.sum(axis=0))
    assert project(G, inside, rest) == pytest.approx(1, abs=1e-15)
    assert np.abs(rest).max() < 1e-15
    polar = -unit(np.linalg.inv(G).sum(axis=1))
    assert project(G, polar, rest) == 0
    np.testing.assert_array_equal(rest, polar)


def test_generators_dependent_to_rounding_end():
    rng, rest = np.random.default_rng(2), np.empty(6)
    for scale in 10.0 ** -np.arange(1, 17):
        G = np.ascontiguousarray(unit(np.eye(6)[0] + scale * rng.standard_normal((12, 6))))
        target = unit(rng.standard_normal(6))
        length = project(G, target, rest)
        assert np.hypot(length, np.linalg.norm(rest)) == pytest.approx(1, abs=1e-14)
        assert (G @ rest).max() <= 1e-8
