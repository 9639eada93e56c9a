"""The angle statistic: known answers, exact means, limits, what it refuses. Samplers, theory and inputs have files of
their own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torch.nn import functional

from sweeps.blocks import plan
from sweeps.inputs import sets
from sweeps.measure import sample_block
from sweeps.statistic import Networks, Points
from sweeps.statistics import _network, get
from sweeps.sweep import Sweep
from sweeps.theory import finite

STATISTIC = get("angle")
FAMILIES = ["gaussian", "photo-raw", "photo-centred", "digits", "rectangles", "blobs"]


pytestmark = pytest.mark.usefixtures("one_thread")


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


def exact(**values):
    return STATISTIC.exact(Points(STATISTIC.parameters(**values).model_dump()))


def assert_mean(draws, expected, k=4.0, bias=0.0):
    """The mean of `draws` (axis 0) lies within k standard errors of `expected`."""
    error = np.abs(np.nanmean(draws, 0) - expected)
    assert np.all(error <= k * stats.sem(draws, axis=0, nan_policy="omit") + bias), (np.nanmean(draws, 0), expected)


# --- by hand ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("padding", ["circular", "zero"])
def test_outcomes_by_hand(padding, activation):
    values = {"network": "cnn", "inputs": "photo-centred", "side": 6, "width": 5, "depth": 2, "sampler": "direct"}
    values |= {"padding": padding, "activation": activation, "bias_variance": 0.3, "weight_variance": 1.5, "pair": 3}
    got = sampled(networks_of(3, **values))
    images = torch.tensor(sets.inputs("photo-centred", 2, 6, 0.0, 3)).double()
    phi = {"relu": torch.relu, "tanh": torch.tanh}[activation]
    x, y = images.flatten(1).numpy()
    for i in range(3):
        h = images
        for layer in range(2):
            h = one_layer(h, values, layer, draw=i)
            h = phi(h)
            u, v = h.flatten(1).numpy()
            cosine = u @ v / math.sqrt((u @ u) * (v @ v))
            ratio = (u * u).mean() / (x * x).mean()
            distortion = ((u * v).mean() - (x * y).mean()) / math.sqrt((x * x).mean() * (y * y).mean())
            want = {"cosine": cosine, "angle": math.acos(cosine), "log_sin2": math.log(1 - cosine**2),
                    "norm_ratio": ratio, "distortion": distortion}  # fmt: skip
            for name, value in want.items():
                assert got[name][i, layer] == pytest.approx(value, rel=2e-5, abs=2e-5), (name, i, layer)
    np.testing.assert_allclose(got["cosine_in"], x @ y / math.sqrt((x @ x) * (y @ y)), rtol=1e-6)


def one_layer(h, values, layer, draw):
    """Pre-activations of a draw's layer, its weights from the very words of the direct sampler."""
    from sweeps.networks import weights

    p = STATISTIC.parameters(**values)
    networks = networks_of(draw + 1, **values)
    fan_in = h.shape[1] * 9
    w = weights.weights(networks, "cpu", layer, fan_in, p.architecture)[draw].double()
    b = weights.biases(networks, "cpu", layer, p.width)[draw].double()
    edge, mode = (1,) * 4, "circular" if values["padding"] == "circular" else "constant"
    wide = functional.pad(h, edge, mode=mode)
    z = functional.conv2d(wide, w.reshape(p.width, -1, 3, 3)) * math.sqrt(p.weight_variance / fan_in)
    return z + math.sqrt(p.bias_variance) * b[None, :, None, None]


# --- exact means --------------------------------------------------------------------------------------------

EXACT = {
    "relu": {"width": 5, "depth": 3},
    "narrow": {"width": 1, "depth": 1},  # half of the networks are dead
    "leaky, biased": {"width": 4, "depth": 3, "activation": "leaky-relu", "slope": -0.4, "bias_variance": 0.5},
    "gelu": {"width": 5, "depth": 2, "activation": "gelu", "bias_variance": 0.2},
    "abs, zero padding": {"network": "cnn", "width": 3, "depth": 2, "activation": "abs", "padding": "zero"},
    "relu cnn": {"network": "cnn", "width": 3, "depth": 2, "inputs": "digits"},
    "tanh cnn, pooled": {"network": "cnn", "width": 3, "depth": 2, "activation": "tanh", "side": 8, "pool_layers": 1},
    "linear, pooled": {"network": "cnn", "width": 3, "depth": 2, "activation": "linear", "pool_layers": 2,
                       "side": 8, "padding": "zero"},
    "linear, student": {"width": 4, "depth": 2, "activation": "linear", "weights": "student", "freedom": 10},
    "leaky, orthogonal": {"width": 30, "depth": 2, "activation": "leaky-relu", "weights": "orthogonal"},
    "relu, rademacher": {"width": 6, "depth": 2, "weights": "rademacher"},
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_means_are_exact_where_it_is_said(name):
    values = {"side": 4, "correlation": -0.3, "weight_variance": 1.5, "sampler": "direct"} | EXACT[name]
    got, theory, holds = sampled(networks_of(6000, **values)), limit(**values), exact(**values)
    assert holds["norm_ratio"].any()
    for outcome in ("norm_ratio", "distortion", "cosine"):
        assert_mean(got[outcome][:, holds[outcome]], theory[outcome][holds[outcome]])
    for outcome in ("cosine_in", "alignment", "lower_bound", "upper_bound"):
        np.testing.assert_array_equal(got[outcome], np.full(6000, theory[outcome]))


def test_what_is_not_said_to_be_exact_is_not():
    assert not exact(width=4, depth=2, network="cnn", pool="max", pool_layers=1)["norm_ratio"].any()
    assert exact(width=4, depth=2, activation="tanh")["distortion"].tolist() == [True, False]
    assert not exact(width=4, depth=1, weights="student")["distortion"].any()
    assert not exact(width=4, depth=1, weights="student", freedom=4.0)["norm_ratio"].any()
    assert not exact(width=4, depth=1, weights="orthogonal", activation="linear")["norm_ratio"].any()
    values = {"width": 4, "depth": 2, "activation": "relu", "correlation": 0.0}
    off = sampled(networks_of(20_000, **values))["distortion"][:, 1]
    assert abs(off.mean() - limit(**values)["distortion"][1]) > 4 * stats.sem(off)


@pytest.mark.parametrize("width", [4, 100])
def test_linear_fnn_cosine(width):
    draws = sampled(networks_of(20_000, width=width, depth=1, activation="linear", correlation=0.6))["cosine"][:, 0]
    _, variance = finite.linear_cosine(0.6, width)
    assert_mean(draws, limit(width=width, depth=1, activation="linear", correlation=0.6)["cosine"][0])
    if width == 100:
        assert np.var(draws) == pytest.approx(variance, rel=0.06)


# --- asymptotic laws and limits -----------------------------------------------------------------------------


def test_relu_cosine_at_width_256():
    draws = sampled(networks_of(20_000, width=256, depth=1, correlation=0.0))["cosine"][:, 0]
    mean, variance = finite.cosine("relu", math.pi / 2, 256)
    assert mean == pytest.approx((1 + 0.75 / 256) / math.pi)
    assert variance == pytest.approx(0.5441 / 256, rel=1e-4)
    assert_mean(draws, mean, bias=1 / 256**2)
    assert np.var(draws) == pytest.approx(variance, rel=0.04 + 10 / 256)


def test_log_sin2_over_depth():
    values = {"width": 256, "depth": 10, "correlation": 0.0}
    got, theory = sampled(networks_of(4000, **values))["log_sin2"], limit(**values)["log_sin2"]
    assert_mean(got, theory, bias=0.002)
    wide = 2 * np.log(np.sin(limit(**values)["angle"]))
    assert abs(got[:, -1].mean() - wide[-1]) > 0.02  # infinite width is further off


@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize("inputs", ["photo-centred", "digits"])
def test_wide_cnn_meets_the_recursion(inputs, padding):
    values = {"network": "cnn", "inputs": inputs, "side": 8, "width": 256, "depth": 3, "padding": padding}
    got, wide = sampled(networks_of(32, pair=5, **values)), limit(pair=5, **values)
    np.testing.assert_array_equal(got["cosine_in"], wide["cosine_in"])
    bias = np.arange(1, 4) / 256  # O(1/N) a layer
    assert_mean(got["cosine"], wide["cosine"], bias=bias)
    assert np.all(np.abs(wide["cosine"] - wide["cosine_in"]) > 4 * bias)  # a network that did nothing would fail


@pytest.mark.parametrize("weights", ["gaussian", "uniform", "rademacher", "student", "orthogonal", "sparse"])
def test_wide_networks_of_any_law_meet_one_limit(weights):
    values = {"width": 512, "depth": 2, "side": 8, "sampler": "direct", "weights": weights, "correlation": -0.2}
    assert_mean(sampled(networks_of(48, **values))["cosine"], limit(**values)["cosine"], bias=4 / 512)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wide_layer_lies_within_the_bounds(family):
    values = {"network": "cnn", "inputs": family, "side": 16, "correlation": -0.4, "width": 1, "depth": 1}
    for pair in range(8):
        wide = limit(pair=pair, **values)
        rho = wide["cosine_in"]
        assert abs(rho) <= wide["alignment"] <= 1 + 1e-12
        assert max(rho, 0) - 1e-12 <= wide["lower_bound"] <= wide["cosine"][0] + 1e-12
        assert wide["cosine"][0] - 1e-12 <= wide["upper_bound"] <= (1 + rho) / 2 + 1e-12


def test_where_the_bounds_say_nothing():
    for changes in ({"activation": "tanh"}, {"bias_variance": 0.1}, {"pool_layers": 1}):
        wide = limit(network="cnn", width=4, depth=1, side=8, inputs="photo-raw", **changes)
        assert np.isnan([wide["lower_bound"], wide["upper_bound"]]).all()
        assert 0 < wide["alignment"] < 1
    assert limit(width=4, depth=1)["alignment"] == 1


def test_curves_are_met_by_wide_layers():
    curves = {c.label: c for c in STATISTIC.curves}
    assert set(c.parameter for c in curves.values()) == {"cosine_in"}
    rho = np.linspace(-1, 1, 9)
    for value, expected in zip(rho, curves["fully connected, N to infinity"].values(rho), strict=True):
        assert limit(width=1, depth=1, correlation=value)["cosine"][0] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(curves["lower bound max(rho, 0)"].values(rho), np.maximum(rho, 0))
    np.testing.assert_allclose(curves["upper bound (1 + rho)/2"].values(rho), (1 + rho) / 2)


# --- draws --------------------------------------------------------------------------------------------------


def test_a_dead_network():
    got = sampled(networks_of(4000, width=1, depth=1, correlation=0.0))
    dead = np.isnan(got["cosine"][:, 0])
    assert dead.mean() == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / 4000))
    np.testing.assert_array_equal(np.isnan(got["angle"][:, 0]), dead)
    np.testing.assert_array_equal(got["distortion"][dead, 0], 0)  # less rho, which is 0
    assert np.mean(got["norm_ratio"][:, 0] == 0) == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 4000))


@pytest.mark.parametrize("sampler", ["direct", "gram"])
def test_activations_that_are_nearly_nothing_come_to_life_by_a_bias(sampler):
    """gelu of a single neuron at -13 is 1e-38, at the end of float32; nothing of it may become infinite."""
    values = {"width": 1, "depth": 6, "activation": "gelu", "side": 4, "weight_variance": 60.0, "bias_variance": 1.0}
    got = sampled(networks_of(2000, sampler=sampler, **values))
    alive = ~np.isnan(got["cosine"])
    assert not alive[:, 0].all()
    late = alive[~alive[:, 0]]
    assert late[:, -1].any()  # a bias wakes them


def test_equal_and_opposite_inputs():
    same = sampled(networks_of(4, width=50, depth=5, correlation=1.0))
    np.testing.assert_array_equal(same["angle"], 0)
    np.testing.assert_array_equal(same["cosine"], 1)
    assert np.isnan(same["log_sin2"]).all()
    opposite = sampled(networks_of(4, width=50, depth=5, correlation=-1.0, activation="linear"))
    np.testing.assert_allclose(opposite["angle"], math.pi, atol=1e-14)


def test_what_leaves_the_range_of_floats_is_undefined():
    got = sampled(networks_of(4, width=50, depth=600, activation="linear", weight_variance=100.0))
    assert np.isnan(got["norm_ratio"][:, -1]).all()
    assert np.isfinite(got["cosine"]).all()
    assert np.isfinite(got["norm_ratio"][:, 100]).all()


def test_points_of_a_lane_keep_their_inputs():
    correlations = np.repeat([0.9, -0.5, 0.1], 2)
    both = sampled(networks_of(6, width=64, depth=1, network="cnn", side=4, varying={"correlation": correlations}))
    np.testing.assert_allclose(both["cosine_in"], correlations, atol=1e-6)
    alone = sampled(networks_of(6, width=64, depth=1, network="cnn", side=4, correlation=-0.5))
    np.testing.assert_array_equal(both["cosine"][2:4], alone["cosine"][2:4])


def test_no_image_is_made_where_the_angle_is_all_that_matters(monkeypatch):
    def made(*_):
        raise AssertionError

    monkeypatch.setattr(sets, "inputs", made)
    sampled(networks_of(3, width=8, depth=2, varying={"correlation": np.array([0.11, 0.12, 0.13])}))
    limit(width=8, depth=2, correlation=0.14)


@pytest.mark.parametrize(("values", "chosen"), [
    ({"width": 2}, "gram"),
    ({"width": 1}, "direct"),
    ({"width": 2, "weights": "uniform"}, "direct"),
    ({"width": 2, "sampler": "direct"}, "direct"),
    ({"network": "cnn", "inputs": "digits", "width": 142}, "direct"),
    ({"network": "cnn", "inputs": "digits", "width": 143}, "gram"),
    ({"network": "cnn", "inputs": "digits", "width": 16, "sampler": "gram"}, "gram"),
])  # fmt: skip
def test_which_sampler(values, chosen):
    """A rule that decides a draw's numbers: another one is another version of the randomness rule."""
    assert STATISTIC.parameters(depth=1, **values).chosen == chosen


def test_images_of_a_user(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "mine.npy", images)
    spec = {"name": "mine", "statistic": "angle", "draws": 2, "draws_per_batch": 2,
            "axes": {"pair": [0, 1, 2], "network": ["fnn", "cnn"]},
            "fixed": {"inputs": "file", "path": str(tmp_path / "mine.npy"), "width": 8, "depth": 1}}  # fmt: skip
    sweep = Sweep.of(spec)
    assert "#shape=6x1x8x8&sha256=" in sweep.fixed["path"]
    found = np.concatenate([sample_block(sweep, block)["cosine_in"].ravel() for block in plan(sweep)])
    flat = images.reshape(6, -1) / 255
    known = [x @ y / math.sqrt((x @ x) * (y @ y)) for i, x in enumerate(flat) for y in flat[i + 1 :]]
    assert np.all(np.abs(found[:, None] - known).min(1) < 1e-6)
    assert len(np.unique(found.round(9))) == 3


def test_a_black_image_is_named(tmp_path):
    np.save(tmp_path / "black.npy", np.zeros((2, 1, 8, 8)))
    values = {"inputs": "file", "path": str(tmp_path / "black.npy"), "width": 4, "depth": 1}
    with pytest.raises(ValidationError, match='path is for inputs = "file", and inputs is "gaussian"; leave it out'):
        STATISTIC.parameters(**values | {"inputs": "gaussian"})
    with pytest.raises(ValueError, match=r"input 0 of set 0 is zero everywhere .* out of '.*black.npy'"):
        sampled(networks_of(2, **values))
    assert np.isnan(limit(**values)["cosine"]).all()


@pytest.mark.parametrize(("values", "said"), [
    ({"network": "cnn", "filter_side": 4}, "filter_side must be odd, got 4; use 5"),
    ({"network": "cnn", "inputs": "digits", "filter_side": 9}, "filter_side 9 is larger than the image that a layer"),
    ({"network": "cnn", "side": 12, "pool_layers": 3, "depth": 3}, "use fewer, or a side that is a multiple of 8"),
    ({"network": "cnn", "side": 8, "pool_layers": 2, "depth": 3}, "filter_side 3 is larger than the image that"),
    ({"sampler": "gram", "weights": "sparse"}, "is for weights \"gaussian\", got \"sparse\"; use \"direct\" or"),
    ({"width": 2**17, "sampler": "direct", "depth": 2}, "use a smaller width, or sampler = \"gram\""),
    ({"width": 2**17, "weights": "uniform", "depth": 2}, "more than 4; use a smaller width"),
    ({"inputs": "file"}, "path"),
    ({"inputs": "blobs", "side": 30}, "cell must divide side 30"),
    ({"freedom": 2.0}, "greater than or equal to 3"),
    ({"network": "cnn", "side": 256, "pool_layers": 4, "depth": 4}, "theory of 2 inputs of 256 x 256 pixels"),
])  # fmt: skip
def test_what_cannot_be_is_refused(values, said):
    with pytest.raises(ValidationError) as caught:
        STATISTIC.parameters(**{"width": 4, "depth": 2} | values)
    assert said in str(caught.value)


def test_layers_that_see_the_smallest_image_only_pool_it():
    p = STATISTIC.parameters(network="cnn", width=4, depth=2, side=8, pool_layers=2)  # 8, then 4, which is then pooled
    assert p.architecture.pool_layers == 2
    assert sampled(networks_of(2, network="cnn", width=4, depth=2, side=8, pool_layers=2))["cosine"].shape == (2, 2)


def test_cached_limits_tell_points_apart():
    a, b = (STATISTIC.parameters(width=4, depth=1, correlation=rho) for rho in (0.1, 0.2))
    assert _network.limit_of(a).cosine[0, 0] != _network.limit_of(b).cosine[0, 0]
    wide = STATISTIC.parameters(width=99, depth=1, correlation=0.1)
    assert _network.limit_of(wide) is _network.limit_of(a)
