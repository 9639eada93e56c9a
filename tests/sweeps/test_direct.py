"""Networks with drawn weights against conv2d in float64 with the same weights, and their promises."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional

from sweeps.networks import direct
from sweeps.networks.architecture import Activation, Architecture, Law
from sweeps.networks.weights import biases, weights
from tests.sweeps.networks_of import gaussian_images, networks_of

ACTIVATIONS = {
    "linear": lambda z: z,
    "relu": functional.relu,
    "leaky-relu": lambda z: functional.leaky_relu(z, 0.2),
    "abs": torch.abs,
    "sign": torch.sign,
    "step": lambda z: torch.heaviside(z, torch.zeros((), dtype=z.dtype)),
    "relu2": lambda z: functional.relu(z) ** 2,
    "erf": torch.erf,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
}


pytestmark = pytest.mark.usefixtures("one_thread")


def plain(images, networks, i, a: Architecture):
    """Mean squares (depth, k) and cosines (depth, k, k) of network i, as a script would compute them."""
    hidden = torch.tensor(images, dtype=torch.float64)
    squares, cosines = [], []
    for layer in range(a.depth):
        shape = (a.width, hidden.shape[1], a.side, a.side)
        W = weights(networks, "cpu", layer, math.prod(shape[1:]), a)[i].double().reshape(shape)
        b = biases(networks, "cpu", layer, a.width)[i].double() * a.bias_variance**0.5
        mode = "circular" if a.padding == "circular" else "constant"
        padded = functional.pad(hidden, (a.side // 2,) * 4, mode=mode)
        hidden = ACTIVATIONS[a.activation](
            functional.conv2d(padded, W * (a.weight_variance / math.prod(shape[1:])) ** 0.5, b)
        )
        if layer < a.pool_layers:
            hidden = (functional.max_pool2d if a.pool == "max" else functional.avg_pool2d)(hidden, 2)
        flat = hidden.flatten(1)
        squares.append((flat**2).mean(1))
        unit = flat / flat.norm(dim=1, keepdim=True)
        cosines.append(unit @ unit.T)
    return torch.stack(squares).numpy(), torch.stack(cosines).numpy()


def assert_as_plain(images, a: Architecture, networks=3, tolerance=2e-5):
    images, of_network = np.asarray(images), np.arange(networks) % len(images)
    lane = networks_of(networks)
    got = direct.sample(images, of_network, lane, a, "cpu")
    pairs = np.triu_indices(images.shape[1], 1)
    for i in range(networks):
        square, cosine = plain(images[of_network[i]], lane, i, a)
        np.testing.assert_allclose(got.log_square[i], np.log(square), atol=tolerance)
        np.testing.assert_allclose(got.cosine[i], cosine[:, *pairs], atol=tolerance)
        np.testing.assert_allclose(np.cos(got.angle[i]), got.cosine[i], atol=1e-12)


@pytest.mark.parametrize("bias_variance", [0.0, 0.3])
@pytest.mark.parametrize("activation", get_args(Activation))
def test_every_activation(activation, bias_variance):
    a = Architecture(9, 3, activation, 0.2, weight_variance=1.7, bias_variance=bias_variance, side=3, padding="zero")
    discontinuous = activation in ("sign", "step")  # a pre-activation next to 0 may fall on the other side
    assert_as_plain(gaussian_images((2, 3, 2, 5, 4)), a, tolerance=2e-3 if discontinuous else 2e-5)


@pytest.mark.parametrize("law", get_args(Law))
def test_every_law(law):
    a = Architecture(9, 3, law=law, density=0.4, freedom=3.0, side=3, bias_variance=0.1)
    assert_as_plain(gaussian_images((2, 2, 2, 5, 4)), a)


@pytest.mark.parametrize("pool", ["average", "max"])
@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize("side", [1, 3, 5])
def test_padding_and_pooling(side, padding, pool):
    a = Architecture(7, 4, bias_variance=0.2, side=side, padding=padding, pool=pool, pool_layers=2)
    assert_as_plain(gaussian_images((1, 2, 3, 12, 13)), a, networks=2)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_fully_connected(k):
    assert_as_plain(gaussian_images((2, k, 40, 1, 1)) * np.float32(3), Architecture(33, 3, "tanh", bias_variance=0.5))


@pytest.mark.parametrize(("activation", "weight_variance", "bias_variance", "depth"), [
    ("relu", 0.01, 0.0, 1000), ("relu", 100.0, 0.1, 300), ("gelu", 0.01, 0.0, 300), ("gelu", 100.0, 0.1, 300),
    ("tanh", 0.01, 0.0, 300), ("tanh", 0.01, 1e-20, 100), ("erf", 100.0, 0.1, 100), ("relu2", 100.0, 1e-20, 100),
])  # fmt: skip
def test_no_depth_overflows_or_vanishes(activation, weight_variance, bias_variance, depth):
    a = Architecture(32, depth, activation, weight_variance=weight_variance, bias_variance=bias_variance)
    got = direct.sample(gaussian_images((1, 2, 8, 1, 1)), np.zeros(2, int), networks_of(2), a, "cpu")
    assert np.isfinite(got.log_square).all()
    assert (np.abs(got.cosine) <= 1).all()
    if bias_variance == 0 and activation != "relu":  # linear, by the second layer
        steps = np.diff(got.log_square[:, 1:], axis=1)
        slope = {"gelu": 0.5, "tanh": 1.0}[activation]
        assert (
            abs(steps.mean() - math.log(weight_variance * slope**2))
            < 4 * math.sqrt(2 / 32 / steps[..., 0].size) + 1 / 32
        )


def test_scales_at_depth():
    """A linear network of width 1 multiplies: its scale is a sum of logarithms."""
    networks = networks_of(2)
    a = Architecture(1, 50, "linear", weight_variance=1e-6)
    got = direct.sample(np.full((1, 1, 1, 1, 1), 2, np.float32), np.zeros(2, int), networks, a, "cpu")
    steps = np.stack([networks.normals(layer, 1, 1)[:, 0, 0].astype(float) ** 2 * 1e-6 for layer in range(50)], 1)
    np.testing.assert_allclose(got.log_square[..., 0], np.log(4) + np.cumsum(np.log(steps), 1), rtol=1e-6)


def test_a_dead_network_is_undefined_until_a_bias_wakes_it():
    images = -np.abs(gaussian_images((1, 2, 6, 1, 1)))
    dead = direct.sample(images, np.zeros(400, int), networks_of(400), Architecture(1, 4), "cpu")
    nan = np.isnan(dead.log_square)
    np.testing.assert_array_equal(np.isnan(dead.cosine[..., 0]), nan.any(-1))
    assert np.all(nan[:, :-1] <= nan[:, 1:])
    assert 0.2 < nan[:, 0, 0].mean() < 0.8
    biased = replace(Architecture(1, 4), bias_variance=1.0)
    woken = np.isnan(direct.sample(images, np.zeros(400, int), networks_of(400), biased, "cpu").log_square)
    assert np.any(woken[:, :-1] > woken[:, 1:])


@pytest.mark.parametrize("law", get_args(Law))
@pytest.mark.parametrize("image", [(37, 1, 1), (3, 7, 6)])
def test_bits_do_not_depend_on_the_slot(law, image):
    n = 12
    images, of_network = gaussian_images((3, 3, *image)), np.arange(n) % 3
    a = Architecture(
        23, 3, law=law, bias_variance=0.1, side=3 if image[1] > 1 else 1, pool="max", pool_layers=int(image[1] > 1)
    )
    networks = networks_of(n)
    first = direct.sample(images, of_network, networks, a, "cpu")
    for order in [*np.random.default_rng(0).integers(0, n, (3, n)), np.full(n, 5)]:
        moved = replace(networks, draws=networks.draws[order])
        for got, want in zip(direct.sample(images, of_network[order], moved, a, "cpu"), first, strict=True):
            np.testing.assert_array_equal(got, want[order])
