"""Patches of images: their order, moments and components against slow loops, and images with a component changed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from sweeps.inputs import patches

IMAGES = np.random.default_rng(1).random((5, 2, 6, 7)).astype(np.float32) ** 2  # no axis is like another


def all_patches(images, side):
    """(n, places, d) by loops, in the order channel, row, column."""
    n, channels, rows, cols = images.shape
    return np.array([
        [[images[k, c, i + a, j + b] for c in range(channels) for a in range(side) for b in range(side)]
         for i in range(rows - side + 1) for j in range(cols - side + 1)]
        for k in range(n)
    ], float)  # fmt: skip


def random(shape, seed=2):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture(params=[2**22, 1], ids=["at once", "one by one"])
def parts(request, monkeypatch):
    monkeypatch.setattr(patches, "PART", request.param)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("side", [1, 2, 3, 6])
def test_moments_are_those_of_all_patches(side):
    found = all_patches(IMAGES, side)
    np.testing.assert_allclose(patches.averages(IMAGES, side), found.mean(axis=1), rtol=1e-12)
    centred = found.reshape(-1, found.shape[2]) - found.mean(axis=(0, 1))
    np.testing.assert_allclose(patches.covariance(IMAGES, side), centred.T @ centred / len(centred), atol=1e-14)
    u = random(found.shape[2])
    expected = np.square((found - found.mean(axis=(0, 1))) @ u).mean(axis=1)
    np.testing.assert_allclose(patches.energies(IMAGES, u, side), expected, rtol=1e-12)


def test_a_filter_of_a_network_sees_the_same_patches():
    """Torch's own convolution with filters (2, 3, 3): its mean over an image, and its variance over all places."""
    filters = random((4, 2, 3, 3))
    seen = torch.nn.functional.conv2d(torch.from_numpy(IMAGES).double(), torch.from_numpy(filters)).numpy()
    flat = filters.reshape(4, -1)
    np.testing.assert_allclose(patches.averages(IMAGES, 3) @ flat.T, seen.mean(axis=(2, 3)), rtol=1e-11)
    np.testing.assert_allclose(
        flat @ patches.covariance(IMAGES, 3) @ flat.T, np.cov(seen.swapaxes(0, 1).reshape(4, -1), bias=True), rtol=1e-11
    )


def test_large_means_cost_no_digits():
    moved = IMAGES.astype(np.float64) + 1e6
    np.testing.assert_allclose(patches.covariance(moved, 3), patches.covariance(IMAGES, 3), atol=1e-9)


def test_components_of_a_covariance():
    values, vectors = np.array([7.0, 2.0, 0.5, 0.0]), np.linalg.qr(random((4, 4)))[0]
    found = patches.basis((vectors * values) @ vectors.T)
    np.testing.assert_allclose(found.eigenvalues, values, atol=1e-14)
    assert found.eigenvalues.min() >= 0
    np.testing.assert_allclose(np.abs(found.vectors.T @ vectors), np.eye(4), atol=1e-7)
    assert (found.vectors[np.abs(found.vectors).argmax(axis=0), range(4)] > 0).all()


@pytest.mark.parametrize("vector", [[3, -3, 1], [-3, 3, 1], [1, -3, 3], [0, -1, 1]])
def test_of_equal_entries_the_first_is_positive(vector):
    unit = np.array(vector, float) / np.linalg.norm(vector)
    for wobble in random((20, 3)) * 1e-15:
        found = patches.basis(np.outer(unit + wobble, unit + wobble)).vectors[:, 0]
        np.testing.assert_allclose(found, unit * np.sign(unit[np.abs(vector).argmax()]), atol=1e-12)


def test_the_mean_energy_of_a_component_is_its_eigenvalue():
    found = patches.basis(patches.covariance(IMAGES, 3))
    for i in (0, 1, 17):
        energy = patches.energies(IMAGES, found.vectors[:, i], 3).mean()
        np.testing.assert_allclose(energy, found.eigenvalues[i], rtol=1e-9)


def test_deciles_are_in_order_and_as_equal_as_can_be():
    assert patches.deciles(np.arange(20.0)[::-1]).tolist() == [
        9,
        9,
        8,
        8,
        7,
        7,
        6,
        6,
        5,
        5,
        4,
        4,
        3,
        3,
        2,
        2,
        1,
        1,
        0,
        0,
    ]
    energies = random(1437)
    found = patches.deciles(energies)
    assert found.dtype == np.int64
    assert sorted(Counter(found.tolist()).values()) == [143] * 3 + [144] * 7
    assert all(energies[found == i].max() < energies[found == i + 1].min() for i in range(9))
    assert patches.deciles(np.zeros(10)).tolist() == list(range(10))
    assert patches.deciles(np.array([1.0, 0.0, 1.0])).tolist() == [3, 0, 6]


def dense(u, channels, rows, cols, side):
    """The circular correlation with u as a matrix (places, pixels)."""
    matrix = np.zeros((rows, cols, channels, rows, cols))
    for (i, j), (c, a, b) in ((x, y) for x in np.ndindex(rows, cols) for y in np.ndindex(channels, side, side)):
        matrix[i, j, c, (i + a) % rows, (j + b) % cols] += u.reshape(channels, side, side)[c, a, b]
    return matrix.reshape(rows * cols, -1)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("gain", [0.0, 0.3, 4.0])
@pytest.mark.parametrize("cols", [6, 7])
def test_amplified_images_are_those_of_the_whole_matrix(gain, cols):
    images, u = IMAGES[..., :cols], random(18)
    C = dense(u, 2, 6, cols, 3)
    square = C.T @ C
    flat = images.reshape(5, -1).astype(np.float64)
    expected = flat + (gain - 1) / np.linalg.norm(square, 2) * flat @ square
    found = patches.amplified(images, u, 3, gain)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.reshape(images.shape), atol=2e-6)


def test_a_gain_of_one_changes_nothing_and_of_none_removes_what_is_seen_best():
    assert patches.amplified(IMAGES, random(18), 3, 1.0) is IMAGES
    u = np.array([[1.0, -1.0], [1.0, -1.0]]).ravel() / 2  # sees columns of +1, -1 best
    stripes = np.tile([1.0, -1.0], (1, 1, 4, 2)).astype(np.float32)
    flat = np.ones((1, 1, 4, 4), np.float32)
    np.testing.assert_allclose(patches.amplified(stripes + flat, u, 2, 0.0), flat, atol=1e-6)
    np.testing.assert_allclose(patches.amplified(stripes + flat, u, 2, 3.0), 3 * stripes + flat, atol=1e-6)


def test_patches_larger_than_images_are_refused():
    for call in (patches.covariance, patches.averages, lambda x, side: patches.amplified(x, random(98), side, 0.5)):
        with pytest.raises(ValueError, match="patches of 7 x 7 pixels do not fit into images of 6 x 7"):
            call(IMAGES, 7)
