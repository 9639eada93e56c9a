"""Walks through layers of every kind, against dense forward passes in torch."""

import numpy as np
import pytest

from sweeps.networks.folds import fold_paths, walk_path
from sweeps.networks.layered import (
    Activation,
    Add,
    Affine,
    AveragePool,
    Convolution,
    Dense,
    GlobalAveragePool,
    Layered,
    MaxPool,
    Save,
    fully_connected,
)
from tests.sweeps.dense_paths import along, curve_lengths, flipped, fold_of, hidden, patterns, random_network

ACT, AFF, AVERAGE, MAX = Activation(), Affine(), AveragePool(), MaxPool()


def conv(filters, side=3, padding="zero"):
    return Convolution(filters, side, padding)


NETWORKS = [
    pytest.param(fully_connected(3, [6, 5, 7]), id="relu"),
    pytest.param(fully_connected(3, [6, 5, 7], 0.1), id="leaky"),
    pytest.param(fully_connected(3, [5, 4, 5], -1.0), id="absolute value"),
    pytest.param(fully_connected(1, [5, 4, 5], 1.0), id="linear"),
    pytest.param(Layered((3, 1, 1), (Dense(8), AFF, ACT, Dense(7), AFF, ACT, AFF, Dense(5), ACT)), id="normalised"),
    pytest.param(Layered((3, 1, 1), (Dense(8), Dense(4), ACT, Dense(7), Dense(6), ACT), 0.2), id="dense on dense"),
    pytest.param(Layered((3, 1, 1), (Dense(9), ACT, ACT, Dense(8), ACT), 0.3), id="activated twice"),
    pytest.param(Layered((2, 5, 4), (conv(3), ACT, conv(2), ACT, Dense(6), ACT, Dense(2))), id="zero padding"),
    pytest.param(Layered((1, 4, 5), (conv(3, 5, "circular"), ACT, conv(2, 1), ACT), 0.1), id="circular padding"),
    pytest.param(Layered((1, 3, 2), (conv(3, 7, "circular"), ACT, conv(2, 5), ACT)), id="filters beyond the image"),
    pytest.param(Layered((1, 5, 5), (conv(3), AFF, ACT, AVERAGE, conv(3), ACT, AVERAGE, Dense(5), ACT)), id="means"),
    pytest.param(Layered((1, 5, 6), (conv(3), AFF, ACT, MAX, conv(3), ACT, MAX, Dense(5), ACT)), id="maxima"),
    pytest.param(Layered((2, 4, 4), (MAX, conv(3), ACT, Dense(4), ACT), -0.5), id="maxima first"),
    pytest.param(Layered((1, 4, 4), (conv(2), MAX, ACT, conv(2), ACT), -1.0), id="maxima before"),
    pytest.param(Layered((2, 3, 3), (AFF, ACT, AVERAGE, AFF, Dense(4), ACT), 0.3), id="no weights first"),
]


@pytest.mark.parametrize("segments", [1, 3])
@pytest.mark.parametrize("layered", NETWORKS)
def test_equals_dense_sampling(layered, segments):
    rng = np.random.default_rng(segments)
    for _ in range(2):
        network = random_network(layered, rng)
        points = rng.standard_normal((segments + 1, int(np.prod(layered.image))))
        found = walk_path(layered, network, points)
        assert len(found.places) > 1
        before = np.concatenate(hidden(layered, network, along(points, found.places))[0], axis=1)
        np.testing.assert_allclose(before[np.arange(len(before)), found.neurons], 0, atol=1e-12)

        ends = np.concatenate([[0.0], found.places, [segments]])
        inside = np.diff(ends) > 1e-9
        places = np.concatenate([((ends[1:] + ends[:-1]) / 2)[inside], np.linspace(0, segments, 1000 * segments + 1)])
        bits = patterns(layered, network, points, places)
        np.testing.assert_array_equal(bits, flipped(found.places, found.neurons, bits[0], places))
        folds = fold_paths(layered, network[None], [0], points[None])
        assert (folds.chi[0], folds.r1[0], folds.r2[0]) == fold_of(bits[: inside.sum()])


@pytest.mark.parametrize("segments", [1, 3])
@pytest.mark.parametrize("layered", NETWORKS)
def test_lengths_equal_those_of_many_pieces(layered, segments):
    rng = np.random.default_rng(segments)
    network, points = random_network(layered, rng), rng.standard_normal((segments + 1, int(np.prod(layered.image))))
    found = walk_path(layered, network, points)
    places = np.union1d(found.places, np.linspace(0, segments, 3000 * segments + 1))
    rtol = 1e-3 if MAX in layered.layers else 1e-10  # the corners of maxima are no flips
    expected = curve_lengths(layered, network, points, places)
    np.testing.assert_allclose([found.arcs, found.lengths], expected, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("layers", [(GlobalAveragePool(), Dense(2), ACT), (ACT, Save(), Dense(16), Add())])
def test_no_walk_where_not_all_layers_are_known(layers):
    layered = Layered((16, 1, 1), layers)
    with pytest.raises(ValueError, match=r"without (Add, Save|GlobalAveragePool) alone"):
        walk_path(layered, np.zeros(layered.size), np.eye(16)[:2])


def test_a_broken_line_is_its_segments_joined():
    layered = Layered((1, 4, 4), (conv(3), ACT, MAX, Dense(8), ACT, Dense(8), ACT))
    rng = np.random.default_rng(8)
    network, points = random_network(layered, rng), rng.standard_normal((5, 16))
    whole = walk_path(layered, network, points)
    parts = [walk_path(layered, network, points[i : i + 2]) for i in range(4)]
    np.testing.assert_allclose(whole.places, np.concatenate([p.places + i for i, p in enumerate(parts)]), atol=1e-12)
    np.testing.assert_array_equal(whole.neurons, np.concatenate([p.neurons for p in parts]))
    np.testing.assert_array_equal(whole.rises, np.concatenate([p.rises for p in parts]))
    np.testing.assert_allclose(whole.arcs, sum(p.arcs for p in parts), rtol=1e-12)
    np.testing.assert_allclose(whole.lengths, sum(p.lengths for p in parts), rtol=1e-12)


def test_lengths_of_curves_through_and_towards_the_origin():
    layered = fully_connected(3, [20, 20, 20])
    rng = np.random.default_rng(3)
    network = random_network(layered, rng, bias=0.0)
    x, y = rng.standard_normal((2, 3))
    radial = walk_path(layered, network, np.array([x, 1e-3 * x]))
    assert (radial.arcs < 1e-12).all()
    assert (walk_path(layered, network, np.array([x, -0.3 * x])).arcs < 1e-12).all()
    assert (walk_path(layered, network, np.array([x, x])).lengths == 0).all()
    near = np.array([x, y, 1e-3 * y, 1e-3 * x])
    there, back = walk_path(layered, network, near), walk_path(layered, network, near[::-1])
    twice = 2 * walk_path(layered, network, near[:2]).arcs  # in directions, the way back at a thousandth of the length
    np.testing.assert_allclose(there.arcs, twice, rtol=1e-9)
    np.testing.assert_allclose(back.arcs, twice, rtol=1e-9)
    for scale in (1e-9, 1e9):
        np.testing.assert_allclose(walk_path(layered, scale * network, near).arcs, there.arcs, rtol=1e-9)


def test_one_wide_layer_keeps_lengths_on_average():
    """A ReLU layer of He weights keeps the spherical length of an arc, up to (N + 1)/2^N of it, on average."""
    layered = fully_connected(2, [4])
    rng = np.random.default_rng(0)
    networks = np.stack([random_network(layered, rng, bias=0.0) for _ in range(4000)])
    points = np.tile([[1.0, 0.0], [np.cos(1.2), np.sin(1.2)]], (4000, 1, 1))
    arcs = fold_paths(layered, networks, np.arange(4000), points, layers=1).arcs[:, 0]
    error = arcs.std(ddof=1) / np.sqrt(len(arcs))
    assert abs(arcs.mean() - 1.2 * (1 - 5 / 16)) < 4 * error


def test_equal_pixels_add_no_places():
    layered = Layered((1, 4, 4), (MAX, conv(2, 1), ACT, MAX, Dense(3), ACT))
    rng = np.random.default_rng(1)
    network = random_network(layered, rng)
    flat = np.ones((2, 16)) * [[-1.0], [2.0]]  # all pixels are one number
    small = Layered((1, 1, 1), (Dense(2), ACT, Dense(3), ACT))
    parameters = layered.unpack(network)
    same = small.pack(parameters[1], [], parameters[4], [])
    expected = walk_path(small, same, np.array([[-1.0], [2.0]]))
    found = walk_path(layered, network, flat)
    np.testing.assert_allclose(np.unique(found.places.round(12)), np.unique(expected.places.round(12)), atol=1e-12)
