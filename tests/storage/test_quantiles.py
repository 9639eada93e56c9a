"""Quantiles and histograms at query time, against the pooled draws and against answers worked out by hand."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import relu_sweeps_toys as toys
import xarray as xr

from actors.inline import Inline
from storage import distributions, histogram, open_sweep, quantiles
from storage.snapshot import Snapshot, Where
from storage.zarr_store import ZarrStore
from sweeps import statistics
from sweeps.errors import SpecError, UnknownNameError
from sweeps.run import run
from sweeps.sweep import Sweep
from tests.conftest import toy_spec
from tests.storage.test_query import filled, pooled

Q = [0.0, 0.05, 0.5, 0.73, 1.0]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.Dataset, Sweep]:
    sweep = Sweep.of(toy_spec(points_per_block=2, keep="draws"))
    return open_sweep(filled(str(tmp_path_factory.mktemp("kept") / "kept.zarr"), sweep).url), sweep


@pytest.fixture(scope="module")
def binned(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """The same sweep without its draws."""
    sweep = Sweep.of(toy_spec(points_per_block=2))
    return open_sweep(filled(str(tmp_path_factory.mktemp("binned") / "binned.zarr"), sweep).url)


def by_hand(counts: list[int], edges: list[float], least: float, greatest: float) -> xr.Dataset:
    """A Dataset of one point that holds a histogram."""
    sides = {f"level_bin_{side}": ("level_bin", v) for side, v in (("left", edges[:-1]), ("right", edges[1:]))}
    level = ((), 0.0, {"kind": "real", "long_name": "level", "units": "1"})
    ends = {"level_min": ((), least), "level_max": ((), greatest)}
    return xr.Dataset({"level": level, **ends, "level_histogram": ("level_bin", counts)}, sides)


# --- quantiles ---


@pytest.mark.parametrize("outcome", ["level", "positive", "walk", "root"])
def test_they_are_those_of_the_pooled_draws_to_the_bit(kept: tuple[xr.Dataset, Sweep], outcome: str) -> None:
    ds, sweep = kept
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # points without a defined draw
        expected = np.nanquantile(pooled(sweep, outcome), Q, axis=-1)
    found = quantiles(ds, outcome, Q)
    np.testing.assert_array_equal(found, expected)
    assert np.isnan(expected).any() == (outcome == "root")
    assert found.dims == ("quantile", *ds[outcome].dims)
    assert found["quantile"].values.tolist() == Q
    assert found.attrs["method"] == "linear between the two nearest draws"


def test_a_selection_and_any_order_of_dims_agree(kept: tuple[xr.Dataset, Sweep]) -> None:
    ds, _ = kept
    whole = quantiles(ds, "walk", Q).values
    part = ds.isel(shift=[3, 0], colour=1)
    np.testing.assert_array_equal(quantiles(part, "walk", Q), whole[:, :, [3, 0], 1])
    np.testing.assert_array_equal(quantiles(ds, "walk", Q).isel(shift=2, quantile=[4, 1]), whole[[4, 1], :, 2])
    assert quantiles(ds, "walk", Q).sel(size=8, shift=0, colour="red", step=2, quantile=0.5) == whole[2, 1, 2, 0, 1]
    turned = quantiles(ds.transpose(..., "size"), "walk", Q)
    np.testing.assert_array_equal(turned.transpose(*("quantile", *ds.walk.dims)), whole)
    few = ds.isel(draw=slice(0, 8))
    np.testing.assert_array_equal(quantiles(few, "walk", [1.0])[0], ds.walk_draws.values[..., :8].max(-1))


def test_nothing_is_read_early_and_never_more_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep.of(toy_spec(keep="draws"))
    url, sizes, read = filled(str(tmp_path / "kept.zarr"), sweep).url, [], Snapshot.draws
    whole = quantiles(open_sweep(url), "walk", Q).values

    def counted(self: Snapshot, outcome: str, where: Where) -> np.ndarray:
        sizes.append(int(np.prod([len(w) for w in where])))
        return read(self, outcome, where)

    monkeypatch.setattr(Snapshot, "draws", counted)
    monkeypatch.setattr(distributions, "DRAWS_SLAB", 5 * sweep.draws)
    found = quantiles(open_sweep(url), "walk", Q)
    assert repr(found)
    assert sizes == []
    np.testing.assert_array_equal(found, whole)
    assert (max(sizes), sum(sizes)) == (3 * sweep.draws, whole[0].size * sweep.draws)
    sizes.clear()
    found.isel(size=0, shift=0).load()
    assert sum(sizes) == 2 * 3 * sweep.draws
    monkeypatch.setattr(distributions, "DRAWS_SLAB", 1)
    sizes.clear()
    np.testing.assert_array_equal(found.isel(step=1), whole[..., 1])
    assert max(sizes) == sweep.draws, "one row at the least"


def test_they_travel_by_pickle(kept: tuple[xr.Dataset, Sweep]) -> None:
    found = quantiles(kept[0], "level", Q)
    xr.testing.assert_identical(pickle.loads(pickle.dumps(found)), found)


def test_draws_beyond_a_points_stop_and_missing_blocks_do_not_count(tmp_path: Path) -> None:
    until = {"outcome": "level", "halfwidth": 0.25, "min_draws": 16}
    sweep = Sweep.of(toy_spec(draws=160, until=until, keep="draws", points_per_block=5))
    store = ZarrStore.create(str(tmp_path / "until.zarr"), sweep)
    assert not list(run(store, Inline("cpu")))[-1].missing
    ds = open_sweep(store.url)
    assert len(np.unique(ds.level_n)) > 1
    everything, n = pooled(sweep, "level").reshape(-1, 160), ds.level_n.values.ravel()
    expected = [np.quantile(draws[:count], 0.3) for draws, count in zip(everything, n, strict=True)]
    np.testing.assert_array_equal(quantiles(ds, "level", [0.3]).values.ravel(), expected)

    part = filled(str(tmp_path / "part.zarr"), Sweep.of(toy_spec(keep="draws")), [0, 5])
    missing = quantiles(open_sweep(part.url), "level", [0.5])[0]
    np.testing.assert_array_equal(missing.isnull(), open_sweep(part.url).level_n == 0)


def test_from_a_histogram_worked_out_by_hand() -> None:
    ds = by_hand([2, 0, 2], [0, 1, 2, 3], least=0.5, greatest=2.5)
    found = quantiles(ds, "level", [0, 0.25, 0.5, 0.75, 1])
    assert found.values.tolist() == [0.5, 0.75, 1.0, 2.25, 2.5]
    assert found.attrs["method"] == "linear inside the bins of the histogram"


@pytest.mark.parametrize(
    ("counts", "edges", "least", "greatest", "expected"),
    [
        ([0, 4], [0, 1, np.inf], 1.0, 9.0, [1, 5, 9]),
        ([4, 0], [0, 1, 2], -3.0, 1.0, [-3, -1, 1]),
        ([0, 4, 0], [0, 1, 2, 3], 1.5, 1.5, [1.5, 1.5, 1.5]),
        ([0, 0], [0, 1, 2], np.nan, np.nan, [np.nan] * 3),
    ],
    ids=["no end", "below the first edge", "one value", "no draws"],
)
def test_outer_bins_end_at_the_least_and_greatest_draw(counts, edges, least, greatest, expected) -> None:
    found = quantiles(by_hand(counts, edges, least, greatest), "level", [0, 0.5, 1])
    np.testing.assert_array_equal(found, expected)


def test_a_histogram_is_off_by_less_than_the_bin_that_holds_the_quantile(
    kept: tuple[xr.Dataset, Sweep], binned: xr.Dataset
) -> None:
    q = np.linspace(0, 1, 25)  # of 24 draws: at or beside a draw
    rough, draws = quantiles(binned, "level", q), np.sort(pooled(kept[1], "level"), axis=-1)
    edges = np.array([-np.inf, -0.5, 0, 0.5, np.inf])
    for i, target in enumerate(q * 24):
        exact = draws[..., max(0, int(np.ceil(target)) - 1)]  # the draw that reaches the share q
        bin_of = np.searchsorted(edges, exact, side="right")
        low, high = np.maximum(edges[bin_of - 1], draws[..., 0]), np.minimum(edges[bin_of], draws[..., -1])
        assert ((rough[i] >= low) & (rough[i] <= high)).all()


def test_quantiles_ascend(binned: xr.Dataset, kept: tuple[xr.Dataset, Sweep]) -> None:
    for ds in (binned, kept[0]):
        assert (quantiles(ds, "level", np.linspace(0, 1, 201)).diff("quantile") >= 0).all()


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (
            lambda ds: quantiles(ds, "walk", [0.5]),
            SpecError,
            "quantiles of 'walk': the store holds neither draws nor bins of it; .* keep = \"draws\"",
        ),
        (lambda ds: quantiles(ds, "wlk", [0.5]), UnknownNameError, "unknown outcome 'wlk'; did you mean 'walk'"),
        (lambda ds: quantiles(ds, "level", [0.5, 5]), SpecError, "between 0 and 1, got 5"),
        (lambda ds: quantiles(ds, "level", [np.nan]), SpecError, "between 0 and 1, got nan"),
        (lambda ds: histogram(ds, "walk"), SpecError, "histogram of 'walk': the store holds neither"),
        (lambda ds: histogram(ds, "wlk"), UnknownNameError, "unknown outcome 'wlk'"),
        (lambda ds: histogram(ds, "level", 7), SpecError, "holds 'level' in bins of its own and no draws"),
        (lambda ds: histogram(ds, "level", [-1, 0.25, 1]), SpecError, "of which 0.25 is no edge"),
        (lambda ds: histogram(ds, "level", [1, 0]), SpecError, "edges that ascend"),
        (lambda ds: histogram(ds, "level", [1]), SpecError, "edges that ascend"),
        (lambda ds: histogram(ds, "level", 0), SpecError, "bins must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused_in_words(binned: xr.Dataset, ask, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        ask(binned)


# --- histograms ---


def test_a_histogram_of_draws_is_numpys(kept: tuple[xr.Dataset, Sweep]) -> None:
    ds, sweep = kept
    draws, edges = pooled(sweep, "walk"), [-9.0, -1.0, 0.25, 9.0]
    expected = np.apply_along_axis(lambda row: np.histogram(row, edges)[0], -1, draws)
    found = histogram(ds, "walk", edges)
    np.testing.assert_array_equal(found, expected)
    assert found.dims == (*ds.walk.dims, "walk_bin")
    assert (found.walk_bin_left.values.tolist(), found.walk_bin_right.values.tolist()) == (edges[:-1], edges[1:])
    np.testing.assert_array_equal(found.isel(shift=[4, 1], walk_bin=[2, 0]), expected[:, [4, 1]][..., [2, 0]])


def test_even_bins_reach_from_the_least_to_the_greatest_draw(kept: tuple[xr.Dataset, Sweep]) -> None:
    ds, sweep = kept
    found, draws = histogram(ds, "walk", 7), pooled(sweep, "walk")
    assert (found.walk_bin_left[0], found.walk_bin_right[-1]) == (draws.min(), draws.max())
    np.testing.assert_allclose(found.walk_bin_right - found.walk_bin_left, (draws.max() - draws.min()) / 7)
    assert (found.sum("walk_bin") == ds.walk_n).all()
    assert histogram(ds, "walk").sizes["walk_bin"] == distributions.BINS
    one = histogram(ds.isel(size=0, shift=0, colour=0, step=0, draw=slice(0, 1)), "walk", [-99, 99])
    assert one.values.tolist() == [1]


def test_undefined_draws_are_left_out(kept: tuple[xr.Dataset, Sweep]) -> None:
    ds, _ = kept
    assert (histogram(ds, "root", 5).sum("root_bin") == ds.root_n).all()


def test_bins_of_counts_hold_equally_many_whole_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(networks, device):
        return {"level": np.floor(7 * networks.normals(0, 1)[:, 0])}

    counted = (replace(toys.TOY.outcomes[0], kind="count", bins=None),)
    statistic = replace(toys.TOY, outcomes=counted, sample=sample, theory=None)
    monkeypatch.setattr(statistics, "get", lambda name: statistic)
    ds = open_sweep(filled(str(tmp_path / "count.zarr"), Sweep.of(toy_spec(keep="draws"))).url)
    low, high = ds.level_min.min().item(), ds.level_max.max().item()
    for bins in (1000, 10):
        found = histogram(ds, "level", bins)
        widths = np.unique(found.level_bin_right - found.level_bin_left)
        assert widths.tolist() == ([1.0] if bins == 1000 else [np.ceil((high - low + 1) / 10)])
        assert (found.level_bin_left[0], found.level_bin_left[-1] < high) == (low - 0.5, True)
        assert (found.sum("level_bin") == ds.level_n).all()


def test_the_declared_bins_come_unless_others_are_asked_for(kept: tuple[xr.Dataset, Sweep], binned: xr.Dataset) -> None:
    xr.testing.assert_identical(histogram(binned, "level"), binned.level_histogram)
    xr.testing.assert_equal(histogram(kept[0], "level"), binned.level_histogram)


@pytest.mark.parametrize("edges", [[-1, -0.5, 0, 0.5, 1], [-1, 0, 1], [-0.5, 0.5], [0, 0.5]])
def test_stored_bins_are_merged_as_the_draws_would_be_counted(
    kept: tuple[xr.Dataset, Sweep], binned: xr.Dataset, edges: list[float]
) -> None:
    xr.testing.assert_equal(histogram(binned, "level", edges), histogram(kept[0], "level", edges))


def test_without_draws_there_is_no_range(tmp_path: Path) -> None:
    ds = open_sweep(filled(str(tmp_path / "empty.zarr"), Sweep.of(toy_spec(keep="draws")), []).url)
    assert quantiles(ds, "walk", [0.5]).isnull().all()
    with pytest.raises(SpecError, match="no range to cut into bins"):
        histogram(ds, "walk", 5)
