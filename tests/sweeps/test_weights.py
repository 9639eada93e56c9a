"""Laws of weights: moments, distributions, orthogonality, bits."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from sweeps.networks.architecture import Architecture, Law
from sweeps.networks.weights import biases, weights
from tests.sweeps.networks_of import networks_of

FREEDOM, DENSITY = 5.5, 0.3


def drawn(law, n, width, fan_in, **changes):
    a = Architecture(width, 1, law=law, **{"density": DENSITY, "freedom": FREEDOM, **changes})
    return weights(networks_of(n), "cpu", 0, fan_in, a).numpy()


@pytest.mark.parametrize("law", get_args(Law))
@pytest.mark.parametrize(("width", "fan_in"), [(7, 12), (12, 7)])
def test_mean_and_variance(law, width, fan_in):
    W = drawn(law, 4000, width, fan_in, freedom=9.0).astype(float)
    assert W.shape == (4000, width, fan_in)
    means, squares = W.mean((1, 2)), (W**2).mean((1, 2))
    assert abs(means.mean()) < 4 * stats.sem(means)
    assert abs(squares.mean() - 1) <= 4 * stats.sem(squares) + 1e-6
    assert np.all(np.abs(W.mean(0)) < 5 / math.sqrt(4000))  # every entry, of 84


@pytest.mark.parametrize(("law", "cdf"), [
    ("gaussian", stats.norm.cdf),
    ("uniform", stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)).cdf),
    ("student", stats.t(FREEDOM, scale=math.sqrt((FREEDOM - 2) / FREEDOM)).cdf),
])  # fmt: skip
def test_distribution_of_the_entries(law, cdf):
    W = drawn(law, 100, 30, 50).ravel().astype(float)
    assert stats.kstest(W, cdf).pvalue > 1e-3
    assert abs(np.corrcoef(np.abs(W[:-1]), np.abs(W[1:]))[0, 1]) < 4 / math.sqrt(len(W))


@pytest.mark.parametrize("freedom", [2.2, 3.0, 30.0])
def test_student_of_any_freedom(freedom):
    W = drawn("student", 100, 30, 50, freedom=freedom).ravel().astype(float)
    assert stats.kstest(W / math.sqrt((freedom - 2) / freedom), stats.t(freedom).cdf).pvalue > 1e-3


def test_signs_and_zeros():
    signs, sparse = drawn("rademacher", 100, 30, 50), drawn("sparse", 100, 30, 50)
    assert set(np.unique(signs)) == {-1, 1}
    kept = sparse[sparse != 0].astype(float)
    assert abs(len(kept) / sparse.size - DENSITY) < 4 * math.sqrt(DENSITY * (1 - DENSITY) / sparse.size)
    assert stats.kstest(kept * math.sqrt(DENSITY), stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize(("width", "fan_in"), [(5, 9), (9, 5), (6, 6), (1, 4), (4, 1)])
def test_orthogonal_rows_or_columns(width, fan_in):
    W = drawn("orthogonal", 50, width, fan_in).astype(float)
    gram = W @ W.transpose(0, 2, 1) / fan_in if width <= fan_in else W.transpose(0, 2, 1) @ W / width
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(min(width, fan_in)), gram.shape), atol=1e-6)


def test_orthogonal_matrices_are_haar():
    """A squared entry is Beta(1/2, (n - 1)/2), and the trace has variance 1 (Diaconis, Shahshahani 1994)."""
    W = drawn("orthogonal", 4000, 6, 6).astype(float) / math.sqrt(6)
    for entry in ((0, 0), (5, 0), (2, 5)):
        assert stats.kstest(W[:, *entry] ** 2, stats.beta(0.5, 2.5).cdf).pvalue > 1e-3
    trace = np.trace(W, axis1=1, axis2=2)
    assert abs(trace.mean()) < 4 * stats.sem(trace)
    assert abs((trace**2).mean() - 1) < 4 * stats.sem(trace**2)


@pytest.mark.parametrize("law", get_args(Law))
def test_a_network_has_its_own_weights(law):
    together = drawn(law, 6, 5, 8)
    alone = weights(networks_of(1, first=4), "cpu", 0, 8, Architecture(5, 1, law=law, density=DENSITY, freedom=FREEDOM))
    np.testing.assert_array_equal(alone.numpy()[0], together[4])


def test_biases_are_normals_of_their_own():
    b = biases(networks_of(200), "cpu", 0, 50).numpy()
    assert stats.kstest(b.ravel().astype(float), stats.norm.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(b.ravel(), drawn("gaussian", 200, 50, 1).ravel())[0, 1]) < 0.04
