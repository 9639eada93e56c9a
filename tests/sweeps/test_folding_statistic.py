"""The statistic `folding`: its draws against slow patterns, its theory against its draws."""

import math

import numpy as np
import pytest

from sweeps import randomness
from sweeps.inputs import labelled, sets
from sweeps.intervals import deviation
from sweeps.networks.initial import initial
from sweeps.statistic import Networks, Points
from sweeps.statistics.folding import STATISTIC as FOLDING
from sweeps.statistics.folding import SUBSET, FoldingParameters
from sweeps.theory import folding_exact

VARYING = ("angle", "bias_variance", "scale", "correlation", "pair", "share")


def networks(draws, **given):
    """Draws of one point."""
    values = FoldingParameters(**given).model_dump()
    key = np.array([randomness.key(0, "folding", values)] * draws, dtype=np.uint64)
    varying = {name: np.full(draws, values.pop(name)) for name in VARYING}
    return Networks(Points(values, varying, draws), key, np.arange(draws, dtype=np.uint64))


def sample(draws, **given):
    return FOLDING.sample(networks(draws, **given), "cpu")


def theory(**given):
    point = Points(FoldingParameters(**given).model_dump())
    return {k: v[0] for k, v in FOLDING.theory(point).items()}, FOLDING.exact(point)


def patterns(p, packed, path, places):
    """Bits (places, neurons) of a fully connected network at places of a path, by plain products."""
    piece = np.minimum(places.astype(int), len(path) - 2)
    h = path[piece] + (places - piece)[:, None] * (path[piece + 1] - path[piece])
    bits = []
    for weights, biases in [layer for layer in p.layered.unpack(packed) if layer]:
        z = h @ weights + biases
        bits.append(z > 0)
        h = np.where(z > 0, z, p.layered.slope * z)
    return np.concatenate(bits, axis=1)


def chi_of(path):
    r1 = (path != path[0]).sum(1).max()
    r2 = (path[1:] != path[:-1]).sum()
    return (1 - r1 / r2 if r2 else 0.0), r1, r2


@pytest.mark.parametrize(
    "given",
    [
        {"angle": 2.0, "bias_variance": 0.3},
        {"inputs": "digits", "pair": 7, "points": 3, "classes": "within", "initialisation": "orthogonal"},
        {"inputs": "photo-centred", "side": 4, "activation": "abs", "initialisation": "xavier", "scale": 2.0},
        {"activation": "leaky-relu", "slope": 0.3, "points": 4, "angle": 1.0, "bias_variance": 0.1},
    ],
)
def test_draws_are_what_dense_patterns_say(given):
    given = {"width": 5, "depth": 3, "layers": 4, "joins": 3, "samples": 40, "share": 0.6, **given}
    p, draws = FoldingParameters(**given), networks(3, **given)
    found = FOLDING.sample(draws, "cpu")
    packed = initial(draws, p.layered, p.initialisation, draws.column("scale"), draws.column("bias_variance"))
    kept = draws.words(SUBSET, 15) < 0.6 * 2**32
    length = p.points - 1
    for i in range(3):
        at = np.linspace(0, length, 240_001 if length == 1 else 600_001)
        path = points_of(p)
        bits = patterns(p, packed[i], path, at)
        where = np.flatnonzero((bits[1:] != bits[:-1]).any(1))
        short = bits[np.concatenate([[0], where + 1])]
        assert (found["chi"][i], found["r1"][i], found["r2"][i]) == pytest.approx(chi_of(short))
        assert found["breakpoints"][i] == len(where)
        assert found["regions"][i] == len(np.unique(short, axis=0))
        assert found["chi_reversed"][i] == pytest.approx(chi_of(short[::-1])[0])
        assert found["chi_subset"][i] == pytest.approx(chi_of(short[:, kept[i]])[0])
        seen = patterns(p, packed[i], path, np.linspace(0, length, 40))
        assert found["chi_sampled"][i] == pytest.approx(chi_of(seen)[0])
        for layer in range(3):
            assert found["chi_of_layer"][i, layer] == pytest.approx(chi_of(short[:, 5 * layer : 5 * layer + 5])[0])
            assert found["chi_to_layer"][i, layer] == pytest.approx(chi_of(short[:, : 5 * layer + 5])[0])
        for join in range(3):
            cut = (len(at) - 1) * (join + 1) // 4
            parts = chi_of(bits[: cut + 1])[0] + chi_of(bits[cut:])[0]
            assert found["interaction"][i, join] == pytest.approx(abs(found["chi"][i] - parts), abs=1e-12)
    assert np.isnan(found["chi_of_layer"][:, 3]).all()
    assert np.isnan(found["arc"][:, 3]).all()


def points_of(p):
    if p.inputs == "plane":
        places = (np.arange(p.points) - (p.points - 1) / 2) * p.angle
        return np.sqrt(2) * np.stack([np.cos(places), np.sin(places)], axis=1)
    if p.classes != "any":
        images = labelled.members("digits", "", p.points, p.classes, p.pair)
    else:
        images = sets.inputs(p.inputs, p.points, p.side, p.correlation, p.pair, p.cell, p.path)
    return images.reshape(p.points, -1).astype(float)


def test_phi_is_the_median_of_chi_if_folded():
    found = sample(500, width=4, depth=3)
    chi = found["chi"]
    np.testing.assert_array_equal(found["chi_if_folded"][chi > 0], chi[chi > 0])
    np.testing.assert_array_equal(np.isnan(found["chi_if_folded"]), chi == 0)
    np.testing.assert_array_equal(found["folded"], chi > 0)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"bias_variance": 0.5},
        {"initialisation": "orthogonal"},
        {"initialisation": "xavier", "bias_variance": 0.2, "scale": 1.5},
        {"activation": "abs"},
        {"activation": "leaky-relu", "slope": 0.2},
        {"inputs": "digits", "classes": "between", "points": 3},
        {"depth": 1, "bias_variance": 0.5},
        {"depth": 1, "bias_variance": 0.5, "initialisation": "xavier", "inputs": "photo-raw", "side": 4},
        {"depth": 1, "initialisation": "orthogonal", "points": 3},
    ],
)
def test_means_lie_where_exact_theory_says(given):
    given = {"width": 6, "depth": 3, "layers": 3, "angle": 1.3, **given}
    found, (expected, exact) = sample(1000, **given), theory(**given)
    assert set(exact) <= set(expected) <= set(found)
    judged = 0
    for name, known in exact.items():
        mean, error = found[name].mean(0), found[name].std(0, ddof=1) / math.sqrt(1000)
        z = np.where(known, deviation(mean, expected[name], error), np.nan)
        assert not np.any(np.abs(z) >= 4), (name, z)
        same = known & (error == 0) & ~np.isnan(expected[name])
        np.testing.assert_allclose(np.where(same, mean, 0), np.where(same, expected[name], 0), atol=1e-12)
        judged += np.sum(~np.isnan(z))
    assert judged >= 3


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"bias_variance": 0.5, "activation": "leaky-relu", "slope": 0.2},
        {"initialisation": "orthogonal", "inputs": "gaussian", "side": 16, "correlation": 0.2},
        {"points": 3, "angle": 1.0},
        {"initialisation": "xavier"},
    ],
)
def test_wide_networks_come_near_their_limits(given):
    given = {"width": 256, "depth": 4, "layers": 4, "samples": 20, **given}
    found, (expected, _) = sample(40, **given), theory(**given)
    for name in ("chi", "chi_reversed", "chi_sampled", "chi_subset", "chi_to_layer", "chi_of_layer"):
        spread = 4 * found[name].std(0, ddof=1) / math.sqrt(40) + 0.012
        assert np.all(np.abs(found[name].mean(0) - expected[name]) < spread), name
    for name in ("r1", "r2", "breakpoints"):
        assert found[name].mean() == pytest.approx(expected[name], rel=0.03)


def test_where_nothing_is_known_nothing_is_said():
    images = {"inputs": "photo-raw", "side": 4, "width": 3, "depth": 2}
    for given in ({**images, "network": "cnn"}, {**images, "initialisation": "xavier", "bias_variance": 0.1}):
        expected, exact = theory(**given)
        assert np.isnan(expected["chi"])
        assert np.isnan(expected["breakpoints"])
        for name, known in exact.items():
            assert not np.any(known & np.isnan(expected[name])) or given.get("network") != "cnn"


def test_a_convolutional_layer_never_folds():
    given = {"network": "cnn", "inputs": "photo-centred", "side": 8, "width": 4, "bias_variance": 0.1}
    assert not sample(20, depth=1, **given)["chi"].any()
    deep = sample(20, depth=3, pool="max", pool_layers=1, layers=3, **given)
    assert not deep["chi_of_layer"][:, 0].any()
    assert deep["folded"].any()


def test_classes_are_those_of_the_images():
    labels = labelled._all("digits", "")[1]
    digits = sets.inputs("digits", 1, 8, 0.0, 0)
    assert digits.shape[1:] == (1, 8, 8)
    images = labelled._all("digits", "")[0].reshape(len(labels), -1)
    for index in range(20):
        for of in ("within", "between"):
            path = labelled.members("digits", "", 4, of, index).reshape(4, -1)
            classes = [labels[np.flatnonzero((images == point).all(1))[0]] for point in path]
            same = np.array(classes[1:]) == np.array(classes[:-1])
            assert same.all() if of == "within" else not same.any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inputs": "plane", "network": "cnn"}, "needs images"),
        ({"classes": "within"}, 'need inputs that have classes, "digits" or "file", got "plane"'),
        ({"classes": "within", "inputs": "photo-raw"}, 'got "photo-raw"'),
        ({"path": "x.npy"}, "path"),
        ({"points": 1}, "points"),
        ({"inputs": "gaussian", "correlation": -1.5}, "correlation"),
        ({"network": "cnn", "inputs": "photo-raw", "filter_side": 2}, "filter_side must be odd, got 2"),
        ({"network": "cnn", "inputs": "digits", "pool_layers": 3, "depth": 4}, "filter_side 3 is larger"),
        ({"width": 10**5, "depth": 10}, "GiB"),
        ({"angle": math.pi}, "angle"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        FoldingParameters(**{"width": 3, "depth": 2, **given})


def test_a_sum_over_segments_is_that_of_the_angles():
    expected, _ = theory(width=7, depth=3, points=4, angle=0.9)
    one = folding_exact.mean_breakpoints([7] * 3, 0.9)
    assert expected["breakpoints"] == pytest.approx(3 * one["breakpoints"])
    assert expected["r2"] == pytest.approx(3 * one["r2"])


def test_scales_change_lengths_only_and_no_depth_overflows_or_vanishes():
    given = {"width": 8, "depth": 300, "layers": 300}
    draws = networks(20, **given)
    usual = FOLDING.sample(draws, "cpu")
    for exponent in (-7, 6):
        scaled = np.full(20, 2.0**exponent)
        same = Networks(
            Points(draws.points.shared, {**draws.points.varying, "scale": scaled}, 20), draws.keys, draws.draws
        )
        for name, values in FOLDING.sample(same, "cpu").items():
            if name == "length":
                with np.errstate(over="ignore"):
                    expected = np.ldexp(usual[name], exponent * np.arange(1, 301))
                np.testing.assert_array_equal(values, np.where(np.isfinite(expected), expected, np.nan))
            else:
                np.testing.assert_array_equal(values, usual[name], err_msg=name)
    limit = theory(**given)[0]["chi"]
    for other in ({"scale": 0.01}, {"scale": 50.0}, {"initialisation": "xavier"}):
        assert theory(**given, **other)[0]["chi"] == limit
        assert sample(20, **given, **other)["chi"].mean() > 0.4


def test_exactness_is_of_every_point_by_itself():
    values = [FoldingParameters(width=8, depth=3, bias_variance=b).model_dump() for b in (0.0, 0.5)]
    shared = {k: v for k, v in values[0].items() if k not in VARYING}
    points = Points(shared, {name: np.array([v[name] for v in values]) for name in VARYING}, 2)
    exact = FOLDING.exact(points)
    np.testing.assert_array_equal(exact["breakpoints"], [True, False])
    np.testing.assert_array_equal(exact["length"], [[True], [True]])


def test_a_segment_through_the_origin_has_no_theory():
    given = {"inputs": "gaussian", "side": 4, "correlation": -1.0, "width": 8, "depth": 2}
    expected, _ = theory(**given)
    for name in ("chi", "breakpoints", "r2", "regions"):
        assert np.isnan(expected[name])
    assert (sample(5, **given)["breakpoints"] == 1).all()
    assert theory(bias_variance=0.1, **given)[0]["chi"] > 0
