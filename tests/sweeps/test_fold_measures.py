"""What follows from flips, against brute force on matrices of patterns; batches; and the peer regioncam."""

from itertools import pairwise

import numpy as np
import pytest
from regioncam import Regioncam1D

from sweeps.networks.folds import Folds, fold_paths, walk_path
from sweeps.networks.layered import Activation, Convolution, Dense, Layered, MaxPool, fully_connected
from sweeps.theory import cantornet as theory
from tests.sweeps.dense_paths import fold_of, patterns, random_network

ACT = Activation()
NETWORKS = [
    pytest.param(fully_connected(2, [7, 6, 5]), id="relu"),
    pytest.param(fully_connected(1, [5, 4, 5], -1.0), id="absolute value"),
    pytest.param(Layered((1, 3, 3), (Convolution(2, 3), ACT, MaxPool(), Dense(4), ACT), 0.1), id="convolution"),
]


def brute_force(layered, network, points, layers, joins, subset, samples):
    """The folds of one path, from its patterns between flips."""
    P = len(points)
    places = np.concatenate([[0.0], np.unique(walk_path(layered, network, points).places), [P - 1.0]])
    middles = (places[1:] + places[:-1]) / 2
    bits = patterns(layered, network, points, middles)
    sampled = patterns(layered, network, points, np.linspace(0, P - 1, samples))
    ends = np.cumsum([0, *layered.hidden])
    chi, r1, r2 = fold_of(bits)
    beyond = [np.nan] * (layers - len(layered.hidden))
    interaction = []
    for cut in (P - 1) * np.arange(1, joins + 1) / (joins + 1):
        before, behind = bits[places[:-1] < cut], bits[places[1:] > cut]
        interaction.append(abs(chi - fold_of(before)[0] - fold_of(behind)[0]))
    return {
        "chi": chi,
        "r1": r1,
        "r2": r2,
        "chi_reversed": fold_of(bits[::-1])[0],
        "breakpoints": (bits[1:] != bits[:-1]).any(axis=1).sum(),
        "regions": len(np.unique(bits, axis=0)),
        "chi_sampled": fold_of(sampled)[0],
        "chi_subset": fold_of(bits[:, subset])[0],
        "by_layer": [fold_of(bits[:, a:b])[0] for a, b in pairwise(ends)][:layers] + beyond,
        "to_layer": [fold_of(bits[:, :b])[0] for b in ends[1:]][:layers] + beyond,
        "interaction": interaction,
    }


@pytest.mark.parametrize("segments", [1, 4])
@pytest.mark.parametrize("layered", NETWORKS)
def test_equals_brute_force(layered, segments):
    rng = np.random.default_rng(segments)
    networks = np.stack([random_network(layered, rng) for _ in range(3)])
    of_network = np.array([0, 1, 2, 1, 0, 2, 2, 1])
    points = rng.standard_normal((8, segments + 1, int(np.prod(layered.image))))
    points[3, -1] = points[3, 0]  # a closed path comes back
    subset = rng.random((8, sum(layered.hidden))) < 0.5
    found = fold_paths(layered, networks, of_network, points, layers=3, joins=3, subset=subset, samples=23)
    for i, n in enumerate(of_network):
        for name, expected in brute_force(layered, networks[n], points[i], 3, 3, subset[i], 23).items():
            np.testing.assert_allclose(getattr(found, name)[i], expected, rtol=1e-14, atol=1e-14, err_msg=name)
    assert (found.chi > 0).any()
    assert segments == 1 or found.regions[3] < found.breakpoints[3] + 1


def test_a_path_there_and_back_meets_every_region_twice():
    layered = fully_connected(3, [10, 10])
    rng = np.random.default_rng(2)
    network, (x, y) = random_network(layered, rng), rng.standard_normal((2, 3))
    once, twice = (fold_paths(layered, network[None], [0], np.array([path])) for path in ([x, y], [x, y, x]))
    assert (twice.r1, twice.r2, twice.breakpoints) == (once.r1, 2 * once.r2, 2 * once.breakpoints)
    assert once.regions == twice.regions == once.breakpoints + 1
    assert twice.chi == 1 - once.r1 / (2 * once.r2)
    assert twice.chi == twice.chi_reversed


def cantornet(times):
    layered = fully_connected(2, [3, 2] * times + [1])
    block = [[np.array([[3.0, -3, 0], [0, 0, 1]]), np.array([-2.0, 1, 0])], []]
    block += [[np.array([[1.0, 0], [1, 0], [0, 1]]), np.zeros(2)], []]
    return layered, layered.pack(*block * times, [np.array([[-0.5], [1.0]]), np.array([-0.5])], [])


@pytest.mark.parametrize("times", range(1, 6))
def test_cantornet(times):
    layered, network = cantornet(times)
    points = np.array([[[0, 0.75], [1, 0.75]]])
    found = fold_paths(layered, network[None], [0], points, samples=11, layers=1)
    expected = theory.published(times)
    assert (found.chi[0], found.r1[0], found.r2[0]) == (expected["chi"], expected["r1"], expected["r2"])
    assert found.chi_reversed == found.chi
    assert found.by_layer[0, 0] == 0
    if times == 5:
        assert found.chi_sampled[0] == pytest.approx(0.825, abs=0.01)


def test_samples_on_breakpoints_show_the_bit_0():
    """One input, flips at multiples of 1/8 and neurons that rise and fall; every second sample hits one."""
    layered = fully_connected(1, [14, 3], 0.25)
    rng = np.random.default_rng(0)
    corners, sides = np.tile(np.arange(1, 8) / 8, 2), np.repeat([1.0, -1.0], 7)
    second = rng.integers(-4, 5, (14, 3)) / 4
    network = layered.pack([sides[None], -sides * corners], [], [second, np.array([0.25, -0.5, 0.125])], [])
    points = np.array([[[0.0], [1.0]]])
    for samples in (2, 3, 5, 9, 17, 33):
        expected = fold_of(patterns(layered, network, points[0], np.linspace(0, 1, samples)))[0]
        found = fold_paths(layered, network[None], [0], points, samples=samples)
        assert found.chi_sampled[0] == expected
    assert np.isnan(fold_paths(layered, network[None], [0], points).chi_sampled[0])


def test_one_hidden_layer_never_folds_and_reversal_keeps_whether_a_path_folds():
    rng = np.random.default_rng(4)
    points = rng.standard_normal((400, 2, 3))
    for widths in ([30], [4, 4, 4]):
        layered = fully_connected(3, widths)
        networks = np.stack([random_network(layered, rng) for _ in range(400)])
        found = fold_paths(layered, networks, np.arange(400), points, layers=1)
        np.testing.assert_array_equal(found.chi == 0, found.chi_reversed == 0)
        assert (found.by_layer == 0).all()
        assert (found.chi > 0).any() == (len(widths) > 1)


@pytest.mark.parametrize("layered", [fully_connected(9, [11, 23, 5]), NETWORKS[2].values[0]])
def test_a_path_gives_the_same_bits_in_any_company(layered):
    rng = np.random.default_rng(6)
    networks = np.stack([random_network(layered, rng) for _ in range(4)])
    networks[3, 5] = np.nan
    points = rng.standard_normal((31, 3, 9))
    points[4, 1, 0], points[9, 2, 1], points[11] = np.inf, np.nan, 1e308
    of_network = rng.integers(0, 4, 31)
    of_network[[4, 9, 11]] = 0
    options = {"layers": 2, "joins": 2, "samples": 9}
    together = fold_paths(layered, networks, of_network, points, **options)
    bad = (of_network == 3) | np.isin(np.arange(31), [4, 9, 11])
    for i in range(31):
        alone = fold_paths(layered, networks[of_network[i]][None], [0], points[i : i + 1], **options)
        for name in Folds._fields:
            assert getattr(alone, name)[0].tobytes() == getattr(together, name)[i].tobytes()
            assert np.isnan(getattr(alone, name)).all() == bad[i]


def test_many_paths_are_walked_in_batches():
    layered = fully_connected(2, [5, 5])
    rng = np.random.default_rng(1)
    network, points = random_network(layered, rng)[None], rng.standard_normal((700, 2, 2))
    whole = fold_paths(layered, network, np.zeros(700, int), points)
    parts = [fold_paths(layered, network, np.zeros(350, int), half) for half in (points[:350], points[350:])]
    np.testing.assert_array_equal(whole.chi, np.concatenate([part.chi for part in parts]))
    assert len(fold_paths(layered, network, np.zeros(0, int), points[:0]).chi) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"networks": np.zeros((1, 3))}, r"networks must have shape \(networks, 27\), got \(1, 3\)"),
        ({"points": np.zeros((1, 1, 2))}, r"points must have shape \(paths, 2 or more, 2\), got \(1, 1, 2\)"),
        ({"of_network": [1]}, "of_network must say for each of 1 paths which of the 1 networks it is in"),
        ({"subset": np.ones(3)}, r"subset must have shape \(7,\) or \(1, 7\), got \(3,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    given = {"networks": np.zeros((1, 27)), "of_network": [0], "points": np.zeros((1, 2, 2)), **change}
    with pytest.raises(ValueError, match=message):
        fold_paths(fully_connected(2, [4, 3]), **given)


@pytest.mark.parametrize(
    ("widths", "slope", "gap"), [([20, 20, 20], 0.0, 1e-4), ([64, 64], 0.0, 1e-5), ([16, 16, 16, 16], 0.1, 1e-4)]
)
def test_as_many_breakpoints_as_regioncam(widths, slope, gap):
    """It works in float32, so only paths are compared on which no two flips are nearer than that can tell."""
    layered = fully_connected(10, widths, slope)
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(15):
        network, (x, y) = random_network(layered, rng), rng.standard_normal((2, 10))
        places = walk_path(layered, network, np.array([x, y])).places
        if np.diff(np.concatenate([[0.0], places, [1.0]])).min() < gap:
            continue
        line = Regioncam1D(1.0)
        line.linear((y - x)[None].astype(np.float32), ((x + y) / 2).astype(np.float32))
        for parameters in layered.unpack(network):
            if parameters:
                line.linear(*(block.astype(np.float32) for block in parameters))
            elif slope:
                line.leaky_relu(slope)
            else:
                line.relu()
        assert line.num_vertices - 2 == len(places)
        compared += 1
    assert compared > 3
