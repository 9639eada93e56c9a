"""Convolutional networks without weights: covariances against patches, the law against drawn weights, tiny angles."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch.nn import functional

from sweeps.networks import direct, gram, gram_cnn
from sweeps.networks.architecture import Architecture
from tests.sweeps.networks_of import gaussian_images, networks_of
from tests.sweeps.test_gram import assert_one_law, inputs_of

pytestmark = pytest.mark.usefixtures("one_thread")


def sampled(a, n, images, key=1):
    return gram_cnn.sample(images[None], np.zeros(n, int), networks_of(n, key), a)


@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize("side", [1, 3, 5])
def test_covariance_against_patches(side, padding):
    k, rows, cols, channels = 3, 4, 5, 7
    H = gaussian_images((k, rows, cols, channels)).astype(float)
    images = torch.tensor(H.transpose(0, 3, 1, 2))
    mode = "circular" if padding == "circular" else "constant"
    patches = functional.unfold(functional.pad(images, (side // 2,) * 4, mode=mode), side)  # (k, entries, pixels)
    flat = patches.permute(0, 2, 1).flatten(0, 1).numpy()
    expected = 1.7 * flat @ flat.T / (channels * side**2)
    expected[: rows * cols, : rows * cols] += 0.3
    np.testing.assert_allclose(gram_cnn._covariance(H, side, padding == "circular", 1.7, 0.3), expected, atol=1e-13)


@pytest.mark.parametrize("rank", [3, 20])
def test_draws_have_the_covariance(rank):
    rng = np.random.default_rng(0)
    root = rng.standard_normal((20, rank)) * 10.0 ** rng.integers(-8, 8, (20, 1))
    root[4] = 0
    networks = networks_of(1)
    Z = gram_cnn._draw(root @ root.T, networks.keys, networks.draws, 0, 20_000)
    assert np.all(Z[4] == 0)
    deviation = np.sqrt((root**2).sum(1))
    deviation[4] = 1
    unit, expected = Z / deviation[:, None], (root @ root.T) / deviation / deviation[:, None]
    np.testing.assert_allclose(unit @ unit.T / 20_000, expected, atol=5 * math.sqrt(2 / 20_000))
    assert np.linalg.matrix_rank(unit, tol=1e-6 * math.sqrt(20_000)) == rank - (rank == 20)


@pytest.mark.parametrize("pool", ["average", "max"])
@pytest.mark.parametrize("odd", [0, 1])
def test_pooling_against_torch(pool, odd):
    h = gaussian_images((3, 4 + odd, 6, 5)).astype(float)
    H = h.copy()
    H[1:] -= h[0]
    torch_pool = functional.max_pool2d if pool == "max" else functional.avg_pool2d
    expected = torch_pool(torch.tensor(h.transpose(0, 3, 1, 2)), 2).numpy().transpose(0, 2, 3, 1)
    got = gram_cnn._pooled(H, pool == "max")
    got[1:] += got[0]
    np.testing.assert_allclose(got, expected, atol=1e-14)


LAWS = {
    "relu": Architecture(6, 3, side=3),
    "relu+bias, zero padding": Architecture(5, 2, bias_variance=0.4, side=3, padding="zero"),
    "tanh, max pooling": Architecture(5, 3, "tanh", weight_variance=1.5, side=3, pool="max", pool_layers=1),
    "gelu, average pooling": Architecture(4, 2, "gelu", bias_variance=0.1, side=3, padding="zero", pool_layers=1),
    "abs, one pixel": Architecture(3, 2, "abs", side=1, pool_layers=1),
    "sign": Architecture(8, 2, "sign", side=3, pool="max", pool_layers=1),
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("k", [2, 3])
def test_one_law_with_and_without_weights(name, k):
    n, a = 1000, LAWS[name]
    images = gaussian_images((k, 2, 4, 5), seed=1)
    images[1] = 0.6 * images[0] + 0.8 * images[1]
    drawn = direct.sample(images[None], np.zeros(n, int), networks_of(n, key=2), a, "cpu")
    for x, y in zip(drawn, sampled(a, n, images), strict=True):
        assert_one_law(x.reshape(n, -1), y.reshape(n, -1))


def test_one_pixel_is_the_fully_connected_network():
    n, images, a = 3000, gaussian_images((3, 9, 1, 1)), Architecture(6, 3, "leaky-relu", 0.1, bias_variance=0.2)
    log_square, angle = inputs_of(images)
    fnn = gram.fnn(np.repeat(log_square, n, 0), np.repeat(angle, n, 0), networks_of(n, 2), a)
    for x, y in zip(fnn, sampled(a, n, images), strict=True):
        assert_one_law(x.reshape(n, -1), y.reshape(n, -1))


def nearly_parallel(theta, pixels=6, channels=2):
    """Two float32 images at an angle of `theta`: one has a little in channels where the other has nothing."""
    images = np.repeat(gaussian_images((1, channels, pixels, pixels)), 2, 0)
    images[0, channels // 2 :] = 0
    x, more = images[0], images[1, channels // 2 :]
    more *= theta * np.linalg.norm(x) / np.linalg.norm(more)
    return images


@pytest.mark.parametrize("theta", [1e-7, 1e-9, 1e-15])
@pytest.mark.parametrize("bias_variance", [0.0, 0.2])
def test_tiny_angles_scale(theta, bias_variance):
    """The same weights multiply a difference a thousand times smaller by the same numbers, where no sign changes."""
    images = nearly_parallel(theta, 5, channels=40)
    a = Architecture(16, 60, side=3, bias_variance=bias_variance, padding="zero", pool_layers=1)
    got = sampled(a, 3, images).angle
    finer = sampled(a, 3, nearly_parallel(theta / 1000, 5, channels=40)).angle
    np.testing.assert_allclose(got / finer, 1000, rtol=1e-2 if theta > 1e-8 else 1e-4)


def test_tiny_angles_against_drawn_weights_in_float64():
    """Means of the logarithm of the angle, the drawn network's difference being carried by its derivative."""
    theta, n, a = 1e-9, 300, Architecture(8, 4, side=3)
    images = nearly_parallel(theta)
    got = np.log(sampled(a, n, images).angle[:, :, 0])
    networks, expected = networks_of(n, 2), np.empty((n, a.depth))
    for i in range(n):
        x, dx = torch.tensor(images[:1]).double(), torch.tensor(images[1:].astype(float) - images[:1])
        for layer in range(a.depth):
            shape = (a.width, x.shape[1], 3, 3)
            W = torch.from_numpy(networks.normals(layer, *shape)[i]).double()
            x, dx = (functional.conv2d(functional.pad(v, (1,) * 4, mode="circular"), W) for v in (x, dx))
            dx *= x > 0
            x = x.relu()
            along = (dx * x).sum() / (x * x).sum()
            expected[i, layer] = math.log((dx - along * x).norm() / x.norm())
    for layer in range(a.depth):
        assert stats.ks_2samp(got[:, layer], expected[:, layer]).pvalue > 1e-3
        error = math.hypot(stats.sem(got[:, layer]), stats.sem(expected[:, layer]))
        assert abs(got[:, layer].mean() - expected[:, layer].mean()) < 4 * error


def test_nearly_parallel_inputs_at_depth_200():
    """On one pixel, as in a fully connected network: theta times sqrt(chi2(n - 1)/chi2(n)) a layer."""
    width, depth, n = 128, 200, 60
    got = sampled(Architecture(width, depth), n, nearly_parallel(1e-9, 1)).angle[:, :, 0]
    m = np.arange(2, width + 1)
    step = (special.digamma((m - 1) / 2) - special.digamma(m / 2)) / 2
    change = np.log(got[:, -1] / got[:, 0])
    assert abs(change.mean() - (depth - 1) * (stats.binom(width, 0.5).pmf(m) * step).sum()) < 4 * stats.sem(change)


@pytest.mark.parametrize(("activation", "weight_variance", "bias_variance"), [
    ("relu", 0.01, 0.0), ("relu", 100.0, 0.1), ("gelu", 0.01, 0.0), ("gelu", 100.0, 0.0), ("tanh", 0.01, 0.0),
    ("tanh", 100.0, 1e-20), ("relu2", 100.0, 0.0), ("sign", 1.0, 0.0),
])  # fmt: skip
def test_depth_1000_neither_overflows_nor_vanishes(activation, weight_variance, bias_variance):
    a = Architecture(16, 1000, activation, weight_variance=weight_variance, bias_variance=bias_variance, side=3)
    got = sampled(a, 1, gaussian_images((3, 2, 2, 2)))
    assert np.isfinite(got.log_square).all()
    assert (np.abs(got.cosine) <= 1).all()
    assert np.isfinite(got.angle).all()


def test_dead_networks_are_undefined_until_a_bias_wakes_them():
    images = -np.abs(gaussian_images((3, 1, 2, 2)))
    images[2] = 0
    got = sampled(Architecture(1, 4, side=1), 300, images)
    nan = np.isnan(got.log_square)
    p, q = np.triu_indices(3, 1)
    np.testing.assert_array_equal(np.isnan(got.cosine), nan[..., p] | nan[..., q])
    assert nan[..., 2].all()
    assert abs(nan[:, 0, 0].mean() - 0.5) < 4 * math.sqrt(0.25 / 300)
    assert np.all(nan[:, :-1] <= nan[:, 1:])
    woken = np.isnan(sampled(Architecture(1, 4, side=1, bias_variance=1.0), 300, images).log_square)
    assert np.any(woken[:, :-1] > woken[:, 1:])


def test_bits_do_not_depend_on_the_slot():
    n, images = 6, gaussian_images((3, 3, 3, 5, 4))
    of_network, networks = np.arange(n) % 3, networks_of(n)
    a = Architecture(11, 3, side=3, bias_variance=0.1)
    first = gram_cnn.sample(images, of_network, networks, a)
    order = np.random.default_rng(0).integers(0, n, n)
    moved = replace(networks, draws=networks.draws[order])
    for got, want in zip(gram_cnn.sample(images, of_network[order], moved, a), first, strict=True):
        np.testing.assert_array_equal(got, want[order])
