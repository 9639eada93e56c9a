"""The sampler without weights: against long doubles, its law against drawn weights, tiny angles, great depths."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from scipy import special, stats

from sweeps.networks import direct, gram
from sweeps.networks.architecture import Activation, Architecture
from sweeps.theory.arccos import angle_map
from tests.sweeps.networks_of import gaussian_images, networks_of

erf = np.vectorize(math.erf)
LONG = {
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "leaky-relu": lambda z: np.where(z > 0, z, np.longdouble(0.2) * z),
    "abs": np.abs,
    "sign": np.sign,
    "step": lambda z: (z > 0).astype(z.dtype),
    "relu2": lambda z: np.maximum(z, 0) ** 2,
    "erf": lambda z: erf(z.astype(float)).astype(z.dtype),  # exact only to float64
    "tanh": np.tanh,
    "gelu": lambda z: z * special.ndtr(z.astype(float)),
}


def inputs_of(images):
    """(log_square (1, k), angle (1, pairs)) of images (k, ...)."""
    flat = images.reshape(len(images), -1).astype(float)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    p, q = np.triu_indices(len(images), 1)
    angle = 2 * np.arctan2(np.linalg.norm(unit[p] - unit[q], axis=1), np.linalg.norm(unit[p] + unit[q], axis=1))
    return np.log((flat**2).mean(1))[None], angle[None]


def sampled(a, n, log_square, angle, key=1):
    k = np.shape(log_square)[-1]
    rows = np.broadcast_to(log_square, (n, k)), np.broadcast_to(angle, (n, k * (k - 1) // 2))
    return gram.fnn(*rows, networks_of(n, key), a)


@pytest.mark.parametrize("bias_variance", [0.0, 0.3])
@pytest.mark.parametrize("activation", get_args(Activation))
def test_against_the_same_normals_in_long_doubles(activation, bias_variance):
    """Four inputs; the covariance of the pre-activations is factored as a matrix, which keeps half of the digits."""
    a = Architecture(50, 4, activation, 0.2, weight_variance=1.7, bias_variance=bias_variance)
    networks, images = networks_of(2), gaussian_images((4, 30), seed=3) * np.array([[1], [2], [1], [0.5]], np.float32)
    got = sampled(a, 2, *inputs_of(images))
    for i in range(2):
        K = (images.astype(np.longdouble) @ images.T.astype(np.longdouble)) / images.shape[1]
        for layer in range(4):
            C = a.weight_variance * K + a.bias_variance
            L = np.zeros_like(C)
            for p in range(4):
                for q in range(p + 1):
                    left = C[p, q] - (L[p, :q] * L[q, :q]).sum()
                    L[p, q] = np.sqrt(left) if p == q else left / L[q, q]
            h = LONG[activation](L @ networks.normals(layer, 4, 50)[i].astype(np.longdouble))
            K = h @ h.T / 50
            scale = np.sqrt(np.diagonal(K))
            np.testing.assert_allclose(got.log_square[i, layer], 2 * np.log(scale), atol=1e-11)
            cosine = (K / scale / scale[:, None])[np.triu_indices(4, 1)]
            np.testing.assert_allclose(got.cosine[i, layer], cosine, atol=1e-11)
            np.testing.assert_allclose(np.cos(got.angle[i, layer]), cosine, atol=1e-11)


LAWS = [
    Architecture(9, 3),
    Architecture(6, 3, "tanh", weight_variance=1.5, bias_variance=0.2),
    Architecture(5, 2, "gelu"),
    Architecture(7, 2, "relu", bias_variance=0.5),
    Architecture(8, 2, "step", bias_variance=0.1),
]


@pytest.mark.parametrize("a", LAWS, ids=lambda a: a.activation + "+bias" * (a.bias_variance > 0))
@pytest.mark.parametrize("k", [2, 3])
def test_one_law_with_and_without_weights(a, k):
    n = 4000
    images = gaussian_images((1, k, 12, 1, 1), seed=1) + np.float32(0.5)
    drawn = direct.sample(images, np.zeros(n, int), networks_of(n, key=2), a, "cpu")
    for x, y in zip(drawn, sampled(a, n, *inputs_of(images[0])), strict=True):
        assert_one_law(x.reshape(n, -1), y.reshape(n, -1))


def assert_one_law(x, y):
    """Columns of x and y: undefined as often, one distribution, the first two moments within 4 standard errors."""
    for a, b in zip(x.T, y.T, strict=True):
        dead, n = (np.isnan(a).mean(), np.isnan(b).mean()), len(a)
        assert abs(dead[0] - dead[1]) <= 4 * math.sqrt(2 * max(dead) / n)
        a, b = a[~np.isnan(a)], b[~np.isnan(b)]
        assert stats.ks_2samp(np.round(a, 6), np.round(b, 6)).pvalue > 1e-4  # of discrete laws, but for rounding
        for power in (1, 2):
            error = math.hypot(stats.sem(a**power), stats.sem(b**power))
            assert abs(np.mean(a**power) - np.mean(b**power)) <= 4 * error + 1e-6


@pytest.mark.parametrize("theta", [1e-6, 1e-9, 1e-100])
def test_nearly_parallel_inputs_at_depth_200(theta):
    """A layer multiplies theta by sqrt(chi2(n - 1)/chi2(n)), n ~ Binomial(N, 1/2), up to O(theta)."""
    width, depth, n = 512, 200, 100
    change = np.log(sampled(Architecture(width, depth), n, [0, 0], [theta]).angle[:, -1, 0] / theta)
    expected = np.log(iterated(theta, depth) / theta) + depth * _mean_step(width)
    assert abs(change.mean() - expected) < 4 * stats.sem(change)
    assert np.std(change) == pytest.approx(math.sqrt(2 * depth / width), rel=0.3)


def iterated(theta, depth):
    for _ in range(depth):
        theta = float(angle_map(theta))
    return theta


def _mean_step(width):
    n = np.arange(2, width + 1)
    step = (special.digamma((n - 1) / 2) - special.digamma(n / 2)) / 2
    return (stats.binom(width, 0.5).pmf(n) * step).sum()


def test_a_bundle_of_nearly_parallel_inputs_keeps_its_shape():
    """Differences are linear in the inputs where no two activate a neuron otherwise: proportions stay."""
    theta = np.array([1e-9, 3e-9, 2e-9])  # 0, 1, 3 on a line: angles add up
    got = sampled(Architecture(64, 100), 8, [0, 0, 0], theta).angle
    np.testing.assert_allclose(got[..., 1] / got[..., 0], 3, rtol=1e-5)
    np.testing.assert_allclose(got[..., 2] / got[..., 0], 2, rtol=1e-5)


def test_an_ordered_network_draws_inputs_together_by_a_factor_a_layer():
    """At the fixed point q of the variances, the angle's rate is chi = w E[phi'(sqrt(q) G)^2]; Poole et al. 2016."""
    a = Architecture(1000, 200, "tanh", weight_variance=1.0, bias_variance=0.3)
    z, weight = special.roots_hermitenorm(200)
    weight = weight / weight.sum()
    q = 1.0
    for _ in range(500):
        q = (weight * np.tanh(math.sqrt(q) * z) ** 2).sum() + 0.3
    chi = (weight * np.cosh(math.sqrt(q) * z) ** -4.0).sum()
    got = sampled(a, 8, [0.0, 0.1], [0.3]).angle[:, :, 0]
    rate = np.log(got[:, -1] / got[:, 20]) / 179
    assert got.max() < 1
    assert got[:, -1].max() < 1e-20
    assert abs(rate.mean() - math.log(chi) / 2) < 4 * stats.sem(rate) + 2 / 1000


VARIANCES = [(w, b) for w in (0.01, 100.0) for b in (0.0, 1e-20, 0.1)]
GREAT = [(name, w, b) for name in get_args(Activation) for w, b in VARIANCES]
GREAT = [case for case in GREAT if not (case[0] == "relu2" and case[1] > 1 and case[2] > 0)]
"""Of relu2 with biases lengths part company faster than exponentially, while all inputs have one scale."""


@pytest.mark.parametrize(("activation", "weight_variance", "bias_variance"), GREAT)
def test_depth_1000_neither_overflows_nor_vanishes(activation, weight_variance, bias_variance):
    a = Architecture(64, 1000, activation, 0.2, weight_variance=weight_variance, bias_variance=bias_variance)
    got = sampled(a, 2, [0.0, 1.0, -1.0], [0.5, 1.0, 0.8])
    assert np.isfinite(got.log_square).all()
    assert (np.abs(got.cosine) <= 1).all()
    assert np.isfinite(got.angle).all()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_dead_networks_are_undefined(k):
    """At width 1 two orthogonal inputs are both alive after l layers with probability 1/4 2^(1 - l)."""
    got = sampled(Architecture(1, 3), 8000, np.zeros(k), np.full(k * (k - 1) // 2, math.pi / 2))
    alive = ~np.isnan(got.log_square)
    p, q = np.triu_indices(k, 1)
    np.testing.assert_array_equal(~np.isnan(got.cosine), alive[..., p] & alive[..., q])
    assert np.all(alive[:, 1:] <= alive[:, :-1])
    for layer in range(3):
        for pair in range(len(p)):
            expected = 1 / 4 / 2**layer
            found = (~np.isnan(got.cosine[:, layer, pair])).mean()
            assert abs(found - expected) < 4 * math.sqrt(expected / 8000)
        for j in range(k):
            assert abs(alive[:, layer, j].mean() - 0.5 ** (layer + 1)) < 4 * math.sqrt(1 / 8000)
    np.testing.assert_allclose(got.cosine[~np.isnan(got.cosine)], 1, atol=1e-14)
    np.testing.assert_allclose(got.angle[~np.isnan(got.angle)], 0, atol=1e-11)  # rounding of the longest of them


def test_a_bias_wakes_a_dead_network():
    dead = np.isnan(sampled(Architecture(1, 4, bias_variance=1.0), 2000, [0.0, 0.0], [2.0]).log_square)
    assert np.any(dead[:, :-1] > dead[:, 1:])
    assert 0.1 < dead[:, -1].mean() < 0.9


def test_equal_and_opposite_inputs():
    same = sampled(Architecture(50, 5, bias_variance=0.1), 3, [0, 0], [0.0])
    np.testing.assert_array_equal(same.angle, 0)
    np.testing.assert_array_equal(same.cosine, 1)
    opposite = sampled(Architecture(50, 5, "linear"), 3, [0, 0, 2], [math.pi, math.pi, 0])
    np.testing.assert_allclose(opposite.angle[..., :2], math.pi, atol=1e-14)
    np.testing.assert_array_equal(opposite.angle[..., 2], 0)


def test_bits_do_not_depend_on_the_slot():
    n, a = 12, Architecture(37, 3, "gelu", bias_variance=0.1)
    rng = np.random.default_rng(0)
    log_square, angle = rng.standard_normal((n, 2)), rng.uniform(0, 3, (n, 1))
    networks = networks_of(n)
    first = gram.fnn(log_square, angle, networks, a)
    order = rng.integers(0, n, 30)
    moved = replace(networks, points=networks.points.take(order), keys=networks.keys[order], draws=order.astype("u8"))
    for got, want in zip(gram.fnn(log_square[order], angle[order], moved, a), first, strict=True):
        np.testing.assert_array_equal(got, want[order])
