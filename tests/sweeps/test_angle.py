"""The angle statistic: known answers, slow twins, laws; every tolerance is rounding or k standard errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from scipy.special import digamma
from torch.nn import functional

from sweeps.inputs import sets
from sweeps.networks import angles, gram, layers
from sweeps.statistic import Networks, Points
from sweeps.statistics import angle as module
from sweeps.statistics import get
from sweeps.theory import angle as theory

STATISTIC = get("angle")
FAMILIES = ["gaussian", "photo-raw", "photo-centred", "digits"]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def networks_of(n, *, key=1, varying=None, **values):
    """`n` networks, draws 0 to n - 1 of one key, at one point or along `varying`."""
    shared = STATISTIC.parameters(**values).model_dump()
    varying = {k: np.asarray(v) for k, v in (varying or {}).items()}
    points = Points({k: v for k, v in shared.items() if k not in varying}, varying, n)
    return Networks(points, np.full(n, key, np.uint64), np.arange(n, dtype=np.uint64))


def sampled(networks):
    return {k: np.asarray(v) for k, v in STATISTIC.sample(networks, "cpu").items()}


def limit(**values):
    return {k: v[0] for k, v in STATISTIC.theory(Points(STATISTIC.parameters(**values).model_dump())).items()}


def assert_mean(draws, expected, k=4.0, bias=0.0):
    """The mean of `draws` (axis 0) lies within k standard errors of `expected`."""
    error = np.abs(np.mean(draws, 0) - expected)
    assert np.all(error <= k * stats.sem(draws, axis=0) + bias), (np.mean(draws, 0), expected)


def assert_variance(draws, expected, k=4.0):
    assert_mean((draws - np.mean(draws)) ** 2, expected, k)


# --- theory ---------------------------------------------------------------------------------------------


def test_infinite_fnn_from_orthogonal_inputs():
    cosines = np.cos(theory.fnn_angles(math.pi / 2, 20, "relu"))
    known = {1: 0.318310, 2: 0.493731, 3: 0.604826, 5: 0.735946, 10: 0.871536, 20: 0.948428}
    for layer, value in known.items():
        assert cosines[layer - 1] == pytest.approx(value, abs=5e-7)


def test_infinite_linear_fnn_keeps_the_angle():
    np.testing.assert_array_equal(theory.fnn_angles(0.7, 3, "linear"), [0.7] * 3)


def slow_cnn_cosines(x, y, depth, side, padding, activation):
    """The per-pixel kernel recursion as nested loops, with the kernel in the form of Cho & Saul (2009)."""
    x, y = x.astype(float), y.astype(float)
    _, rows, cols = x.shape
    pairs = {"xx": (x, x), "yy": (y, y), "xy": (x, y)}
    maps = {k: [[(a[:, i, j] * b[:, i, j]).mean() for j in range(cols)] for i in range(rows)]
            for k, (a, b) in pairs.items()}  # fmt: skip
    out = []
    for _ in range(depth):
        new = {k: np.zeros((rows, cols)) for k in maps}
        for k in maps:
            for i, j, di, dj in np.ndindex(rows, cols, side, side):
                p, q = i + di - side // 2, j + dj - side // 2
                if padding == "circular":
                    new[k][i, j] += maps[k][p % rows][q % cols]
                elif 0 <= p < rows and 0 <= q < cols:
                    new[k][i, j] += maps[k][p][q]
        if activation == "relu":
            for i, j in np.ndindex(rows, cols):
                norms = math.sqrt(new["xx"][i, j] * new["yy"][i, j])
                theta = math.acos(max(-1, min(1, new["xy"][i, j] / norms))) if norms else math.pi
                j1 = math.sin(theta) + (math.pi - theta) * math.cos(theta)
                new["xy"][i, j] = norms * j1 / (2 * math.pi)
            new["xx"], new["yy"] = new["xx"] / 2, new["yy"] / 2
        maps = new
        sums = {k: np.sum(v) for k, v in maps.items()}
        out.append(sums["xy"] / math.sqrt(sums["xx"] * sums["yy"]))
    return np.array(out)


@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize(("family", "side"), [("gaussian", 3), ("photo-centred", 5), ("digits", 5)])
def test_infinite_cnn_against_loops(family, side, padding, activation):
    x, y = sets.inputs(family, 2, 7, 0.3, 4)
    how = {"side": side, "padding": padding, "activation": activation}
    np.testing.assert_allclose(
        theory.cnn_cosines(x, y, 4, **how), slow_cnn_cosines(x, y, 4, **how), rtol=1e-12, atol=1e-13
    )


def test_infinite_linear_cnn_keeps_the_angle_when_it_wraps_round():
    x, y = sets.inputs("photo-centred", 2, 9, 0, 2)
    cosines = theory.cnn_cosines(x, y, 3, side=3, padding="circular", activation="linear")
    np.testing.assert_allclose(cosines, limit(inputs="photo-centred", side=9, width=1, pair=2, depth=1)["cosine_in"])


def test_one_pixel_cnn_is_the_fnn():
    x = np.array([1.0, 2.0, -1.0]).reshape(3, 1, 1)
    y = np.array([0.5, -1.0, 1.0]).reshape(3, 1, 1)
    rho = theory.cosine_of(theory.start_kernels(x, y))
    cosines = theory.cnn_cosines(x, y, 5, side=1, padding="zero", activation="relu")
    np.testing.assert_allclose(cosines, np.cos(theory.fnn_angles(math.acos(rho), 5, "relu")), rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_hold(family):
    for index in range(20):
        x, y = sets.inputs(family, 2, 16, -0.4, index)
        rho, w = theory.alignment(x, y, side=3, padding="circular")
        out = theory.cnn_cosines(x, y, 1, side=3, padding="circular", activation="relu")[0]
        lower, upper = theory.bounds(rho)
        sharp_lower, sharp_upper = theory.sharp_bounds(rho, w)
        assert abs(rho) <= w <= 1 + 1e-12
        assert lower - 1e-12 <= sharp_lower <= out + 1e-12
        assert out - 1e-12 <= sharp_upper <= upper + 1e-12


def test_bounds_are_attained():
    x, y = np.zeros((2, 1, 8, 8))
    x[0, :3], y[0, 4:7] = 1, 2  # patches of side 1: one of the two is always zero
    signs = np.where(np.arange(64).reshape(1, 8, 8) < 20, 1.0, -1.0)
    apart = theory.cnn_cosines(x, y, 1, side=1, padding="zero", activation="relu")[0]
    aligned = theory.cnn_cosines(np.ones_like(signs), signs, 1, side=1, padding="zero", activation="relu")[0]
    assert apart == pytest.approx(theory.bounds(0.0)[0], abs=1e-12)
    assert aligned == pytest.approx(theory.bounds(signs.mean())[1], abs=1e-12)


# --- the direct sampler against slow twins --------------------------------------------------------------


@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("values", [
    {"network": "cnn", "inputs": "gaussian", "side": 5, "width": 7},
    {"network": "cnn", "inputs": "digits", "filter_side": 5, "width": 3},
    {"network": "cnn", "inputs": "photo-centred", "side": 4, "filter_side": 1, "width": 20},
    {"network": "fnn", "inputs": "photo-raw", "side": 4, "width": 33, "sampler": "direct"},
], ids=["gaussian", "digits", "photographs", "fnn"])  # fmt: skip
def test_direct_against_conv2d_in_float64(values, padding, activation):
    networks = networks_of(4, depth=3, padding=padding, activation=activation, **values)
    got = sampled(networks)
    p = STATISTIC.parameters(depth=3, padding=padding, activation=activation, **values)
    edge = (p.layer_side // 2,) * 4
    mode = "circular" if padding == "circular" else "constant"
    for i in range(4):
        hidden = torch.tensor(sets.inputs(p.inputs, 2, p.side, 0.5, 0).reshape(2, *p.image)).double()
        for layer in range(3):
            shape = (p.width, hidden.shape[1], p.layer_side, p.layer_side)
            weights = networks.normals(layer, p.width, math.prod(shape[1:]))[i].reshape(shape)
            hidden = functional.conv2d(functional.pad(hidden, edge, mode=mode), torch.from_numpy(weights).double())
            hidden = hidden.relu() if activation == "relu" else hidden
            x, y = hidden.flatten(1).numpy()
            cosine = x @ y / math.sqrt((x @ x) * (y @ y))
            assert got["cosine"][i, layer] == pytest.approx(cosine, abs=3e-6, nan_ok=True)
            assert math.cos(got["angle"][i, layer]) == pytest.approx(cosine, abs=3e-6, nan_ok=True)


@pytest.mark.parametrize("padding", ["circular", "zero"])
def test_one_layer_against_loops(padding):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, 3, 2, 4, 5)).astype(np.float32)  # (lane, channels, k, rows, cols)
    weights = rng.standard_normal((2, 2, 27)).astype(np.float32)
    got = layers.convolve(torch.from_numpy(images), torch.from_numpy(weights), 3, padding).numpy()
    filters = weights.reshape(2, 2, 3, 3, 3)
    want = np.zeros((2, 2, 2, 4, 5))
    for n, f, c, k, i, j, di, dj in np.ndindex(2, 2, 3, 2, 4, 5, 3, 3):
        p, q = i + di - 1, j + dj - 1
        if padding == "circular" or (0 <= p < 4 and 0 <= q < 5):
            want[n, f, k, i, j] += float(filters[n, f, c, di, dj]) * float(images[n, c, k, p % 4, q % 5])
    np.testing.assert_allclose(got, want, atol=1e-5)


# --- laws -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("correlation", [-0.6, 0.9])
def test_direct_and_gram_have_one_law(activation, correlation):
    values = {"width": 9, "depth": 3, "side": 2, "correlation": correlation, "activation": activation}
    direct = sampled(networks_of(4000, key=1, sampler="direct", **values))
    from_gram = sampled(networks_of(4000, key=2, sampler="gram", **values))
    np.testing.assert_array_equal(direct["cosine_in"], from_gram["cosine_in"])
    for layer in range(3):
        a, b = (d["angle"][:, layer] for d in (direct, from_gram))
        a, b = a[~np.isnan(a)], b[~np.isnan(b)]
        assert stats.ks_2samp(a, b).pvalue > 1e-3
        for power in (1, 2):
            error = math.hypot(stats.sem(a**power), stats.sem(b**power))
            assert abs(np.mean(a**power) - np.mean(b**power)) < 4 * error
    undefined = [np.isnan(d["cosine"]).mean(0) for d in (direct, from_gram)]
    np.testing.assert_allclose(*undefined, atol=4 * math.sqrt(2 * 2**-7 / 4000))


def inner_products(images, filters, side, padding, activation, n):
    """(1/N) <Fx, Fy> of `n` random layers, float64 (n,)."""
    lane = torch.tensor(images).expand(n, *images.shape).transpose(1, 2)
    networks = networks_of(n, width=1, depth=1)
    weights = torch.from_numpy(networks.normals(0, filters, images.shape[1] * side**2))
    out = layers.convolve(lane, weights, side, padding).double()
    x, y = (out.relu() if activation == "relu" else out).transpose(1, 2).flatten(2).unbind(1)
    return ((x * y).sum(-1) / filters).numpy()


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.8])
def test_relu_inner_product_is_exact_at_width_5(correlation):
    images = sets.inputs("gaussian", 2, 2, correlation, 0).reshape(2, 12, 1, 1) / np.float32(math.sqrt(12))
    draws = inner_products(images, 5, 1, "zero", "relu", 20_000)
    mean, variance = theory.relu_inner_product(math.acos(correlation), 5)
    assert_mean(draws, mean)
    assert_variance(draws, variance)


@pytest.mark.parametrize("padding", ["circular", "zero"])
def test_linear_cnn_inner_product_is_exact_at_3_filters(padding):
    images = sets.inputs("photo-centred", 2, 5, 0, 3)
    draws = inner_products(images, 3, 3, padding, "linear", 10_000) / 9
    mean, variance = theory.linear_cnn_inner_product(*images, 3, side=3, padding=padding)
    assert_mean(draws, mean)
    assert_variance(draws, variance)
    if padding == "circular":
        assert mean == pytest.approx(float((images[0].astype(float) * images[1]).sum()))


@pytest.mark.parametrize("width", [4, 100])
def test_linear_fnn_cosine(width):
    draws = sampled(networks_of(20_000, width=width, depth=1, activation="linear", correlation=0.6))["cosine"][:, 0]
    mean, variance = theory.linear_cosine(0.6, width)
    assert_mean(draws, mean)
    if width == 100:
        assert np.var(draws) == pytest.approx(variance, rel=0.06)


@pytest.mark.parametrize("width", [16, 256])
def test_linear_cnn_keeps_the_angle_up_to_one_over_root_n(width):
    values = {"network": "cnn", "inputs": "photo-centred", "side": 6, "activation": "linear"}
    got = sampled(networks_of(200, width=width, depth=1, **values))
    error = got["cosine"][:, 0] - got["cosine_in"]
    images = sets.inputs("photo-centred", 2, 6, 0.5, 0)
    norms = [theory.linear_cnn_inner_product(x, x, width, side=3, padding="circular") for x in images]
    relative = [math.sqrt(variance) / mean for mean, variance in norms]
    assert np.sqrt(np.mean(error**2)) < 2 * sum(relative)  # each relative error is O(1/sqrt(N))
    assert max(relative) < 8 / math.sqrt(width)


def test_relu_cosine_at_width_256():
    draws = sampled(networks_of(20_000, width=256, depth=1, correlation=0.0))["cosine"][:, 0]
    mean, variance = theory.relu_cosine(math.pi / 2, 256)
    assert mean == pytest.approx((1 + 0.75 / 256) / math.pi)
    assert variance == pytest.approx(0.5441 / 256, rel=1e-4)
    assert_mean(draws, mean, bias=1 / 256**2)
    assert np.var(draws) == pytest.approx(variance, rel=0.04 + 10 / 256)


@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize("inputs", ["photo-centred", "digits"])
def test_wide_cnn_meets_the_recursion(inputs, padding):
    values = {"network": "cnn", "inputs": inputs, "side": 8, "width": 256, "depth": 3, "padding": padding}
    got, wide = sampled(networks_of(32, pair=5, **values)), limit(pair=5, **values)
    np.testing.assert_array_equal(got["cosine_in"], wide["cosine_in"])
    bias = np.arange(1, 4) / 256  # O(1/N) a layer
    assert_mean(got["cosine"], wide["cosine"], bias=bias)
    assert np.all(np.abs(wide["cosine"] - wide["cosine_in"]) > 4 * bias)  # a network that did nothing would fail


def test_wide_fnn_meets_the_map_at_depth_200():
    got = sampled(networks_of(24, width=8192, depth=200, correlation=-0.5))
    wide = limit(width=8192, depth=200, correlation=-0.5)
    ratio = np.log(got["angle"] / wide["angle"])
    assert_mean(ratio[:, [0, 9, 49, 199]], 0, bias=4 * 200 / 8192)


def test_nearly_parallel_inputs_at_depth_200():
    """Layer by layer, theta is multiplied by sqrt(chi2(n - 1)/chi2(n)), n ~ Binomial(N, 1/2), up to O(theta).

    The map itself changes an angle of 1e-6 by 2e-5 of it over 200 layers.
    """
    width, depth, lane = 512, 200, 128
    networks = networks_of(lane, width=width, depth=depth)
    theta = np.full(lane, 1e-6)
    how = {"width": width, "depth": depth, "activation": "relu"}
    cosines, thetas = gram.angles_by_layer(theta, networks.normals, **how)
    n = np.arange(2, width + 1)
    step = (digamma((n - 1) / 2) - digamma(n / 2)) / 2
    drift = depth * (stats.binom(width, 0.5).pmf(n) * step).sum()
    change = np.log(thetas[:, -1] / theory.fnn_angles(1e-6, depth, "relu")[-1])
    assert_mean(change, drift)
    assert np.std(change) == pytest.approx(math.sqrt(2 * depth / width), rel=0.3)
    assert np.all(cosines <= 1)


def test_gram_recursion_against_long_doubles():
    """The same normals in 80-bit arithmetic; a cancelling float64 formula would lose half of the digits."""
    networks = networks_of(3, width=64, depth=30)
    theta = np.full(3, 1e-6)
    how = {"width": 64, "depth": 30, "activation": "relu"}
    _, thetas = gram.angles_by_layer(theta, networks.normals, **how)
    slow = np.full(3, 1e-6, np.longdouble)
    for layer in range(30):
        g = networks.normals(layer, 2, 64).astype(np.longdouble)
        x = np.maximum(g[:, 0], 0)
        y = np.maximum(np.cos(slow)[:, None] * g[:, 0] + np.sin(slow)[:, None] * g[:, 1], 0)
        u, v = (z / np.sqrt((z * z).sum(-1, keepdims=True)) for z in (x, y))
        slow = 2 * np.arcsin(np.sqrt(((u - v) ** 2).sum(-1)) / 2)
        np.testing.assert_allclose(thetas[:, layer], slow.astype(float), rtol=1e-8)


@pytest.mark.parametrize("theta", [1e-9, 1e-4, 1.0, math.pi - 1e-9])
def test_angle_between(theta):
    x = torch.tensor([3.0, 0.0], dtype=torch.float64)
    y = torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64) / 7
    cosine, angle = angles.between(x, y)
    assert float(angle) == pytest.approx(theta, rel=1e-7 if theta < 1 else 1e-14)
    assert float(cosine) == pytest.approx(math.cos(theta), abs=1e-15)


def test_equal_and_opposite_inputs():
    same = sampled(networks_of(4, width=50, depth=5, correlation=1.0))
    np.testing.assert_array_equal(same["angle"], 0)
    np.testing.assert_array_equal(same["cosine"], 1)
    opposite = sampled(networks_of(4, width=50, depth=5, correlation=-1.0, activation="linear"))
    np.testing.assert_allclose(opposite["angle"], math.pi, atol=1e-14)


@pytest.mark.parametrize("sampler", ["direct", "gram"])
def test_dead_networks_are_undefined(sampler):
    """At width 1 both images are alive after l layers with probability (pi - theta)/(2 pi) 2^(1 - l)."""
    got = sampled(networks_of(4000, width=1, depth=3, side=2, correlation=0.0, sampler=sampler))
    alive = ~np.isnan(got["cosine"])
    np.testing.assert_array_equal(alive, ~np.isnan(got["angle"]))
    np.testing.assert_allclose(got["cosine"][alive], 1, atol=1e-14)
    assert np.all(alive[:, 1:] <= alive[:, :-1])
    for layer, p in enumerate([1 / 4, 1 / 8, 1 / 16]):
        assert abs(alive[:, layer].mean() - p) < 4 * math.sqrt(p * (1 - p) / 4000)
    assert not np.isnan(got["cosine_in"]).any()


# --- promises of the sampler ----------------------------------------------------------------------------


@pytest.mark.parametrize("values", [
    {"width": 37, "depth": 4, "sampler": "gram"},
    {"width": 37, "depth": 3, "side": 3, "sampler": "direct"},
    {"width": 130, "depth": 2, "side": 5, "sampler": "direct"},
    {"width": 9, "depth": 3, "side": 7, "network": "cnn"},
    {"width": 24, "depth": 2, "side": 8, "network": "cnn", "inputs": "photo-raw", "padding": "zero"},
], ids=["gram", "fnn", "wide fnn", "cnn", "zero-padded cnn"])  # fmt: skip
def test_bits_do_not_depend_on_the_slot(values):
    n = 16
    rng = np.random.default_rng(0)
    varying = {"correlation": rng.choice([-0.3, 0.2, 0.7], n), "pair": rng.integers(0, 3, n)}
    networks = networks_of(n, varying=varying, **values)
    first = sampled(networks)
    orders = [*rng.integers(0, n, (3, n)), np.full(n, 5), np.full(n, 11)]  # other slots, neighbours, repeats
    for order in orders:
        moved = Networks(networks.points.take(order), networks.keys[order], networks.draws[order])
        for name, got in sampled(moved).items():
            np.testing.assert_array_equal(got, first[name][order])


def test_a_lane_builds_each_different_pair_once(monkeypatch):
    asked = []
    module._angle_in.cache_clear()
    make = sets.inputs
    monkeypatch.setattr(sets, "inputs", lambda *a: asked.append(a) or make(*a))
    varying = {"correlation": [0.1, 0.2, 0.1, 0.2], "pair": [0, 0, 0, 1]}
    sampled(networks_of(4, width=3, depth=1, side=2, varying=varying))
    assert asked == [("gaussian", 2, 2, 0.1, 0), ("gaussian", 2, 2, 0.2, 0), ("gaussian", 2, 2, 0.2, 1)]


def test_outcomes_have_the_declared_shape_and_theory():
    varying = {"correlation": [0.0, 0.5], "pair": [0, 1]}
    networks = networks_of(2, width=6, depth=3, side=4, network="cnn", varying=varying)
    got, predicted = sampled(networks), STATISTIC.theory(networks.points)
    for outcome in STATISTIC.outcomes:
        shape = (2, *(3 for _ in outcome.dims))
        assert got[outcome.name].shape == predicted[outcome.name].shape == shape
    np.testing.assert_array_equal(got["cosine_in"], predicted["cosine_in"])
    np.testing.assert_allclose(np.cos(predicted["angle"]), predicted["cosine"])


@pytest.mark.parametrize("values", [
    {"width": 1}, {"width": 1024}, {"width": 2**20}, {"width": 1024, "sampler": "direct"},
    {"width": 64, "network": "cnn"}, {"width": 1024, "network": "cnn"},
])  # fmt: skip
def test_lanes_are_powers_of_two_below_one_gib(values):
    p = STATISTIC.parameters(depth=5, **values)
    width = STATISTIC.lane(p)
    assert width & (width - 1) == 0 < width <= 256
    assert width * STATISTIC.memory(p) < 2**30
    assert STATISTIC.lane(p.model_copy(update={"correlation": 0.9, "pair": 7})) == width
    assert 0 < STATISTIC.cost(p) < 60


@pytest.mark.parametrize(("values", "message"), [
    ({"network": "cnn", "sampler": "gram"}, "use 'direct' or 'auto'"),
    ({"network": "cnn", "filter_side": 4}, "must be odd, got 4; use 5"),
    ({"network": "cnn", "inputs": "digits", "filter_side": 9}, r"larger than the image \(8 pixels\)"),
    ({"width": 200_000, "sampler": "direct"}, "smaller width or sampler 'gram'"),
    ({"correlation": 1.1}, "less than or equal to 1"),
    ({"inputs": "cifar"}, "photo-centred"),
    ({"inputs": "parallel-patches", "correlation": -0.5}, "need 0 <= correlation < 1, got -0.5"),
    ({"inputs": "file"}, "needs path"),
])  # fmt: skip
def test_impossible_parameters_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        STATISTIC.parameters(**{"width": 4, "depth": 2, **values})
