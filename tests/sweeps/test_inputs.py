"""Inputs: real photographs and digits, Gaussian pairs of exact cosine; data, whatever the sweep's seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sweeps.errors import UnknownNameError
from sweeps.inputs import digits, photographs
from sweeps.inputs.pairs import pair

FAMILIES = ["gaussian", "photo-raw", "photo-centred", "digits"]


@pytest.mark.parametrize("correlation", [-1.0, -0.5, 0.0, 0.3, 0.999999, 1.0])
def test_gaussian_pairs_have_the_exact_cosine(correlation):
    x, y = pair("gaussian", 32, correlation, 6).astype(np.float64).reshape(2, -1)
    assert x @ y / math.sqrt((x @ x) * (y @ y)) == pytest.approx(correlation, abs=2e-8)
    assert [x @ x, y @ y] == pytest.approx([3072, 3072], rel=1e-6)
    assert stats.kstest(x, "norm").pvalue > 1e-3


@pytest.mark.parametrize(("family", "shape"), [
    ("gaussian", (2, 3, 32, 32)), ("photo-raw", (2, 3, 32, 32)),
    ("photo-centred", (2, 3, 32, 32)), ("digits", (2, 1, 8, 8)),
])  # fmt: skip
def test_pairs_are_data(family, shape):
    first = pair(family, 32, 0.5, 3)
    pair.cache_clear()
    again = pair(family, 32, 0.5, 3)
    assert first is not again
    np.testing.assert_array_equal(first, again)
    assert first.shape == shape
    assert first.dtype == np.float32
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, pair(family, 32, 0.5, 4))


def test_photographs_are_whole_and_crops_come_from_them():
    sizes = [image.shape for image in photographs.photographs()]
    assert sizes == [(3, 427, 640)] * 2 + [(3, 512, 512), (3, 300, 451), (3, 400, 600), (3, 427, 640)]
    for index in range(10):
        for crop in np.rint(255 * pair("photo-raw", 32, 0, index)).astype(np.uint8):
            assert any(contains(image, crop) for image in photographs.photographs())


def contains(image, crop):
    _, rows, cols = crop.shape
    corners = np.argwhere((image == crop[:, :1, :1]).all(0))
    return any(np.array_equal(image[:, i : i + rows, j : j + cols], crop) for i, j in corners)


def test_centred_photographs_are_the_same_crops():
    means = photographs.channel_means()
    np.testing.assert_allclose(means.ravel(), [0.457467, 0.381268, 0.336567], atol=0.002)
    for index in range(5):
        raw, centred = pair("photo-raw", 16, 0, index), pair("photo-centred", 16, 0, index)
        assert 0 <= raw.min() < raw.max() <= 1
        np.testing.assert_allclose(raw - centred, np.broadcast_to(means, raw.shape), atol=1e-7)


def test_no_crop_is_black():
    assert all(pair("photo-raw", 8, 0, index).any((1, 2, 3)).all() for index in range(400))


def test_digits_are_two_different_digits():
    assert digits.digits().shape == (1797, 1, 8, 8)
    for index in range(50):
        x, y = pair("digits", 32, 0, index)
        assert 0 <= x.min() < x.max() <= 1
        assert not np.array_equal(x, y)


def test_an_unknown_family_is_named():
    with pytest.raises(UnknownNameError, match="did you mean 'photo-raw'"):
        pair("photo_raw", 32, 0.5, 0)
