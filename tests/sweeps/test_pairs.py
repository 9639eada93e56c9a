"""Two inputs of a domain with one output, checked anew, and inputs that have no partner."""

from __future__ import annotations

import numpy as np
import pytest

from sweeps.frames.cells import decided
from sweeps.frames.domain import Domain
from sweeps.frames.pairs import pair

DOMAINS = {
    "sphere": Domain("sphere", 1.5),
    "ball": Domain("ball", 1.5),
    "donut": Domain("donut", 1.5, 0.9),
    "nonnegative": Domain("nonnegative", 1.5),
}


def layer(seed, m, n):
    """Rows of any length, their biases and those of the rows of length 1."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((m, n)) * rng.uniform(0.1, 10, (m, 1))
    unit = rng.uniform(-0.3, 0.9, m)
    lengths = np.linalg.norm(W, axis=1)
    return W, lengths * unit, W / lengths[:, None], unit


def check(W, alpha, domain, found):
    outputs = [np.maximum(W @ x - alpha, 0) for x in (found.first, found.second)]
    np.testing.assert_allclose(*outputs, rtol=0, atol=1e-11)
    assert found.difference == np.abs(outputs[0] - outputs[1]).max()
    assert found.distance > 1e-6
    for x in (found.first, found.second):
        assert domain.smallest * (1 - 1e-12) <= np.linalg.norm(x) <= domain.radius * (1 + 1e-12)
        assert not domain.positive or x.min() >= 0


@pytest.mark.parametrize("kind", ["ball", "donut", "nonnegative"])
@pytest.mark.parametrize(("m", "n"), [(2, 1), (5, 2), (9, 3), (4, 4), (12, 4), (12, 5)])
def test_every_cell_of_few_active_rows_has_a_pair(kind, m, n):
    seen = 0
    for seed in range(8):
        W, alpha, rows, unit = layer(seed, m, n)
        x = decided(rows, unit, DOMAINS[kind])
        if x is not None:
            found = pair(W, alpha, DOMAINS[kind], x)
            assert found is not None
            check(W, alpha, DOMAINS[kind], found)
            active = (W @ x > alpha).sum()
            assert found.why == f"{active} of {m} rows are active at both, and do not span R^{n}"
            seen += 1
    assert seen


@pytest.mark.parametrize("kind", DOMAINS)
@pytest.mark.parametrize("n", [2, 3, 6])
def test_points_of_a_domain_have_partners_where_their_rows_do_not_span(kind, n):
    rng, domain = np.random.default_rng(n), DOMAINS[kind]
    W, alpha, *_ = layer(n, 2 * n, n)
    found = 0
    for x in domain.points(rng.standard_normal((100, n)), rng.random(100)):
        witness, spans = pair(W, alpha, domain, x), np.linalg.matrix_rank(W[W @ x > alpha]) == n
        assert witness is None if spans else witness is not None or kind == "sphere"
        if witness is not None:
            check(W, alpha, domain, witness)
            found += 1
    assert found


def test_a_ball_is_left_as_far_as_the_rows_allow():
    found = pair(np.array([[1.0, 0], [0, 1]]), np.array([-2, 0.25]), Domain("ball"), np.zeros(2))
    assert found is not None
    np.testing.assert_allclose(np.sort([found.first[1], found.second[1]]), [-0.999, 0.999 * 0.25], atol=1e-12)


def test_a_donut_is_not_left_by_its_hole():
    found = pair(np.array([[0, 1.0]]), -3.0, Domain("donut", 1.0, 0.5), np.array([0.6, 0.0]))
    assert found is not None
    assert {round(float(x[0]), 4) for x in (found.first, found.second)} == {0.5001, 0.9996}


@pytest.mark.parametrize("at", [[1.0, 0.0], [0.0, 0.3], [0.0, 0.0]])
def test_on_the_border_of_a_domain(at):
    """One way is left, inward."""
    domain = Domain("nonnegative")
    found = pair(np.array([[0, 1.0]]), -3.0, domain, np.array(at))
    assert found is not None
    check(np.array([[0, 1.0]]), -3.0, domain, found)
    assert found.distance > 0.9


class TestSphere:
    def test_rank_one_less_is_no_pair_by_itself(self):
        """Only the reflection has the same active products, and a row turns active there."""
        W, x = np.array([[1.0, 0], [0, -1]]), np.array([0.6, 0.8])
        assert pair(W, 0.0, Domain("sphere"), x) is None
        assert pair(W, 0.0, Domain("ball"), 0.9 * x) is not None

    def test_the_reflection(self):
        W, x = np.array([[2.0, 0], [0, -1]]), np.array([0.6, 0.8])
        found = pair(W, np.array([0.0, 0.9]), Domain("sphere"), x)
        assert found is not None
        np.testing.assert_allclose(found.second, [0.6, -0.8], atol=1e-15)
        assert found.distance == pytest.approx(1.6)

    def test_the_pole_has_no_partner(self):
        assert pair(np.array([[1.0, 0, 0]]), 0.0, Domain("sphere"), np.array([1.0, 0, 0])) is None

    def test_a_circle_is_turned_along(self):
        """One active row leaves a circle; two inactive ones an arc of it, here from -30 to 60 degrees around x."""
        x = np.array([0.6, 0.8, 0])
        turns = np.radians([-30.0, 60])
        ends = np.stack([np.zeros(2), np.cos(turns), np.sin(turns)], axis=1)
        tangents = np.stack([np.zeros(2), -np.sin(turns), np.cos(turns)], axis=1) * [[-1.0], [1.0]]
        W = np.vstack([[1.0, 0, 0], 3 * tangents, -ends.sum(axis=0)])
        found = pair(W, 0.0, Domain("sphere"), x)
        assert found is not None
        check(W, 0.0, Domain("sphere"), found)
        assert found.distance == pytest.approx(2 * 0.8 * np.sin(np.radians(0.999 * 45)))

    def test_no_partner_is_found_by_search_either(self):
        """n = 2 with one active row: where `pair` gives none, no other point of the circle has the output of x."""
        rng = np.random.default_rng(0)
        angles = np.linspace(0, 2 * np.pi, 20_001)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        seen = set()
        for _ in range(60):
            W, alpha = rng.standard_normal((3, 2)), rng.uniform(-0.2, 0.6, 3)
            x = circle[rng.integers(20_001)]
            if np.linalg.matrix_rank(W[W @ x > alpha]) == 2:
                continue
            found = pair(W, alpha, Domain("sphere"), x)
            gaps = np.abs(np.maximum(circle @ W.T - alpha, 0) - np.maximum(W @ x - alpha, 0)).max(axis=1)
            apart = np.linalg.norm(circle - x, axis=1) > 0.05
            if found is None:
                assert gaps[apart].min() > 1e-4
            seen.add(found is None)
        assert seen == {True, False}

    def test_a_pair_of_points(self):
        """n = 1: a sphere is two points."""
        assert pair(np.array([[1.0]]), 2.0, Domain("sphere"), np.array([1.0])) is not None
        assert pair(np.array([[-1.0]]), 0.5, Domain("sphere"), np.array([1.0])) is None


def test_none_where_there_is_nothing_to_find():
    W, alpha, *_ = layer(0, 30, 2)
    x = np.array([0.5, 0.5])
    assert pair(W, alpha - 100, Domain("ball"), x) is None
    assert pair(W, alpha + 100, Domain("ball"), 3 * x) is None
    assert pair(W, alpha + 100, Domain("nonnegative"), -x) is None
    assert pair(W, alpha + 100, Domain("data", data=x[None]), x) is None
    assert pair(W, alpha + 100, Domain("ball"), x) is not None


def test_rows_that_nearly_depend_make_no_pair():
    """Within the tolerance of their rank, but with outputs that can be told apart."""
    W = np.array([[1.0, 0], [1.0, 5e-10]])
    assert pair(W, -5.0, Domain("ball"), np.zeros(2)) is None
    assert pair(np.array([[1.0, 0], [1.0, 0], [0, 0]]), -5.0, Domain("ball"), np.zeros(2)) is not None
