"""Infinite width: the recursions against loops written another way, published values, limits and 50 digits."""

from __future__ import annotations

import itertools
import math
from typing import Any, get_args

import mpmath
import numpy as np
import pytest

from sweeps.inputs import sets
from sweeps.networks.architecture import Activation, Architecture, Geometry
from sweeps.theory import bounds, limit
from sweeps.theory.duals import inner_product

HALF = np.array([math.pi / 2])
ZERO = np.zeros(2)


def architecture(**changes: Any) -> Architecture:
    return Architecture(**{"width": 7, "depth": 4, **changes})


def assert_same(got: Geometry, want: Geometry, **tolerance: float) -> None:
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


# --- a slow twin: all covariances of all pixels of all images, in loops ------------------------------------


def slow_cnn(images: np.ndarray, a: Architecture) -> Geometry:
    k, _, rows, cols = images.shape
    places = list(itertools.product(range(k), range(rows), range(cols)))
    cov = {(u, v): float((images[u[0], :, u[1], u[2]] * images[v[0], :, v[1], v[2]]).mean())
           for u, v in itertools.product(places, places)}  # fmt: skip
    layers = []
    for layer in range(a.depth):
        offsets = list(itertools.product(range(-(a.side // 2), a.side // 2 + 1), repeat=2))
        before = {}
        for u, v in cov:
            total = 0.0
            for dr, dc in offsets:
                moved = [(w[0], w[1] + dr, w[2] + dc) for w in (u, v)]
                if a.padding == "circular":
                    moved = [(w[0], w[1] % rows, w[2] % cols) for w in moved]
                total += cov.get((moved[0], moved[1]), 0.0)
            before[u, v] = a.weight_variance * total / a.side**2 + a.bias_variance
        keys = list(before)
        u_var, v_var = (np.array([before[key[s], key[s]] for key in keys]) for s in (0, 1))
        values = inner_product(a.activation, u_var, v_var, np.array([before[key] for key in keys]), a.slope)
        cov = dict(zip(keys, values.tolist(), strict=True))
        if layer < a.pool_layers:
            rows, cols = rows // 2, cols // 2
            places = list(itertools.product(range(k), range(rows), range(cols)))
            four = list(itertools.product((0, 1), repeat=2))
            cov = {(u, v): sum(cov[(u[0], 2 * u[1] + p, 2 * u[2] + q), (v[0], 2 * v[1] + s, 2 * v[2] + t)]
                               for p, q in four for s, t in four) / 16
                   for u, v in itertools.product(places, places)}  # fmt: skip
        pixels = list(itertools.product(range(rows), range(cols)))
        inner = np.array([[np.mean([cov[(i, *p), (j, *p)] for p in pixels]) for j in range(k)] for i in range(k)])
        i, j = np.triu_indices(k, 1)
        cosine = inner[i, j] / np.sqrt(inner[i, i] * inner[j, j])
        layers.append((np.log(np.diag(inner)), cosine, np.arccos(np.clip(cosine, -1, 1))))
    return Geometry(*(np.stack(each) for each in zip(*layers, strict=True)))


IMAGES = np.random.default_rng(3).standard_normal((3, 2, 4, 3)) * np.array([0.5, 1, 2]).reshape(3, 1, 1, 1)
CNNS = [
    {"activation": "relu", "side": 3},
    {"activation": "relu", "side": 3, "bias_variance": 0.3, "weight_variance": 1.4},
    {"activation": "leaky-relu", "slope": -0.4, "side": 1, "bias_variance": 0.1},
    {"activation": "linear", "side": 3, "depth": 2, "bias_variance": 0.2},
    {"activation": "abs", "side": 3, "depth": 2},
    {"activation": "sign", "side": 3, "depth": 2},
    {"activation": "step", "side": 3, "depth": 2, "bias_variance": 0.2},
    {"activation": "relu2", "side": 3, "depth": 3},
    {"activation": "erf", "side": 3, "depth": 3, "bias_variance": 0.2},
    {"activation": "gelu", "side": 3, "depth": 3},
    {"activation": "tanh", "side": 3, "depth": 1, "weight_variance": 9.0},
]


@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize("values", CNNS, ids=lambda v: v["activation"])
def test_cnn_against_loops(values: dict[str, Any], padding: str) -> None:
    a = architecture(padding=padding, **values)
    assert_same(limit.cnn(IMAGES, a), slow_cnn(IMAGES, a), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize(("pool_layers", "values"), [
    (1, {"activation": "relu", "side": 3}),
    (2, {"activation": "relu", "side": 3, "bias_variance": 0.2}),
    (1, {"activation": "gelu", "side": 3, "bias_variance": 0.1}),
    (2, {"activation": "linear", "side": 1}),
])  # fmt: skip
def test_average_pooling_against_loops(pool_layers: int, values: dict[str, Any], padding: str) -> None:
    """5 x 4 pixels: one of the rows falls out, and wraps round before it does."""
    images = np.random.default_rng(2).standard_normal((2, 2, 5, 4)) + 0.2
    a = architecture(pool_layers=pool_layers, padding=padding, depth=3, **values)
    assert_same(limit.cnn(images, a), slow_cnn(images, a), rtol=1e-9, atol=1e-12)


def test_pooling_twice_where_cells_wrap_round_an_odd_image() -> None:
    images = np.random.default_rng(6).standard_normal((1, 1, 9, 4)) + 0.2
    a = architecture(side=3, pool_layers=2, depth=2)
    assert_same(limit.cnn(images, a), slow_cnn(images, a), rtol=1e-12)


# --- published values and limits ---------------------------------------------------------------------------


def test_relu_from_orthogonal_inputs() -> None:
    cosines = limit.fnn(ZERO, HALF, architecture(depth=20)).cosine[:, 0]
    known = {1: 0.318310, 2: 0.493731, 3: 0.604826, 5: 0.735946, 10: 0.871536, 20: 0.948428}
    for layer, value in known.items():
        assert cosines[layer - 1] == pytest.approx(value, abs=5e-7)


def test_linear_networks_keep_the_angle() -> None:
    flat = limit.fnn(ZERO, np.array([0.7]), architecture(activation="linear"))
    np.testing.assert_allclose(flat.angle, 0.7, rtol=1e-15)
    x, y = (image.ravel() for image in IMAGES[:2])
    wraps = limit.cnn(IMAGES[:2], architecture(activation="linear", side=3))
    np.testing.assert_allclose(wraps.cosine, x @ y / math.sqrt((x @ x) * (y @ y)), rtol=1e-13)


def test_correlated_gaussian_pixels_contract_as_in_an_fnn() -> None:
    """With many channels, the cosine of every patch being about that of the images."""
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((2, 20_000, 3, 3))
    images = np.stack([x, 0.6 * x + 0.8 * z])
    cosine = limit.cnn(images, architecture(depth=1, side=3)).cosine[0, 0]
    wide = limit.fnn(ZERO, np.array([math.acos(0.6)]), architecture(depth=1)).cosine[0, 0]
    assert cosine == pytest.approx(wide, abs=4 / math.sqrt(x.size))


@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize("bias_variance", [0.0, 0.4])
def test_one_pixel_cnn_is_the_fnn(activation: Any, bias_variance: float) -> None:
    images = np.random.default_rng(1).standard_normal((3, 5, 1, 1))
    flat = images.reshape(3, 5)
    squares = (flat * flat).mean(1)
    i, j = np.triu_indices(3, 1)
    theta = np.arccos((flat[i] * flat[j]).mean(1) / np.sqrt(squares[i] * squares[j]))
    a = architecture(activation=activation, bias_variance=bias_variance, slope=0.3)
    assert_same(limit.cnn(images, a), limit.fnn(np.log(squares), theta, a), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bias_variance", [0.0, 0.05])
def test_fnn_at_depth_200_against_40_digits(bias_variance: float) -> None:
    """Inputs 1e-10 apart, of lengths that differ as little where there is a bias."""
    a = architecture(depth=200, weight_variance=1.9, bias_variance=bias_variance)
    lengths = np.array([0.3, 0.3 + 2e-10 * (bias_variance > 0)])
    got = limit.fnn(lengths, np.array([1e-10]), a)
    with mpmath.workdps(40):
        x, y = (mpmath.exp(length) for length in lengths.tolist())
        c = mpmath.sqrt(x * y) * mpmath.cos(mpmath.mpf("1e-10"))
        for layer in range(200):
            x, y, c = (1.9 * v + mpmath.mpf(bias_variance) for v in (x, y, c))
            theta = mpmath.acos(c / mpmath.sqrt(x * y))
            c = mpmath.sqrt(x * y) * (mpmath.sin(theta) + (mpmath.pi - theta) * mpmath.cos(theta)) / (2 * mpmath.pi)
            x, y = x / 2, y / 2
            want = mpmath.acos(c / mpmath.sqrt(x * y))
            rounding_of_lengths = 1e-15 / 1e-10 if bias_variance else 0
            assert got.angle[layer, 0] == pytest.approx(float(want), rel=1e-13 + rounding_of_lengths)
            assert got.log_square[layer, 1] == pytest.approx(float(mpmath.log(y)), abs=1e-12)


@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize("distance", [1e-6, 1e-10])
def test_nearly_parallel_images_against_40_digits(distance: float, padding: str) -> None:
    """The relative error of the angle is rounding over the angle."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, 3, 3))
    images = np.stack([x, x + distance * rng.standard_normal((1, 3, 3))])
    got = limit.cnn(images, architecture(depth=3, side=3, padding=padding)).angle[:, 0]
    assert got == pytest.approx(precise_relu_cnn(images[:, 0], 3, padding), rel=1e-15 / distance)


@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-6])
def test_nearly_parallel_images_after_pooling(distance: float) -> None:
    """A linear layer of one pixel keeps the angle, so that of pooled images is the answer; rounding over its square."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 4, 4))
    images = np.stack([x, x + distance * rng.standard_normal((1, 4, 4))])
    pooled = images.reshape(2, 2, 2, 2, 2).mean((2, 4)).reshape(2, -1)
    units = pooled / np.sqrt((pooled * pooled).sum(1, keepdims=True))
    want = 2 * math.asin(math.sqrt(((units[0] - units[1]) ** 2).sum()) / 2)
    got = limit.cnn(images, architecture(depth=1, activation="linear", pool_layers=1)).angle[0, 0]
    assert got == pytest.approx(want, rel=1e-15 / want**2)


def precise_relu_cnn(images: np.ndarray, depth: int, padding: str) -> list[float]:
    with mpmath.workdps(40):
        x, y = (np.array([[mpmath.mpf(v) for v in row] for row in image.tolist()], object) for image in images)
        maps, angles = [x * x, y * y, x * y], []
        for _ in range(depth):
            mode: Any = "wrap" if padding == "circular" else "constant"
            wide = [np.pad(m, 1, mode=mode) for m in maps]
            boxes = [sum(m[r : r + 3, c : c + 3] for r in range(3) for c in range(3)) for m in wide]
            scale = np.vectorize(mpmath.sqrt, otypes=[object])(boxes[0] * boxes[1])
            theta = np.vectorize(mpmath.acos, otypes=[object])(boxes[2] / scale)
            kappa = [mpmath.sin(t) + (mpmath.pi - t) * mpmath.cos(t) for t in theta.ravel()]
            maps = [boxes[0], boxes[1], scale * np.array(kappa, object).reshape(3, 3) / mpmath.pi]
            sums = [m.sum() for m in maps]
            angles.append(float(mpmath.acos(sums[2] / mpmath.sqrt(sums[0] * sums[1]))))
    return angles


# --- depth, and inputs that are nothing --------------------------------------------------------------------


@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize(("weight_variance", "bias_variance"), [(0.01, 0.0), (50.0, 0.5)])
def test_a_thousand_layers_overflow_nowhere(activation: Any, weight_variance: float, bias_variance: float) -> None:
    a = architecture(
        activation=activation, depth=1000, weight_variance=weight_variance, bias_variance=bias_variance, slope=0.5
    )
    got = limit.fnn(np.array([0.0, 5.0]), HALF, a)
    assert all(np.isfinite(each).all() for each in got)
    assert np.all((got.angle >= 0) & (got.angle <= math.pi))
    per_layer = {"linear": 1, "relu": 0.5, "abs": 1, "leaky-relu": 0.625}.get(activation)
    if per_layer and not bias_variance:
        np.testing.assert_allclose(got.log_square[:, 0], np.arange(1, 1001) * math.log(weight_variance * per_layer))


@pytest.mark.parametrize("activation", ["relu", "relu2", "gelu"])
def test_a_deep_cnn_overflows_nowhere(activation: Any) -> None:
    a = architecture(activation=activation, depth=300, weight_variance=20.0, side=3, padding="zero", bias_variance=0.1)
    assert all(np.isfinite(each).all() for each in limit.cnn(IMAGES, a))


@pytest.mark.parametrize("activation", ["relu", "step", "tanh"])
def test_black_pixels_and_black_images(activation: Any) -> None:
    images = np.zeros((3, 1, 5, 5))
    images[0, 0, 1, 1], images[1, 0, 3, 4] = 1, 2
    got = limit.cnn(images, architecture(activation=activation, side=3, depth=2, padding="zero"))
    assert np.isfinite(got.log_square[:, :2]).all()
    assert np.isfinite(got.angle[:, 0]).all()
    assert np.isnan(got.log_square[:, 2]).all()
    assert np.isnan(got.angle[:, 1:]).all()
    assert np.isnan(got.cosine[:, 1:]).all()
    biased = limit.cnn(images, architecture(activation=activation, side=3, depth=2, bias_variance=0.1))
    assert all(np.isfinite(each).all() for each in biased)
    silent = limit.fnn(np.array([0.0, -np.inf]), HALF, architecture(activation=activation))
    assert np.isfinite(silent.log_square[:, 0]).all()
    assert np.isnan(silent.log_square[:, 1]).all()
    assert np.isnan(silent.angle).all()


def test_max_pooling_is_not_known() -> None:
    got = limit.cnn(IMAGES, architecture(side=3, pool="max", pool_layers=1))
    assert [each.shape for each in got] == [(4, 3)] * 3
    assert all(np.isnan(each).all() for each in got)
    assert np.isfinite(limit.cnn(IMAGES, architecture(side=3, pool="max")).angle).all()


# --- bounds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gaussian", "photo-raw", "photo-centred", "digits"])
def test_bounds_hold(family: Any) -> None:
    a = architecture(depth=1, side=3)
    for index in range(20):
        images = sets.inputs(family, 2, 16, -0.4, index)
        rho, w = bounds.alignment(images[0], images[1], a)
        out = limit.cnn(images, a).cosine[0, 0]
        lower, upper = bounds.bounds(rho)
        sharp_lower, sharp_upper = bounds.sharp_bounds(rho, w)
        assert abs(rho) <= w <= 1 + 1e-12
        assert lower - 1e-12 <= sharp_lower <= out + 1e-12
        assert out - 1e-12 <= sharp_upper <= upper + 1e-12


def test_bounds_are_attained() -> None:
    x, y = np.zeros((2, 1, 8, 8))
    x[0, :3], y[0, 4:7] = 1, 2  # patches of side 1: one of the two is always zero
    signs = np.where(np.arange(64).reshape(1, 8, 8) < 20, 1.0, -1.0)
    a = architecture(depth=1, side=1)
    apart, aligned = (limit.cnn(np.stack(both), a).cosine[0, 0] for both in ((x, y), (np.ones_like(signs), signs)))
    assert apart == pytest.approx(bounds.bounds(0.0)[0], abs=1e-12)
    assert aligned == pytest.approx(bounds.bounds(signs.mean())[1], abs=1e-12)


def test_alignment_of_many_images_and_of_none() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 4, 2, 6, 3))
    x[3] = 0
    a = architecture(side=3, padding="zero")
    together = bounds.alignment(x, y, a)
    one_by_one = [bounds.alignment(*each, a) for each in zip(x, y, strict=True)]
    np.testing.assert_array_equal(together, np.transpose(one_by_one))
    assert np.isnan(together[0][3])


def test_bounds_of_images_with_nothing_in_common() -> None:
    low, high = bounds.sharp_bounds([0.0, 0.0, np.nan], [0.0, 1.0, np.nan])
    np.testing.assert_allclose(low, [0, 1 / math.pi, np.nan], rtol=1e-15)
    np.testing.assert_array_equal(high, [0, 0.5, np.nan])
