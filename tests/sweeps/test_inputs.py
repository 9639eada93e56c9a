"""Inputs: every family is data and has the cosine, the pixels and the bounds it is meant to have."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from sweeps.errors import UnknownNameError
from sweeps.inputs import choice, digits, gaussian, photographs, sets, user_images
from sweeps.inputs.sets import inputs
from sweeps.networks.architecture import Architecture
from sweeps.theory import bounds, limit
from sweeps.theory.arccos import kappa1

FAMILIES = [family for family in get_args(sets.Family) if family != "file"]
MADE = {"side": 32, "correlation": 0.5, "cell": 4}


def of(family, count=2, index=0, **changes):
    return inputs(family, count, index=index, **{**MADE, **changes})


def cosines(images):
    """Of every two, from float64 sums."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    return np.array([x @ y / math.sqrt((x @ x) * (y @ y)) for x, y in combinations(flat, 2)])


def layers(depth=1, *, side, padding):
    return Architecture(1, depth, "relu", side=side, padding=padding)


def wide(x, y, architecture):
    """Cosines (depth,) of two images at infinitely many filters."""
    return limit.cnn(np.stack([x, y]), architecture).cosine[:, 0]


# --- all families ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_sets_are_data(family, count):
    first = of(family, count, 3)
    sets._inputs.cache_clear()
    again = of(family, count, 3)
    assert first is not again
    np.testing.assert_array_equal(first, again)
    assert first.shape == (count, *sets.shape(family, 32))
    assert first.dtype == np.float32
    assert first.flags.c_contiguous
    assert not first.flags.writeable
    assert np.isfinite(first).all()
    assert first.any((1, 2, 3)).all()
    assert not any(np.array_equal(x, y) for x, y in combinations(first, 2))
    assert not np.array_equal(first, of(family, count, 4))


@pytest.mark.parametrize("family", FAMILIES)
def test_only_what_a_family_names_changes_its_images(family):
    first = of(family)
    for name, other in [("side", 48), ("correlation", 0.2), ("cell", 8), ("path", "nowhere.npy")]:
        changed = of(family, **{name: other})
        same = changed.shape == first.shape and np.array_equal(changed, first)
        assert same == (name not in sets.PARAMETERS[family]), name


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "parallel-patches"])
def test_fewer_members_are_the_first_of_more(family):
    np.testing.assert_array_equal(of(family, 2), of(family, 4)[:2])


@pytest.mark.parametrize(("family", "changes", "words"), [
    ("gaussian", {"count": 3, "correlation": -0.51}, "need -0.5 <= correlation <= 1, got -0.51"),
    ("gaussian", {"count": 4, "side": 1}, "side 1 has 3; use a larger side"),
    ("gaussian", {"correlation": 1.01}, "need -1 <= correlation <= 1, got 1.01"),
    ("gaussian", {"correlation": math.nan}, "correlation <= 1, got nan"),
    ("gaussian-expected", {"count": 5, "correlation": -0.3}, "need -0.25 <= correlation"),
    ("parallel-patches", {"correlation": 1.0}, "need 0 <= correlation < 1, got 1.0"),
    ("parallel-patches", {"correlation": -0.1}, "need 0 <= correlation < 1, got -0.1"),
    ("parallel-patches", {"cell": 10}, "3 bands and gaps of cell = 10 pixels need side >= 33, got 32"),
    ("blobs", {"cell": 5}, "cell must divide side 32 for blobs, got 5"),
    ("blobs", {"cell": 0}, "cell must be at least 1, got 0"),
    ("blobs", {"count": 3, "correlation": -0.1}, "need 0 <= correlation <= 1, got -0.1"),
    ("photo-grey", {"side": 301}, "side must be at most 300 for photographs, got 301"),
    ("rectangles", {"side": 0}, "side must be at least 1, got 0"),
    ("digits", {"count": 1798}, "there are 1797 digits, and 1798"),
    ("digits", {"count": 0}, "count must be at least 1, got 0"),
    ("file", {}, "needs path"),
])  # fmt: skip
def test_a_set_that_does_not_exist_is_refused_in_one_line(family, changes, words):
    with pytest.raises(ValueError, match=words) as error:
        of(family, **changes)
    assert "\n" not in str(error.value)


def test_an_unknown_family_is_named():
    with pytest.raises(UnknownNameError, match="did you mean 'photo-raw'"):
        of("photo_raw")


def test_distinct_choices_are_uniform_over_all_ordered_subsets():
    words = [(i * 2**32 + 2**31) // n for n, i in [(4, 0), (3, 0)]]  # the middle of the first part
    assert choice.distinct(words, 4) == [0, 1]
    parts = [[(2 * i + 1) * 2**31 // n for i in range(n)] for n in (4, 3, 2)]
    found = {tuple(choice.distinct((a, b, c), 4)) for a in parts[0] for b in parts[1] for c in parts[2]}
    assert len(found) == 24
    assert all(len({*subset}) == 3 and set(subset) <= set(range(4)) for subset in found)


# --- Gaussian images ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "correlation"), [
    *[(2, rho) for rho in (-1.0, -0.5, 0.0, 0.3, 0.999999, 1.0)],
    *[(3, rho) for rho in (-0.5, 0.0, 0.3, 1.0)], (8, -1 / 7), (8, 0.7),
])  # fmt: skip
def test_gaussian_sets_have_the_exact_cosine(count, correlation):
    images = of("gaussian", count, 6, correlation=correlation)
    np.testing.assert_allclose(cosines(images), correlation, atol=2e-8)
    np.testing.assert_allclose(np.square(images.astype(np.float64)).sum((1, 2, 3)), 3072, rtol=1e-6)
    for image in images:
        assert stats.kstest(image.ravel(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("correlation", [-0.4, 0.0, 0.6])
def test_gaussian_pairs_by_hand(correlation):
    """The construction in exact sums: w made orthogonal to x, both of norm sqrt(size)."""
    key = np.array([gaussian.randomness.key(0, "inputs/gaussian", {"side": 5})], np.uint64)
    x, w = gaussian.randomness.normals(key, np.array([2], np.uint64), 0, 150).reshape(2, 75).astype(np.float64)
    w -= math.fsum(w * x) / math.fsum(x * x) * x
    x, w = (z * math.sqrt(75 / math.fsum(z * z)) for z in (x, w))
    y = correlation * x + math.sqrt(1 - correlation**2) * w
    got = of("gaussian", 2, 2, side=5, correlation=correlation).reshape(2, 75)
    np.testing.assert_allclose(got, [x, y], rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize(("count", "correlation"), [(2, -0.7), (2, 0.4), (4, -0.3), (4, 0.8)])
def test_expected_correlation_is_that_of_pixels(count, correlation):
    """Pixels are i.i.d. standard normals of that correlation: four standard errors of their sample moments."""
    pixels = np.concatenate([
        of("gaussian-expected", count, i, correlation=correlation).reshape(count, -1) for i in range(20)
    ], axis=1).astype(np.float64)  # fmt: skip
    n = pixels.shape[1]
    products = pixels @ pixels.T / n
    expected = np.where(np.eye(count) == 1, 1, correlation)
    np.testing.assert_array_less(np.abs(products - expected), 4 * np.sqrt((1 + expected**2) / n))
    for row in pixels:
        assert stats.kstest(row, "norm").pvalue > 1e-3
    spread = [cosines(of("gaussian-expected", count, i, correlation=correlation))[0] for i in range(20)]
    assert np.std(spread) > 0.1 * (1 - correlation**2) / math.sqrt(3072)  # not exact


# --- photographs, digits --------------------------------------------------------------------------------


def test_photographs_are_whole_and_crops_come_from_them():
    sizes = [image.shape for image in photographs.photographs()]
    assert sizes == [(3, 427, 640)] * 2 + [(3, 512, 512), (3, 300, 451), (3, 400, 600), (3, 427, 640)]
    assert min(min(size[1:]) for size in sizes) == photographs.LARGEST
    for index in range(5):
        for crop in np.rint(255 * of("photo-raw", 4, index)).astype(np.uint8):
            assert any(contains(image, crop) for image in photographs.photographs())


def contains(image, crop):
    _, rows, cols = crop.shape
    corners = np.argwhere((image == crop[:, :1, :1]).all(0))
    return any(np.array_equal(image[:, i : i + rows, j : j + cols], crop) for i, j in corners)


def test_one_index_gives_the_same_crops_whatever_is_made_of_them():
    means, deviations = photographs.channel_means(), photographs.channel_deviations()
    np.testing.assert_allclose(means.ravel(), [0.457467, 0.381268, 0.336567], atol=0.002)
    together = np.mean([(image.reshape(3, -1) / 255.0) ** 2 @ np.ones(image[0].size) / image[0].size
                        for image in photographs.photographs()], axis=0)  # fmt: skip
    np.testing.assert_allclose(deviations.ravel() ** 2, together - means.ravel() ** 2, rtol=1e-10)
    for index in range(5):
        raw, centred, standardised, grey = (
            of(f"photo-{kind}", 3, index, side=16).astype(np.float64)
            for kind in ("raw", "centred", "standardised", "grey")
        )
        assert 0 <= raw.min() < raw.max() <= 1
        np.testing.assert_allclose(raw - centred, np.broadcast_to(means, raw.shape), atol=1e-7)
        np.testing.assert_allclose(standardised * deviations + means, raw, atol=1e-6)
        red, green, blue = raw.transpose(1, 0, 2, 3)
        np.testing.assert_allclose(grey[:, 0], 0.299 * red + 0.587 * green + 0.114 * blue, atol=1e-6)


def test_no_crop_is_black_and_no_two_of_a_set_are_equal():
    for index in range(300):
        crops = of("photo-raw", 4, index, side=1)
        assert crops.any((1, 2, 3)).all()
        assert len(np.unique(crops.reshape(4, -1), axis=0)) == 4


def test_digits_are_different_digits():
    assert len(np.unique(digits.digits().reshape(digits.COUNT, -1), axis=0)) == digits.COUNT
    for index in range(20):
        found = of("digits", 7, index)
        assert 0 <= found.min() < found.max() <= 1
        assert not np.isnan(cosines(found)).any()
    everything = of("digits", digits.COUNT)
    assert len(np.unique(everything.reshape(digits.COUNT, -1), axis=0)) == digits.COUNT


# --- extremal images ------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize(("count", "correlation", "index"), [(2, 0.0, 0), (2, 0.5, 1), (2, 0.95, 2), (4, 0.3, 3)])
def test_parallel_patches_attain_the_lower_bound(count, correlation, index, padding):
    images = of("parallel-patches", count, index, correlation=correlation)
    assert images.min() == 0
    np.testing.assert_allclose(cosines(images), correlation, atol=1e-7)
    np.testing.assert_allclose(np.square(images.astype(np.float64)).sum((1, 2, 3)), 3072, rtol=1e-6)
    for x, y in combinations(images, 2):
        rho, w = bounds.alignment(x, y, layers(side=5, padding=padding))
        assert rho == pytest.approx(w, abs=1e-7)  # all patches parallel, or one of them zero
        deep = wide(x, y, layers(2, side=3, padding=padding))
        np.testing.assert_allclose(deep[0], bounds.alignment(x, y, layers(side=3, padding=padding))[0], atol=1e-6)
        if padding == "circular":
            np.testing.assert_allclose(deep, max(correlation, 0), atol=1e-6)  # two layers of side 3 see no further


def test_parallel_patches_end_where_filters_see_across_the_gaps():
    x, y = of("parallel-patches")
    seen = [wide(x, y, layers(1, side=side, padding="circular"))[0] for side in (5, 7)]
    assert seen[0] == pytest.approx(0.5, abs=1e-6)
    assert seen[1] > 0.505


def test_parallel_patches_lie_elsewhere_at_another_index():
    supports = {(of("parallel-patches", 2, i).any((0, 1))).tobytes() for i in range(10)}
    assert len(supports) > 5
    rows = [len(np.unique(of("parallel-patches", 2, i)[0, 0], axis=0)) > 1 for i in range(10)]
    assert 0 < sum(rows) < 10  # bands are rows in some, columns in others


@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.5])
def test_blobs_attain_the_upper_bound_as_they_grow(correlation, padding):
    """With side 3 a part 1 - (1 - 2/cell)^2 of the patches sees two squares; each lacks at most (1 + c)/2 - kappa1(c)
    at c = 0, where that is greatest."""
    missing = []
    for cell in (4, 8, 16, 32):
        x, y = of("blobs", side=8 * cell, cell=cell, correlation=correlation)
        rho, w = bounds.alignment(x, y, layers(side=3, padding=padding))
        out = wide(x, y, layers(1, side=3, padding=padding))[0]
        upper = bounds.bounds(rho)[1]
        assert out <= bounds.sharp_bounds(rho, w)[1] + 1e-12
        assert w == pytest.approx(1, abs=1e-12)
        missing.append(upper - out)
        assert 0 < missing[-1] <= (0.5 - 1 / math.pi) * (1 - (1 - 2 / cell) ** 2)
    assert all(small < 0.6 * large for large, small in pairwise(missing))
    assert out > kappa1(correlation) + 0.05  # what a fully connected layer gives is far away


@pytest.mark.parametrize(("count", "squares"), [(2, 1), (3, 3), (6, 6)])
@pytest.mark.parametrize("cell", [1, 2, 8])
def test_blobs_have_the_cosine_that_whole_squares_allow(count, squares, cell):
    every = (32 // cell) ** 2
    for correlation in (0.0, 0.2, 0.45, 0.9, 1.0, *([-0.3, -1.0] if count == 2 else [])):
        for index in range(4):
            images = of("blobs", count, index, cell=cell, correlation=correlation)
            assert set(np.unique(images)) == {-1, 1}
            assert np.all(np.abs(cosines(images) - correlation) <= squares / every + 1e-12)
            coarse = images[:, :, ::cell, ::cell]
            np.testing.assert_array_equal(images, coarse.repeat(cell, 2).repeat(cell, 3))
            signs = coarse[1] * coarse[0]
            np.testing.assert_array_equal(signs, np.broadcast_to(signs[:1], signs.shape))  # of all channels at once


def test_blobs_differ_in_squares_all_over_the_image():
    where = np.mean([of("blobs", 2, i, cell=8)[0, 0] != of("blobs", 2, i, cell=8)[1, 0] for i in range(100)], axis=0)
    assert np.abs(where - 0.25).max() < 4 * math.sqrt(0.25 * 0.75 / 100)


def test_rectangles_lie_between_the_bounds_near_the_lower():
    below = 0
    for index in range(40):
        x, y = of("rectangles", 2, index)
        assert 0 <= x.min() <= x.max() <= 1
        rho, w = bounds.alignment(x, y, layers(side=3, padding="circular"))
        out = wide(x, y, layers(1, side=3, padding="circular"))[0]
        lower, upper = bounds.sharp_bounds(rho, w)
        assert max(rho, 0) - 1e-12 <= lower - 1e-12 <= out <= upper + 1e-12
        below += out < float(kappa1(rho))
    assert below == 40  # a fully connected layer contracts all of them more
    flat = np.concatenate([of("rectangles", 1, i)[0].reshape(3, -1).T for i in range(5)])
    assert len(np.unique(flat, axis=0)) <= 1 + 5 * 8  # black, and eight colours an image


# --- a user's images ------------------------------------------------------------------------------------


def test_a_file_gives_different_images_of_its_own(tmp_path):
    held = np.random.default_rng(0).standard_normal((6, 2, 3, 5)).astype(np.float32)
    np.save(tmp_path / "images.npy", held)
    path = user_images.pin(str(tmp_path / "images.npy"))
    assert sets.shape("file", 32, path) == (2, 3, 5)
    seen = set()
    for index in range(30):
        which = [int(np.flatnonzero((held == image).all((1, 2, 3)))[0]) for image in of("file", 4, index, path=path)]
        assert len(set(which)) == 4
        seen |= set(which)
    assert seen == set(range(6))
    (tmp_path / "images.npy").rename(tmp_path / "moved.npy")
    np.testing.assert_array_equal(of("file", 4, path=path), of("file", 4, path=path.replace("images.npy", "moved.npy")))
    with pytest.raises(ValueError, match=r"7 different images were asked for, and .* has 6"):
        of("file", 7, path=path)


def test_a_matrix_is_no_file_of_images(tmp_path):
    np.save(tmp_path / "matrix.npy", np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"must name images .* got shape \(4, 3\)"):
        of("file", path=sets.files.pin(str(tmp_path / "matrix.npy")))
