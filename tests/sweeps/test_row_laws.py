"""Laws of the rows of a layer: what is exact of each, and bits that do not depend on company."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sweeps.networks import row_laws
from sweeps.networks.degenerate import examine
from sweeps.statistic import Networks, Points


def networks(draws):
    return Networks(Points({}, size=draws), np.full(draws, 5, np.uint64), np.arange(draws, dtype=np.uint64))


def test_rows_on_the_sphere_are_gaussian_rows_scaled():
    W, sphere = row_laws.gaussian(networks(3), 7, 4), row_laws.sphere(networks(3), 7, 4)
    assert np.allclose(np.linalg.norm(sphere, axis=2), 1, atol=1e-15)
    assert np.allclose(sphere * np.linalg.norm(W, axis=2, keepdims=True), W, atol=1e-14)


@pytest.mark.parametrize(("m", "n"), [(4, 4), (10, 4), (3, 5), (60, 20)])
def test_blocks_are_orthogonal(m, n):
    W = row_laws.orthogonal(networks(3), m, n)
    assert W.shape == (3, m, n)
    for w in W:
        for start in range(0, m, n):
            block = w[start : start + n]
            assert np.allclose(block @ block.T, np.eye(len(block)), atol=1e-13)


def test_orthogonal_blocks_are_uniform():
    """Haar: every entry has variance 1/n, and products of two entries of a column, mean zero; 4 standard errors."""
    W = row_laws.orthogonal(networks(20_000), 3, 3)
    assert abs((W[:, 1, 2] ** 2).mean() - 1 / 3) < 4 * (W[:, 1, 2] ** 2).std() / np.sqrt(20_000)
    assert abs((W[:, 0, 1] * W[:, 2, 1]).mean()) < 4 * (W[:, 0, 1] * W[:, 2, 1]).std() / np.sqrt(20_000)
    assert abs((np.linalg.det(W) > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(20_000)


def test_signs_and_densities():
    W = row_laws.rademacher(networks(100), 20, 10)
    assert set(np.unique(W)) == {-1.0, 1.0}
    assert abs(W.mean()) < 4 / np.sqrt(W.size)
    W = row_laws.sparse(networks(100), 20, 10, 0.3)
    assert abs((W != 0).mean() - 0.3) < 4 * np.sqrt(0.21 / W.size)
    assert abs(W[W != 0].var() - 1) < 4 * np.sqrt(2 / (W != 0).sum())
    assert np.array_equal(row_laws.sparse(networks(3), 5, 4, 1.0), row_laws.gaussian(networks(3), 5, 4))


@pytest.mark.parametrize(("image", "sides"), [((1, 6), (1, 3)), ((4, 3), (3, 3)), ((2, 5), (2, 1)), ((1, 4), (1, 4))])
def test_a_convolution_is_torch_s(image, sides):
    rng = np.random.default_rng(0)
    filters, x = rng.standard_normal((3, *sides)), rng.standard_normal(image)
    W = row_laws.convolution_matrix(filters, image)
    padded = np.pad(x, [(0, sides[0] - 1), (0, sides[1] - 1)], mode="wrap")
    expected = torch.conv2d(torch.tensor(padded)[None, None], torch.tensor(filters)[:, None])
    assert np.allclose(W @ x.ravel(), expected.numpy().ravel(), atol=1e-13)


def test_a_layer_of_convolutions_has_the_size_asked_for():
    W = row_laws.convolution(networks(2), 12, 6, 3, 2)
    assert W.shape == (2, 12, 6)
    assert np.count_nonzero(W[0], axis=1).tolist() == [6] * 12  # filters of 2 x 3


def test_rows_of_a_file_come_without_replacement():
    matrix = np.arange(40.0).reshape(20, 2)
    W = row_laws.subset(networks(2000), 7, matrix)
    first = W[:, :, 0] / 2
    assert all(len(set(rows)) == 7 for rows in first)
    counts = np.bincount(first.astype(int).ravel(), minlength=20)
    expected = 2000 * 7 / 20
    assert np.abs(counts - expected).max() < 4.5 * np.sqrt(expected * 13 / 20)
    assert np.array_equal(np.sort(row_laws.subset(networks(1), 20, matrix)[0], axis=0), matrix)


@pytest.mark.parametrize("law", ["gaussian", "sphere", "orthogonal", "rademacher"])
def test_every_network_is_by_itself(law):
    draw = getattr(row_laws, law)
    whole = draw(networks(9), 7, 3)
    one = Networks(Points({}, size=1), np.array([5], np.uint64), np.array([6], np.uint64))
    assert np.array_equal(draw(one, 7, 3)[0], whole[6])


@pytest.mark.parametrize("m", [4, 6, 9])
def test_layers_of_signs_in_the_plane(m):
    """Injective iff each of (1, 1), (1, -1), (-1, 1), (-1, -1) is among the rows: by inclusion and exclusion."""
    expected = sum(c * (1 - j / 4) ** m * (-1) ** j for j, c in enumerate((1, 4, 6, 4)))
    measured = examine(row_laws.rademacher(networks(4000), m, 2))[1].mean()
    assert abs(measured - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)


@pytest.mark.parametrize("filters", [2, 4])
def test_filters_of_one_tap(filters):
    """Every input is multiplied by each filter; injective iff filters of both signs are among them."""
    expected = 1 - 2.0 ** (1 - filters)
    measured = examine(row_laws.convolution(networks(2000), 3 * filters, 3, 1, 1))[1].mean()
    assert abs(measured - expected) < 4 * np.sqrt(expected * (1 - expected) / 2000)
