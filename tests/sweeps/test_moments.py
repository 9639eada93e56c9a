"""Moments: equal to numpy on the pooled draws, and the same however draws are split."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sweeps.moments import Moments, histogram

draws = arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6) | st.just(np.nan))


def assert_close(a: Moments, b: Moments, draws: np.ndarray) -> None:
    scale = np.nanmax(np.abs(draws), initial=1.0)
    np.testing.assert_array_equal(a.n, b.n)
    np.testing.assert_array_equal(a.undefined, b.undefined)
    np.testing.assert_array_equal(a.min, b.min)
    np.testing.assert_array_equal(a.max, b.max)
    np.testing.assert_allclose(a.mean, b.mean, rtol=0, atol=1e-14 * scale, equal_nan=True)
    np.testing.assert_allclose(a.m2, b.m2, rtol=1e-12, atol=1e-13 * scale**2 * draws.size)


@given(draws)
def test_equal_to_numpy_on_the_pooled_draws(x: np.ndarray) -> None:
    ours, kept = Moments.of(x), x[~np.isnan(x)]
    assert (ours.n, ours.undefined) == (kept.size, x.size - kept.size)
    if kept.size:
        assert (ours.min, ours.max) == (kept.min(), kept.max())
        scale = np.abs(kept).max()
        np.testing.assert_allclose(ours.mean, kept.mean(), rtol=0, atol=1e-15 * scale * kept.size)
        np.testing.assert_allclose(
            ours.m2, ((kept - kept.mean()) ** 2).sum(), rtol=1e-12, atol=1e-13 * scale**2 * kept.size
        )
    else:
        assert np.isnan([ours.mean, ours.min, ours.max]).all()
        assert ours.m2 == 0


@given(st.lists(draws, min_size=1, max_size=5))
def test_merging_parts_is_pooling_them(parts: list[np.ndarray]) -> None:
    pooled = np.concatenate(parts)
    assert_close(reduce(Moments.merge, map(Moments.of, parts)), Moments.of(pooled), pooled)


@given(draws, draws, draws)
def test_merge_is_associative_and_commutative_within_float64(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
    a, b, c, pooled = *map(Moments.of, (x, y, z)), np.concatenate([x, y, z])
    assert_close(a.merge(b).merge(c), a.merge(b.merge(c)), pooled)
    assert_close(a.merge(b), b.merge(a), pooled)


def test_a_large_offset_keeps_the_variance() -> None:
    x = 1e9 + np.random.default_rng(0).standard_normal(100_000)
    halves = Moments.of(x[:37]).merge(Moments.of(x[37:]))
    np.testing.assert_allclose(halves.variance, np.var(x - 1e9, ddof=1), rtol=1e-6)


def test_neighbours_change_no_bit() -> None:
    x = np.random.default_rng(1).standard_normal((6, 5, 1000))
    together, alone = Moments.of(x).stack(), np.stack([Moments.of(row).stack() for row in x])
    assert together.tobytes() == alone.tobytes()


def test_stack_and_unstack_are_inverse() -> None:
    x = Moments.of(np.random.default_rng(2).standard_normal((3, 4, 7)))
    assert Moments.unstack(x.stack()).stack().tobytes() == x.stack().tobytes()


@given(draws)
def test_histogram_counts_every_defined_draw_once(x: np.ndarray) -> None:
    bins = (-np.inf, -10.0, 0.0, 0.5, 1000.0)
    counts = histogram(x, bins)
    assert counts.sum() == (~np.isnan(x)).sum()
    inside = x[~np.isnan(x) & (x <= 1000)]
    if inside.size:
        np.testing.assert_array_equal(histogram(inside, bins), np.histogram(inside, bins)[0])


@pytest.mark.parametrize(("value", "place"), [(-5.0, 0), (0.0, 0), (1.0, 1), (2.0, 1), (9.0, 1)])
def test_the_end_bins_take_what_lies_outside(value: float, place: int) -> None:
    assert histogram(np.array([value]), (0.0, 1.0, 2.0))[place] == 1
