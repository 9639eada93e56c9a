"""Finite width: exact laws within 4 standard errors of simulations, asymptotic ones with errors that fall like N^-2."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import erf, ndtr

from sweeps.networks.architecture import Activation, Architecture
from sweeps.theory import finite, limit
from sweeps.theory.arccos import angle_map
from sweeps.theory.moments import moment, relu_moment

SLOPE = -0.3
PHI: dict[str, Any] = {
    "linear": lambda z: z, "relu": lambda z: np.maximum(z, 0), "leaky-relu": lambda z: np.where(z > 0, z, SLOPE * z),
    "abs": np.abs, "sign": np.sign, "step": lambda z: (z > 0).astype(float), "relu2": lambda z: np.maximum(z, 0) ** 2,
    "erf": erf, "tanh": np.tanh, "gelu": lambda z: z * ndtr(z),
}  # fmt: skip


def architecture(**changes: Any) -> Architecture:
    return Architecture(**{"width": 3, "depth": 1, "slope": SLOPE, **changes})


def assert_mean(draws: np.ndarray, expected: Any, k: float = 4.0) -> None:
    assert np.all(np.abs(draws.mean(0) - expected) <= k * stats.sem(draws, axis=0)), (draws.mean(0), expected)


def assert_mean_and_variance(draws: np.ndarray, mean: Any, variance: Any) -> None:
    assert_mean(draws, mean)
    assert_mean((draws - draws.mean(0)) ** 2, variance)


def preactivations(theta: float, width: int, draws: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of standard normals at angle theta, each (draws, width)."""
    g = np.random.default_rng(seed).standard_normal((2, draws, width))
    return g[0], math.cos(theta) * g[0] + math.sin(theta) * g[1]


def angles(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = (z / np.sqrt((z * z).sum(-1, keepdims=True)) for z in (u, v))
    return 2 * np.arctan2(np.sqrt(((u - v) ** 2).sum(-1)), np.sqrt(((u + v) ** 2).sum(-1)))


def networks(images: np.ndarray, a: Architecture, draws: int, seed: int = 0) -> list[np.ndarray]:
    """Activations (draws, k, width, rows, cols) after every layer, weights and all."""
    rng = np.random.default_rng(seed)
    hidden, layers = np.broadcast_to(images, (draws, *images.shape)), []
    for layer in range(a.depth):
        edge = a.side // 2
        mode: Any = "wrap" if a.padding == "circular" else "constant"
        wide = np.pad(hidden, [(0, 0)] * 3 + [(edge, edge)] * 2, mode=mode)
        patches = np.lib.stride_tricks.sliding_window_view(wide, (a.side, a.side), axis=(3, 4))  # n k c p q r s
        patches = np.moveaxis(patches, 2, -3)
        patches = patches.reshape(*patches.shape[:4], -1)  # (n, k, rows, cols, fan-in)
        shape = (draws, 1, 1, patches.shape[-1], a.width)
        signs = a.law == "rademacher"
        weights = rng.choice([-1.0, 1.0], shape) if signs else rng.standard_normal(shape)
        bias = rng.standard_normal((draws, 1, 1, 1, a.width))
        z = math.sqrt(a.weight_variance / shape[3]) * (patches @ weights) + math.sqrt(a.bias_variance) * bias
        hidden = np.moveaxis(PHI[a.activation](z), -1, 2)
        if layer < a.pool_layers:
            *front, rows, cols = hidden.shape
            hidden = hidden.reshape(*front, rows // 2, 2, cols // 2, 2).mean((-3, -1))
        layers.append(hidden)
    return layers


# --- moments -----------------------------------------------------------------------------------------------


def test_relu_moments_of_the_literature() -> None:
    """Cho and Saul 2009, Jakub and Nica 2023; the closed forms cancel near pi."""
    theta = np.array([0.0, 1e-3, 0.7, 2.0, 3.0])
    c, s, rest = np.cos(theta), np.sin(theta), np.pi - theta
    known = {
        (0, 0): rest / (2 * np.pi),
        (1, 1): (s + rest * c) / (2 * np.pi),
        (2, 2): (rest * (2 * c * c + 1) + 3 * s * c) / (2 * np.pi),
        (3, 1): (3 * rest * c + s * c * c + 2 * s) / (2 * np.pi),
    }
    for (i, j), want in known.items():
        np.testing.assert_allclose(relu_moment(i, j, theta), want, rtol=1e-10)
    assert float(moment("relu2", 4, 0, 1.0)) == pytest.approx(105 / 2, rel=1e-14)  # half of E z^8


@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize(("i", "j"), [(1, 1), (2, 2), (3, 1), (0, 4)])
def test_moments_over_the_plane(activation: Any, i: int, j: int) -> None:
    """Against adaptive quadrature in polar coordinates: radially to infinity, the angle split where phi bends."""
    a, b, theta = 0.7, 1.6, 0.9
    phi = PHI[activation]

    def inside(r: float, t: float) -> float:
        u, v = math.sqrt(a) * r * math.cos(t), math.sqrt(b) * r * math.cos(t - theta)
        return float(phi(np.float64(u)) ** i * phi(np.float64(v)) ** j) * r * math.exp(-r * r / 2) / (2 * math.pi)

    corners = sorted((c + q * math.pi / 2) % (2 * math.pi) for c in (0, theta) for q in (1, -1))
    ends = zip(corners, [*corners[1:], corners[0] + 2 * math.pi], strict=True)
    nodes, weights = np.polynomial.legendre.leggauss(24)
    want = 0.0
    for low, high in ends:
        for t, w in zip((low + high) / 2 + (high - low) / 2 * nodes, weights * (high - low) / 2, strict=True):
            want += w * integrate.quad(inside, 0, 12, args=(t,), epsabs=1e-11)[0]
    assert float(moment(activation, i, j, theta, a, b, SLOPE)) == pytest.approx(want, rel=1e-9)


# --- one layer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", get_args(Activation))
def test_inner_products_are_exact_at_width_5(activation: Any) -> None:
    a, b, theta = 0.7, 1.6, 1.2
    u, v = preactivations(theta, 5, 40_000)
    draws = (PHI[activation](math.sqrt(a) * u) * PHI[activation](math.sqrt(b) * v)).mean(-1)
    assert_mean_and_variance(draws, *finite.inner_product(activation, theta, 5, a, b, SLOPE))


def test_relu_cosine_of_the_science_page() -> None:
    mean, variance = finite.cosine("relu", math.pi / 2, 256)
    assert mean == pytest.approx((1 + 0.75 / 256) / math.pi, rel=1e-12)
    assert variance == pytest.approx(0.5441 / 256, rel=1e-4)


def test_linear_cosine_mean_is_met_up_to_n_to_the_minus_2() -> None:
    """The exact mean less the one to order 1/N, times N^2, tends to a constant; the variances are the same."""
    for rho in (-0.9, 0.3):
        errors = []
        for width in (500, 1000, 2000):
            exact, variance = finite.linear_cosine(rho, width)
            mean, same = finite.cosine("linear", math.acos(rho), width)
            errors.append(float(exact - mean) * width**2)
            assert float(same) == pytest.approx(float(variance), rel=1e-12)
        assert abs(errors[2] - errors[1]) < 0.6 * abs(errors[1] - errors[0]) < 0.01 * abs(errors[2])


@pytest.mark.parametrize("activation", ["relu", "leaky-relu", "step", "tanh", "gelu"])
def test_cosines_at_width_128(activation: Any) -> None:
    theta, width = 1.0, 128
    u, v = (PHI[activation](z) for z in preactivations(theta, width, 20_000))
    draws = np.cos(angles(u, v))
    mean, variance = finite.cosine(activation, theta, width, slope=SLOPE)
    assert abs(draws.mean() - mean) < 4 * stats.sem(draws) + 3 / width**2
    assert np.var(draws) == pytest.approx(variance, rel=4 * math.sqrt(2 / 20_000) + 4 / width)


@pytest.mark.parametrize(("theta", "law"), [(1.0, "cosine"), (math.pi / 2, "log_sin2_step")])
def test_errors_of_variances_fall_like_n_to_the_minus_2(theta: float, law: str) -> None:
    """Simulated less predicted, times N^2: were the error of order 1/N, it would be four times as large at width 64 as
    at 16, and a quarter with N^-3."""
    errors = []
    for width in (16, 64):
        chunks = []
        for seed in range(10):
            u, v = (np.maximum(z, 0) for z in preactivations(theta, width, 20_000, seed))
            alive = u.any(-1) & v.any(-1)
            chunks.append(angles(u[alive], v[alive]))
        found = np.concatenate(chunks)
        draws = np.cos(found) if law == "cosine" else 2 * np.log(np.sin(found))
        variance = (finite.cosine("relu", theta, width) if law == "cosine" else finite.log_sin2_step(theta, width))[1]
        errors.append((np.var(draws) - variance) * width**2)
        assert abs(errors[-1]) > 4 * stats.sem((draws - draws.mean()) ** 2) * width**2
    assert 0.5 < errors[1] / errors[0] < 2


# --- one CNN layer -----------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(7).standard_normal((2, 2, 4, 3)) + 0.3


@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize("activation", ["linear", "relu", "gelu", "sign"])
def test_cnn_inner_products_are_exact_at_3_filters(activation: Any, padding: Any) -> None:
    a = architecture(activation=activation, side=3, padding=padding, bias_variance=0.4)
    (hidden,) = networks(IMAGES, a, 10_000)
    draws = (hidden[:, 0] * hidden[:, 1]).mean((1, 2, 3))
    mean, variance = finite.cnn_inner_product(*IMAGES, a)
    assert_mean(draws, mean)
    if activation == "linear":
        assert_mean_and_variance(draws, mean, variance)
    else:
        assert math.isnan(variance)


def test_linear_cnn_cosine_at_64_filters() -> None:
    a = architecture(activation="linear", width=64, side=3, bias_variance=0.2, padding="zero")
    (hidden,) = networks(IMAGES, a, 4000)
    draws = np.cos(angles(*np.moveaxis(hidden, 1, 0).reshape(2, 4000, -1)))
    mean, variance = finite.linear_cnn_cosine(*IMAGES, a)
    assert abs(draws.mean() - mean) < 4 * stats.sem(draws) + 3 / 64**2
    assert np.var(draws) == pytest.approx(variance, rel=4 * math.sqrt(2 / 4000) + 4 / 64)


def test_linear_cnn_cosine_of_one_pixel_is_that_of_the_fnn() -> None:
    x, y = np.random.default_rng(1).standard_normal((2, 6, 1, 1))
    rho = float((x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum()))
    got = finite.linear_cnn_cosine(x, y, architecture(activation="linear", width=50))
    np.testing.assert_allclose(got, finite.cosine("linear", math.acos(rho), 50), rtol=1e-12)


# --- mean squares over depth -------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [
    {"activation": "relu", "law": "rademacher"},
    {"activation": "leaky-relu", "side": 3, "padding": "zero"},
    {"activation": "abs", "side": 3, "pool_layers": 1},
    {"activation": "linear", "side": 3, "pool_layers": 2, "law": "rademacher"},
    {"activation": "tanh", "side": 3, "pool_layers": 1, "padding": "zero"},
], ids=lambda v: v["activation"])  # fmt: skip
def test_mean_squares_are_exact_at_width_4(values: dict[str, Any]) -> None:
    """At every layer that says so; the others are NaN."""
    a = architecture(width=4, depth=3, bias_variance=0.3, weight_variance=1.2, **values)
    images = np.random.default_rng(4).standard_normal((2, 2, 4, 4)) + 0.4
    images = images if a.side > 1 else images[:, :, :1, :1]
    hidden = networks(images, a, 6000)
    predicted = finite.log_mean_square(images, a)
    exact = finite.exact_mean_square(a)
    np.testing.assert_array_equal(exact, ~np.isnan(predicted[:, 0]))
    assert exact.tolist() == ([True, False, False] if a.activation == "tanh" else [True] * 3)
    for layer in np.flatnonzero(exact):
        assert_mean((hidden[layer] ** 2).mean((2, 3, 4)), np.exp(predicted[layer]))


def test_where_mean_squares_are_exact() -> None:
    cases: list[tuple[dict[str, Any], list[bool]]] = [
        ({}, [True, True, True]),
        ({"pool_layers": 2}, [True, False, False]),
        ({"pool_layers": 1, "law": "uniform"}, [False] * 3),
        ({"pool_layers": 1, "pool": "max"}, [False] * 3),
        ({"activation": "erf", "law": "student"}, [False] * 3),
        ({"activation": "relu2"}, [True, False, False]),
    ]
    for values, want in cases:
        assert finite.exact_mean_square(architecture(depth=3, **values)).tolist() == want
    flat = finite.log_mean_square(np.array([0.0, 1.0]), architecture(depth=2, weight_variance=2.0))
    np.testing.assert_allclose(flat, [[0.0, 1.0]] * 2, atol=1e-15)


# --- ln sin^2 theta ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("theta", [1e-7, 0.1, 1.0, math.pi / 2, 2.2])
@pytest.mark.parametrize("width", [64, 256])
def test_log_sin2_after_one_layer(theta: float, width: int) -> None:
    draws = 2 * np.log(np.sin(angles(*(np.maximum(z, 0) for z in preactivations(theta, width, 8000)))))
    mean, variance = finite.log_sin2_step(theta, width)
    assert abs(draws.mean() - mean) < 4 * stats.sem(draws) + 10 / width**2
    spread = stats.sem((draws - draws.mean()) ** 2)
    assert abs(np.var(draws) - variance) < 4 * spread + 50 / width**2
    assert abs(draws.mean() - mean) < 0.3 * abs(mean - 2 * math.log(math.sin(angle_map(theta)))) + 4 * stats.sem(draws)


@pytest.mark.parametrize("start", [0.1, 1.0, 1.8])
def test_the_second_layer_is_the_first_ones_mean_over_its_law(start: float) -> None:
    """Over a normal law of that mean and variance, by Gauss's rule: they differ by O(N^-2)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    errors = []
    for width in (4000, 8000):
        means, variances = finite.log_sin2(start, width, 2)
        logarithms = means[0] + math.sqrt(variances[0]) * nodes
        each, fresh = finite.log_sin2_step(np.arcsin(np.exp(logarithms / 2)), width)
        mean = weights @ each / weights.sum()
        variance = weights @ (fresh + (each - mean) ** 2) / weights.sum()
        errors.append([abs(mean - means[1]), abs(variance - variances[1])])
    np.testing.assert_allclose(np.array(errors[0]) / errors[1], 4, rtol=0.1)


@pytest.mark.parametrize(("start", "width", "depth", "draws"), [(2.0, 256, 15, 2000), (2.6, 64, 3, 10_000)])
def test_log_sin2_over_depth(start: float, width: int, depth: int, draws: int) -> None:
    """The first layers from 2.6 are near pi/2, where the map bends most."""
    theta = np.full(draws, start)
    mean, variance = finite.log_sin2(start, width, depth)
    wide = 2 * np.log(np.sin(limit.fnn(np.zeros(2), np.array([start]), Architecture(width, depth)).angle[:, 0]))
    rng, got = np.random.default_rng(0), np.zeros(0)
    for layer in range(depth):
        g = rng.standard_normal((2, draws, width))
        v = np.cos(theta)[:, None] * g[0] + np.sin(theta)[:, None] * g[1]
        theta = angles(np.maximum(g[0], 0), np.maximum(v, 0))
        got = 2 * np.log(np.sin(theta))
        assert abs(got.mean() - mean[layer]) < 4 * stats.sem(got) + 2 * (layer + 1) / width**2
        assert layer == 0 or np.var(got) == pytest.approx(variance[layer], rel=4 * math.sqrt(2 / draws) + 20 / width)
    assert got.mean() < wide[-1] - 6 * stats.sem(got)  # infinite width alone would fail


@pytest.mark.parametrize(("width", "draws"), [(4, 600_000), (20, 100_000)])
def test_nearly_parallel_inputs_are_exact_at_small_width(width: int, draws: int) -> None:
    u, v = preactivations(1e-6, width, draws)
    active = (u > 0).sum(-1) > 1
    change = 2 * np.log(np.sin(angles(np.maximum(u[active], 0), np.maximum(v[active], 0))) / math.sin(1e-6))
    assert_mean_and_variance(change, *finite.nearly_parallel(width))


def test_nearly_parallel_limits() -> None:
    """-2/N - 8/N^2 and 8/N + 32/N^2, by Stirling's series and E[1/n] = 2/N + 2/N^2 + ...; and of the asymptotic law."""
    for width in (1000, 4000):
        mean, variance = finite.nearly_parallel(width)
        assert (mean * width + 2) * width == pytest.approx(-8, abs=100 / width)
        assert (variance * width - 8) * width == pytest.approx(32, abs=300 / width)
    for theta in (1e-3, 1e-6, 1e-9):
        mean, variance = finite.log_sin2_step(theta, 50)
        assert 50 * (mean - 2 * math.log(math.sin(angle_map(theta)))) == pytest.approx(-2, abs=theta)
        assert 50 * variance == pytest.approx(8, abs=3 * theta)


@pytest.mark.parametrize(("width", "depth"), [(2, 400), (4, 900), (8, 1000)])
def test_log_sin2_of_angles_that_floats_cannot_hold(width, depth) -> None:
    means, variances = finite.log_sin2(math.pi / 3, width, depth)
    assert np.all(np.diff(means) < 0)
    assert means[-1] < -2 * (depth - 100) / width
    np.testing.assert_allclose(np.diff(means)[-50:], -2 / width, rtol=1e-2)
    np.testing.assert_allclose(np.diff(variances)[-50:], 8 / width, rtol=1e-2)
