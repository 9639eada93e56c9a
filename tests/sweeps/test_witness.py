"""Pairs of inputs with one output, checked anew."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from sweeps import witness
from sweeps.networks.degenerate import deficient_direction
from sweeps.witness import of_layer


def outputs(W, x):
    """ReLU(W x) of a vector of fractions, without rounding."""
    return [max(Fraction(0), sum(Fraction(v) * x[j] for j, v in enumerate(row))) for row in W.tolist()]


@pytest.mark.parametrize("orthant", [False, True])
@pytest.mark.parametrize(("m", "n"), [(3, 2), (5, 3), (14, 5), (3, 5)])
def test_two_inputs_with_one_output_exactly(m, n, orthant):
    W = np.random.default_rng(m + n).standard_normal((m, n)).astype(np.float32).astype(np.float64)
    x = deficient_direction(W, orthant=orthant)
    assert x is not None
    found = of_layer(W, x, orthant=orthant)
    assert found.exact is not None
    first, second = found.exact
    assert all(isinstance(v, Fraction) for v in (*first, *second))
    assert first != second
    assert outputs(W, first) == outputs(W, second)
    assert not orthant or min(*first, *second) >= 0
    assert np.array_equal(found.first, [float(v) for v in first])
    assert found.difference <= 1e-14
    assert found.distance == pytest.approx(np.linalg.norm(found.first - found.second))
    assert found.distance > 1e-6


def test_rows_outside_general_position():
    W = np.repeat(np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]]), 3, axis=0)
    x = deficient_direction(W)
    assert x is not None
    found = of_layer(W, x)
    assert found.exact is not None
    assert outputs(W, found.exact[0]) == outputs(W, found.exact[1])


def test_rows_that_depend_to_rounding():
    """A of rank 3 in R^4: in rational numbers its rows span, and the two inputs share an output to rounding."""
    rng = np.random.default_rng(0)
    rounded = 0
    for m in (8, 12, 16, 20):
        W = rng.standard_normal((m, 3)) @ rng.standard_normal((3, 4))
        x = deficient_direction(W)
        assert x is not None
        found = of_layer(W, x)
        rounded += found.exact is None
        assert found.difference < 1e-13
        assert 1e-3 < found.distance < 10
    assert rounded


def test_large_layers_are_rounded(monkeypatch):
    monkeypatch.setattr(witness, "EXACT", 20)
    W = np.random.default_rng(0).standard_normal((60, 30))
    x = -W.sum(axis=0) / np.linalg.norm(W.sum(axis=0))
    assert (W @ x > 0).sum() < 30
    found = of_layer(W, x)
    assert found.exact is None
    assert found.difference < 1e-13
    assert found.distance > 1e-6
    positive = of_layer(np.vstack([W[:20], -np.ones((3, 30))]), np.full(30, 0.1), orthant=True)
    assert min(positive.first.min(), positive.second.min()) >= 0
    with pytest.raises(ValueError, match="span"):
        of_layer(np.vstack([np.eye(30), np.eye(30)]), np.ones(30))


def test_rows_that_span_give_none():
    with pytest.raises(ValueError, match="2 rows active at x span"):
        of_layer(np.eye(2), np.array([1.0, 1.0]))


def test_a_direction_on_a_border_is_told():
    with pytest.raises(ValueError, match="border"):
        of_layer(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, 0.0]))
