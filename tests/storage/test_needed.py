"""Widths needed for an error, against laws whose answer is known: a mean of N normals is N(0, 1/N)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.stats import binom, norm

from storage import needed
from storage.distributions import reached
from sweeps.errors import SpecError, UnknownNameError
from sweeps.intervals import wilson
from tests.storage.test_figures import opened

SIZES = [1, 2, 4, 8, 16, 32, 64]


def of_draws(draws: np.ndarray, width: list) -> xr.Dataset:
    """A Dataset like that of `open_sweep`, of draws (width, draw)."""
    n = (~np.isnan(draws)).sum(-1)
    zero = ("width", np.zeros(len(width)), {"kind": "real", "long_name": "error", "units": "1"})
    counts = {"error_n": ("width", n), "error_undefined": ("width", draws.shape[-1] - n)}
    shown = {"error": zero, "error_min": zero, "error_max": zero, "error_draws": (("width", "draw"), draws), **counts}
    ds = xr.Dataset(shown, {"width": ("width", width, {"long_name": "width N", "units": "1"})}, {"confidence": 0.95})
    for end in ("min", "max"):
        ds[f"error_{end}"].attrs = {}
    return ds


def errors(draws: int, seed: int) -> np.ndarray:
    """|N(0, 1)|/sqrt(width): P(error <= a) = 2 Phi(a sqrt(width)) - 1."""
    random = np.random.default_rng(seed)
    return np.abs(random.standard_normal((len(SIZES), draws))) / np.sqrt(SIZES)[:, None]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    axes = {"size": SIZES, "colour": ["red", "blue"]}
    changes = {"draws": 2000, "draws_per_batch": 1000, "keep": "draws"}
    return opened(tmp_path_factory.mktemp("kept") / "a.zarr", axes=axes, **changes)


@pytest.fixture(scope="module")
def binned(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    axes = {"size": SIZES, "colour": ["red", "blue"]}
    return opened(tmp_path_factory.mktemp("binned") / "a.zarr", axes=axes, draws=2000, draws_per_batch=1000)


@pytest.mark.parametrize(("at_most", "confidence"), [(0.5, 0.9), (0.25, 0.8), (0.2, 0.9), (0.6, 0.99)])
def test_a_sweep_gives_the_known_width(kept: xr.Dataset, at_most: float, confidence: float) -> None:
    found = needed(kept, "level", at_most, confidence, along="size")
    true = (norm.ppf(confidence) / at_most) ** 2
    assert found.needed.dims == ("colour",)
    for low, middle, high in zip(found.ci_low.values, found.needed.values, found.ci_high.values, strict=True):
        assert low < middle < high
        assert low < true < high
    np.testing.assert_allclose(found.needed, true, rtol=0.2)
    assert (found.reason == "").all()
    assert found.needed.attrs["long_name"] == f"normals a draw from which on P(level <= {at_most:g}) >= {confidence:g}"


def test_power_laws_are_interpolated_exactly() -> None:
    base = np.sort(np.abs(np.random.default_rng(1).standard_normal(1000)))
    found = needed(of_draws(base / np.sqrt(SIZES)[:, None], SIZES), "error", 0.3, 0.95)
    half = norm.ppf(0.975) * np.sqrt(0.95 * 0.05 / 1000)
    for name, level in (("ci_low", 0.95 - half), ("needed", 0.95), ("ci_high", 0.95 + half)):
        quantile = base[int(np.ceil(1000 * level - 1e-9)) - 1]
        assert float(found[name]) == pytest.approx((quantile / 0.3) ** 2, rel=1e-12)


def test_its_interval_covers() -> None:
    """In 400 sweeps at least as often as it says, less what chance takes; the answer lies between two widths."""
    true, inside = (norm.ppf(0.975) / 0.3) ** 2, 0
    for seed in range(400):
        found = needed(of_draws(errors(300, seed), SIZES), "error", 0.3, 0.95)
        inside += bool(found.ci_low <= true <= found.ci_high)
    assert inside >= binom.ppf(1e-4, 400, 0.95)


@pytest.mark.parametrize("share", [0.90, 0.93, 0.95, 0.97, 0.99])
@pytest.mark.parametrize("n", [100, 1000])
def test_a_width_is_certified_iff_wilsons_interval_lies_above(share: float, n: int) -> None:
    draws = np.ones((2, n))
    draws[0], draws[1, round(share * n) :] = 9, 9
    found = needed(of_draws(draws, [10, 20]), "error", 1.0, 0.95)
    low, high = wilson(np.array(share), np.array(n), 0.95)
    assert bool(np.isfinite(found.ci_high)) == bool(low >= 0.95)
    assert bool(np.isfinite(found.ci_low)) == bool(high >= 0.95)
    assert bool(np.isfinite(found.needed)) == (share >= 0.95)


def test_bins_answer_at_their_inner_edges_and_nowhere_else(kept: xr.Dataset, binned: xr.Dataset) -> None:
    for confidence in (0.9, 0.97):
        exact, rough = (needed(ds, "level", 0.5, confidence, along="size") for ds in (kept, binned))
        for name in ("needed", "ci_low", "ci_high"):  # between the same sizes: what lies between is a guess
            np.testing.assert_array_equal(np.searchsorted(SIZES, exact[name]), np.searchsorted(SIZES, rough[name]))
    with pytest.raises(SpecError, match=r"'level' is held in bins, and 0.3 lies inside one; .*: 0, 0.5; others need"):
        needed(binned, "level", 0.3, 0.9, along="size")
    with pytest.raises(SpecError, match="and 1 lies beyond the inner ones"):  # the last bin takes what lies beyond
        needed(binned, "level", 1.0, 0.9, along="size")


def test_from_there_on_means_for_good() -> None:
    values = np.array([4.0, 0.5, 2.0, 0.5, 0.25])
    found = needed(of_draws(np.repeat(values[:, None], 500, axis=1), [1, 2, 4, 8, 16]), "error", 1.0, 0.9)
    assert float(found.needed) == float(found.ci_high) == pytest.approx(4 * 2 ** (np.log(2) / np.log(4)))
    assert float(found.ci_low) == pytest.approx(2 ** (np.log(4) / np.log(8)))


@pytest.mark.parametrize(
    ("at_most", "confidence", "draws", "ends", "reason"),
    [
        (0.01, 0.9, 500, (np.inf, np.inf), "at width = 64 the 0.9 quantile is still 0."),
        (9.0, 0.9, 500, (-np.inf, -np.inf), "at width = 1 already the 0.9 quantile is 1."),
        (0.3, 0.95, 60, None, "no end above: it takes at least 73 draws a point to be certain of 0.95"),
    ],
)
def test_a_grid_that_does_not_reach_says_so(at_most, confidence, draws, ends, reason: str) -> None:
    found = needed(of_draws(errors(draws, 3), SIZES), "error", at_most, confidence)
    assert found.reason.item().startswith(reason)
    assert np.isnan(found.needed) == (ends is not None)
    assert (float(found.ci_low), float(found.ci_high)) == (ends or (float(found.ci_low), np.inf))


@pytest.mark.parametrize(("n", "certain"), [(72, False), (73, True)])
def test_the_fewest_draws_are_those_that_it_names(n: int, certain: bool) -> None:
    draws = np.stack([np.full(n, 9.0), np.full(n, 0.5)])
    assert bool(np.isfinite(needed(of_draws(draws, [1, 2]), "error", 1.0, 0.95).ci_high)) == certain


def test_undefined_draws_and_points_without_draws_do_not_count() -> None:
    draws = errors(1000, 5)
    whole = needed(of_draws(draws, SIZES), "error", 0.3, 0.9)
    holes = np.concatenate([draws, np.full((len(SIZES), 500), np.nan)], axis=1)
    found = needed(of_draws(holes, SIZES), "error", 0.3, 0.9)
    assert (float(found.needed), int(found.undefined)) == (float(whole.needed), 3500)
    gap = needed(of_draws(np.insert(draws, 3, np.nan, axis=0), [1, 2, 4, 5, 8, 16, 32, 64]), "error", 0.3, 0.9)
    assert float(gap.needed) == float(whole.needed)
    nothing = needed(of_draws(np.full((2, 9), np.nan), [1, 2]), "error", 0.3, 0.9)
    assert nothing.reason.item() == "0 values of width have draws that are defined"
    assert np.isnan(nothing.ci_high)


def test_what_has_no_logarithm_is_interpolated_straight() -> None:
    draws = np.repeat(np.array([[1.0], [0.0]]), 500, axis=1)
    assert float(needed(of_draws(draws, [10, 40]), "error", 0.5, 0.9).needed) == pytest.approx(20)
    assert float(needed(of_draws(draws, [0, 40]), "error", 0.5, 0.9).needed) == pytest.approx(20)


def test_what_shares_reach_is_a_draw(kept: xr.Dataset) -> None:
    levels = [-0.1, 0.0, 0.1, 0.95, 1.0, 1.1]
    found = reached(kept, "walk", lambda n: np.stack([np.full(n.shape, v) for v in levels]))
    expected = np.quantile(kept.walk_draws.values, levels[2:5], axis=-1, method="inverted_cdf")
    np.testing.assert_array_equal(found[2:5], expected)
    assert np.isneginf(found[:2]).all()
    assert np.isposinf(found[5]).all()


def test_a_selection_in_any_order_and_a_store_without_draws(tmp_path: Path, kept: xr.Dataset) -> None:
    one = needed(kept.isel(size=[6, 0, 3, 1], colour=0), "level", 0.5, 0.9, along="size")
    assert (one.needed.shape, one.colour.item()) == ((), "red")
    assert float(one.needed) == float(needed(kept.isel(size=[0, 1, 3, 6], colour=0), "level", 0.5, 0.9, "size").needed)
    empty = opened(tmp_path / "empty.zarr", blocks=0, axes={"size": SIZES}, keep="draws")
    assert needed(empty, "level", 0.5, 0.9, "size").reason.item() == "0 values of size have draws that are defined"


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (("lvel", 0.5, 0.9, "size"), UnknownNameError, "unknown outcome 'lvel'; did you mean 'level'"),
        (("level", 0.5, 0.9, "width"), UnknownNameError, "unknown axis 'width'; known: colour, size"),
        (("level", 0.5, 0.9, "colour"), SpecError, "axis 'colour' is not numeric"),
        (("level", 0.5, 95, "size"), SpecError, "confidence must lie between 0 and 1, got 95"),
        (("level", np.nan, 0.9, "size"), SpecError, "at_most must be a finite number, got nan"),
        (("walk", 0.5, 0.9, "size"), SpecError, "distribution of 'walk': the store holds neither draws nor bins"),
    ],
)
def test_what_cannot_be_is_refused_in_words(binned: xr.Dataset, ask: tuple, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        needed(binned, *ask)
    with pytest.raises(SpecError, match="axis 'size' has 1 of the at least 2 values"):
        needed(binned.isel(size=0), "level", 0.5, 0.9, along="size")
