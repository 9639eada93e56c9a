"""open_sweep against pooled draws, closed forms and a store that is being written."""

from __future__ import annotations

import pickle
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import relu_sweeps_toys as toys
import xarray as xr
import zarr.core.array
from pydantic import Field
from scipy import optimize, stats

from actors.inline import Inline
from storage import query, snapshot
from storage.layout import DERIVED
from storage.query import open_sweep, outcomes, select, table
from storage.snapshot import Snapshot
from storage.zarr_store import ZarrStore
from sweeps import intervals, statistics
from sweeps.blocks import plan
from sweeps.errors import SpecError, StoreError, UnknownNameError
from sweeps.measure import measure, sample_block
from sweeps.run import perform, run
from sweeps.sweep import Sweep
from tests.conftest import toy_spec


def filled(url: str, sweep: Sweep, blocks: list[int] | None = None) -> ZarrStore:
    """A store that holds the given blocks, by default all."""
    store, cut = ZarrStore.create(url, sweep), plan(sweep)
    for i in range(len(cut)) if blocks is None else blocks:
        perform(cut[i], store, "cpu")
    return store


def pooled(sweep: Sweep, outcome: str, blocks: list[int] | None = None) -> np.ndarray:
    """All draws (*axes, *dims, draws), a slow and obvious way; NaN where a block is left out."""
    cut, out = plan(sweep), None
    for i in range(len(cut)) if blocks is None else blocks:
        block = cut[i]
        draws = sample_block(sweep, block)[outcome]
        draws = draws.reshape(*block.shape, *draws.shape[1:])
        if out is None:
            out = np.full((*sweep.shape, *draws.shape[len(block.shape) : -1], sweep.draws), np.nan)
        first = block.batch * sweep.draws_per_batch
        out[(*block.slices, ..., slice(first, first + sweep.draws_per_batch))] = draws
    assert out is not None
    return out


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the arrays whose chunks are read, in order."""
    seen: list[str] = []
    whole = zarr.core.array.AsyncArray._get_selection

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(self.basename)
        return whole(self, *arguments, **options)

    monkeypatch.setattr(zarr.core.array.AsyncArray, "_get_selection", counted)
    return seen


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Sweep]:
    sweep = Sweep.of(toy_spec(points_per_block=2))
    url = str(tmp_path_factory.mktemp("full") / "toy.zarr")
    assert not list(run(ZarrStore.create(url, sweep), Inline()))[-1].failed
    return url, sweep


@pytest.mark.parametrize("outcome", ["level", "positive", "walk", "root"])
def test_values_are_those_of_the_pooled_draws(full: tuple[str, Sweep], outcome: str) -> None:
    url, sweep = full
    ds, draws = open_sweep(url), pooled(sweep, outcome)
    n = (~np.isnan(draws)).sum(-1)
    assert n.min() < 2 or outcome != "root"  # the toy has points where nearly every draw is undefined
    np.testing.assert_array_equal(ds[f"{outcome}_n"], n)
    np.testing.assert_array_equal(ds[f"{outcome}_undefined"], sweep.draws - n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mean of nothing
        expected = {
            outcome: np.nanmean(draws, -1),
            f"{outcome}_std": np.where(n > 1, np.nanstd(draws, -1, ddof=1), np.nan),
            f"{outcome}_sem": np.where(n > 1, np.nanstd(draws, -1, ddof=1) / np.sqrt(n), np.nan),
            f"{outcome}_min": np.nanmin(draws, -1),
            f"{outcome}_max": np.nanmax(draws, -1),
        }
    for name, values in expected.items():
        np.testing.assert_allclose(ds[name], values, rtol=1e-12, atol=1e-14, err_msg=name)
    dims = (*sweep.axes, "step") if outcome == "walk" else tuple(sweep.axes)
    assert ds[outcome].dims == dims


def test_t_interval_is_scipys(full: tuple[str, Sweep]) -> None:
    url, sweep = full
    ds, draws = open_sweep(url, confidence=0.9), pooled(sweep, "level")
    low, high = stats.t.interval(0.9, sweep.draws - 1, draws.mean(-1), stats.sem(draws, axis=-1))
    np.testing.assert_allclose(ds.level_ci_low, low, rtol=1e-10)
    np.testing.assert_allclose(ds.level_ci_high, high, rtol=1e-10)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("successes", "n"), [(0, 5), (1, 5), (7, 40), (40, 40), (1, 1), (3, 10**6)])
def test_wilson_solves_the_score_equation(successes: int, n: int, confidence: float) -> None:
    mean, z = successes / n, stats.norm.ppf((1 + confidence) / 2)

    def score(p: float) -> float:
        return (mean - p) ** 2 * n - z * z * p * (1 - p)

    low, high = intervals.wilson(np.array(mean), np.array(n), confidence)
    inside = np.clip(mean, 1e-12, 1 - 1e-12)
    assert low == (0 if successes == 0 else pytest.approx(optimize.brentq(score, 0, inside, xtol=1e-15), abs=1e-12))
    assert high == (1 if successes == n else pytest.approx(optimize.brentq(score, inside, 1, xtol=1e-15), abs=1e-12))


def test_wilson_known_value_and_nothing() -> None:
    low, high = intervals.wilson(np.array([0.9, np.nan]), np.array([10, 0]), 0.95)
    np.testing.assert_allclose([low[0], high[0]], [0.5958500, 0.9821238], atol=1e-6)  # Brown, Cai, DasGupta 2001
    assert np.isnan([low[1], high[1]]).all()


def test_proportions_get_wilson(full: tuple[str, Sweep]) -> None:
    ds = open_sweep(full[0])
    low, high = intervals.wilson(ds.positive.values, ds.positive_n.values, 0.95)
    np.testing.assert_array_equal(ds.positive_ci_low, low)
    np.testing.assert_array_equal(ds.positive_ci_high, high)
    assert ((ds.positive_ci_low >= 0) & (ds.positive_ci_high <= 1)).all()


def test_histogram_counts_every_defined_draw(full: tuple[str, Sweep]) -> None:
    url, sweep = full
    ds, draws = open_sweep(url), pooled(sweep, "level")
    assert ds.level_histogram.dims == (*sweep.axes, "level_bin")
    inner = ((draws[..., None] >= -0.5) & (draws[..., None] < 0)).sum((-2, -1))
    np.testing.assert_array_equal(ds.level_histogram.isel(level_bin=1), inner)
    np.testing.assert_array_equal(ds.level_histogram.sum("level_bin"), ds.level_n)
    assert ds.level_bin_left.values.tolist() == [-1.0, -0.5, 0.0, 0.5]
    assert ds.level_bin_right.values.tolist() == [-0.5, 0.0, 0.5, 1.0]


def test_coordinates_and_attributes_say_what_is_there(full: tuple[str, Sweep]) -> None:
    url, sweep = full
    ds = open_sweep(url)
    assert ds.attrs["fingerprint"] == sweep.fingerprint
    assert (ds.attrs["title"], ds.attrs["statistic"], ds.attrs["theory_note"]) == ("toy", "toy", "exact")
    assert ds.attrs["committed_blocks"] == ds.attrs["blocks"] == len(plan(sweep))
    assert ds.colour.values.tolist() == ["red", "blue"]
    assert ds["shift"].attrs == {"long_name": "added to every normal", "units": "1"}
    assert ds.level.attrs == {"long_name": "mean of the first normals", "units": "1", "kind": "real"}
    assert outcomes(ds) == ["level", "positive", "walk", "root"]
    assert "positive_theory" not in ds


def test_selections_of_every_form_agree(full: tuple[str, Sweep]) -> None:
    ds = open_sweep(full[0])
    level, walk = ds.level.values, ds.walk.values
    np.testing.assert_array_equal(ds.level.sel(size=8, colour="blue"), level[1, :, 1])
    np.testing.assert_array_equal(ds.walk.isel(shift=[3, 0, 3], step=-1), walk[:, [3, 0, 3]][..., 2])
    np.testing.assert_array_equal(ds.walk.isel(shift=slice(None, None, -2)), walk[:, ::-2])
    np.testing.assert_array_equal(ds.level.isel(shift=[]), level[:, []])
    np.testing.assert_array_equal(ds.level.where(ds["shift"] > 0, drop=True), level[:, 3:])
    pointwise = ds.level.isel(size=xr.DataArray([0, 1], dims="k"), shift=xr.DataArray([4, 2], dims="k"))
    np.testing.assert_array_equal(pointwise.transpose("k", ...), level[[0, 1], [4, 2]])
    np.testing.assert_array_equal(ds.transpose(..., "size").level.isel(shift=1), level[:, 1].T)
    assert ds.level.sel(size=2, shift=0, colour="red").item() == level[0, 2, 0]
    np.testing.assert_array_equal((ds.level - ds.level_theory) / ds.level_sem, (level - ds.level_theory) / ds.level_sem)


def test_data_frames_and_pickles(full: tuple[str, Sweep]) -> None:
    ds = open_sweep(full[0])
    frame = ds[["level", "level_sem", "level_theory"]].sel(size=2).to_dataframe()
    assert list(frame.index.names) == ["shift", "colour"]
    assert frame.loc[(0.5, "blue"), "level"] == ds.level.sel(size=2, shift=0.5, colour="blue").item()
    xr.testing.assert_identical(pickle.loads(pickle.dumps(ds[["level"]])), ds[["level"]])


def test_values_may_be_changed_without_changing_the_dataset(full: tuple[str, Sweep]) -> None:
    ds = open_sweep(full[0])
    before = ds.level.values.copy()
    ds.level.values[:] = 7.0
    ds.level_theory.values[:] = 7.0
    np.testing.assert_array_equal(ds.level, before)
    assert ds.level_theory.max() < 7


# --- laziness ---


def test_opening_and_printing_read_no_chunk(full: tuple[str, Sweep], reads: list[str], tmp_path: Path) -> None:
    ds = open_sweep(full[0])
    assert "level" in repr(ds) + ds._repr_html_()
    ds.sel(size=2).isel(shift=slice(1, 3))
    assert reads == []
    bare = shutil.copytree(full[0], tmp_path / "bare.zarr")
    shutil.rmtree(bare / "piece-0" / "level" / "c")
    gone = open_sweep(str(bare))
    assert gone.positive_n.min() == 24
    with pytest.raises(StoreError, match="block 0 of 'level' cannot be read: it was removed"):
        gone.level.load()


def test_quantities_of_one_selection_read_the_store_once(full: tuple[str, Sweep], reads: list[str]) -> None:
    ds = open_sweep(full[0]).sel(colour="red")
    for suffix in ("", "_sem", "_ci_low", "_ci_high", "_n"):
        ds[f"level{suffix}"].load()
    assert reads == ["level"] * 3  # one a batch


def test_only_the_selected_theory_is_computed(full: tuple[str, Sweep], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def theory(points: Any) -> Any:
        asked.append(len(points))
        return toys.theory_toy(points)

    counting = replace(toys.TOY, theory=theory)
    monkeypatch.setattr(statistics, "get", lambda name: counting)
    ds = open_sweep(full[0])
    assert asked == [1]  # which outcomes have one
    ds.level.load()
    assert asked == [1]
    np.testing.assert_array_equal(ds.walk_theory.sel(size=2, colour="red", shift=[0.5, -1], step=2), [1.0, -2.0])
    ds.level_theory.sel(size=2, colour="red", shift=[0.5, -1]).load()  # of the same points: kept
    assert asked == [1, 2]
    np.testing.assert_array_equal(ds.level_theory.sel(colour="blue"), [ds["shift"]] * 2)
    assert asked == [1, 2, 5, 5]  # a call for every value of the shape-fixing axis


def test_cache_is_bounded(full: tuple[str, Sweep], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "CACHE_BYTES", 2000)
    ds, whole = open_sweep(full[0]), open_sweep(full[0]).load()
    held = ds.level.variable._data.array.read.args[0]
    for i in range(5):
        np.testing.assert_array_equal(ds.level_sem.isel(shift=i), whole.level_sem.isel(shift=i))
        assert sum(map(snapshot._bytes, held._cache.values())) <= 2000
    ds.walk.load()
    assert not held._cache


# --- unfinished stores ---


def test_running_moments_are_those_of_the_draws_so_far(full: tuple[str, Sweep], tmp_path: Path) -> None:
    url, sweep = full
    everything = tuple(map(np.arange, sweep.shape))
    held, draws = Snapshot(ZarrStore.open(url)), pooled(sweep, "level")
    running = list(held.running("level", everything))
    assert [m.n.max() for m in running] == [8, 16, 24]
    for moments in running:
        np.testing.assert_allclose(moments.mean, draws[..., : int(moments.n.max())].mean(-1), rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(running[-1].stack(), held.moments("level", everything).stack())
    store = filled(str(tmp_path / "holes.zarr"), sweep, [0, 30])  # nothing in the second batch
    done = store.done()
    filled(store.url, sweep, [1])
    [_, last] = Snapshot(store, done).running("level", everything)
    assert last.n.sum() == sum(plan(sweep)[i].points for i in (0, 30)) * 8, "only what `done` says"


def test_only_committed_blocks_count(tmp_path: Path) -> None:
    sweep = Sweep.of(toy_spec(points_per_block=2))
    blocks = [0, 1, 5, 12, 13, 14, 30]
    filled(url := str(tmp_path / "part.zarr"), sweep, blocks)
    ds, draws = open_sweep(url), pooled(sweep, "walk", blocks)
    n = (~np.isnan(draws)).sum(-1)
    assert set(np.unique(n)) > {0, 8}
    np.testing.assert_array_equal(ds.walk_n, n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        np.testing.assert_allclose(ds.walk, np.nanmean(draws, -1), rtol=1e-12)
    np.testing.assert_array_equal(ds.walk.isnull(), n == 0)
    np.testing.assert_array_equal(ds.walk.isel(size=1, shift=[4, 1]), ds.walk.values[1, [4, 1]])
    np.testing.assert_array_equal(ds.level_histogram.sum("level_bin"), ds.level_n)
    assert ds.attrs["committed_blocks"] == 7


def test_data_without_a_mark_does_not_exist(tmp_path: Path) -> None:
    sweep = Sweep.of(toy_spec(points_per_block=2))
    store = filled(url := str(tmp_path / "torn.zarr"), sweep, [0, 1])
    clean = open_sweep(url).load()
    torn = plan(sweep)[2]
    moments = measure(sweep, torn).moments["level"].stack()
    store.array(0, "level")[(*torn.slices, slice(torn.batch, torn.batch + 1))] = np.expand_dims(moments, 3)
    xr.testing.assert_identical(open_sweep(url).load(), clean)


def test_a_dataset_is_a_snapshot(tmp_path: Path) -> None:
    sweep = Sweep.of(toy_spec())
    store = filled(url := str(tmp_path / "grows.zarr"), sweep, [0])
    before = open_sweep(url)
    perform(plan(sweep)[1], store, "cpu")
    assert before.level_n.sum() < open_sweep(url).level_n.sum()


def test_an_empty_store_opens(tmp_path: Path) -> None:
    filled(url := str(tmp_path / "empty.zarr"), Sweep.of(toy_spec()), [])
    ds = open_sweep(url)
    assert ds.level.isnull().all()
    assert not ds.level_n.any()
    assert not ds.level_histogram.any()
    assert ds.positive_ci_low.isnull().all()
    assert ds.level_theory.notnull().all()


def test_no_store_and_no_confidence(full: tuple[str, Sweep], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store there"):
        open_sweep(str(tmp_path / "none.zarr"))
    with pytest.raises(SpecError, match="between 0 and 1, got 95"):
        open_sweep(full[0], confidence=95)


def test_plain_xarray_opens_the_store_without_a_warning(full: tuple[str, Sweep]) -> None:
    plain, ds = xr.open_zarr(full[0], group="piece-0"), open_sweep(full[0])
    np.testing.assert_array_equal(plain.level.sel(moment="n").sum("batch"), ds.level_n)


# --- axes of other kinds ---


class SwitchParameters(toys.ToyParameters):
    lit: bool = Field(False, description="a switch")


def test_truth_values_and_descending_numbers_are_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "get", lambda name: replace(toys.TOY, parameters=SwitchParameters))
    sweep = Sweep.of(toy_spec(axes={"lit": [True, False], "shift": [1.0, -1.0, 0.0]}))
    filled(url := str(tmp_path / "switch.zarr"), sweep)
    ds = open_sweep(url)
    assert ds["shift"].values.tolist() == [-1, 0, 1]
    np.testing.assert_array_equal(ds.level.sel(lit=True), pooled(sweep, "level").mean(-1)[0, [1, 2, 0]])
    np.testing.assert_array_equal(ds.level_theory.sel(lit=False), ds["shift"])
    assert select(ds, ["lit=true", "shift=-1"]).level.item() == ds.level.values[0, 0]


# --- selecting and tables ---


def test_select_takes_one_value_or_several(full: tuple[str, Sweep]) -> None:
    ds = open_sweep(full[0])
    assert select(ds, ["size=8", "colour=red"]).level.dims == ("shift",)
    assert select(ds, ["shift=-0.5, 1", "step=2"]).walk.shape == (2, 2, 2)
    assert select(ds, ["shift=0.50000000001"])["shift"].item() == 0.5
    assert select(ds, []).identical(ds)


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        (["sise=2"], UnknownNameError, "unknown axis 'sise'; did you mean 'size'\\? known: colour, shift, size, step"),
        (["colour=rad"], UnknownNameError, "unknown value of axis 'colour' 'rad'; did you mean 'red'"),
        (["shift=0.4"], SpecError, "axis 'shift' has no value 0.4; nearest known: -0.5, 0, 0.5, 1"),
        (["size=two"], SpecError, "axis 'size' takes numbers, got 'two'; nearest known: 2, 8"),
        (["size"], SpecError, "a selection reads axis=value, got 'size'; axes: size, shift, colour, step"),
        (["size=2", "size=8"], SpecError, "axis 'size' is selected twice"),
        (["shift=nan"], SpecError, "axis 'shift' has no value nan"),
    ],
)
def test_select_says_what_is_wrong(full: tuple[str, Sweep], wanted: list[str], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        select(open_sweep(full[0]), wanted)


def test_table_has_a_row_for_every_point_and_place(full: tuple[str, Sweep]) -> None:
    ds = open_sweep(full[0])
    rows = table(ds, {"size": 8, "colour": "red"})
    assert [r["outcome"] for r in rows] == ["level"] * 5 + ["positive"] * 5 + ["walk"] * 15 + ["root"] * 5
    last = next(r for r in rows if r["outcome"] == "walk" and r["shift"] == 0.5 and r["step"] == 3)
    assert list(last)[:4] == ["size", "colour", "shift", "step"]
    assert list(last)[4:] == ["outcome", "mean", "ci_low", "ci_high", "draws", "theory", "z"]
    here = ds.sel(size=8, colour="red", shift=0.5, step=3)
    assert (last["mean"], last["ci_high"]) == (here.walk.item(), here.walk_ci_high.item())
    assert (last["draws"], last["theory"], last["size"]) == (24, 1.5, 8)
    assert last["z"] == here.walk_z.item()
    assert rows[5]["theory"] is rows[5]["z"] is None
    assert repr(table(select(ds, ["size=8", "colour=red"]))) == repr(rows)  # NaN is no reason to differ


def test_names_that_open_sweep_derives_are_guarded_against_clashes() -> None:
    assert {suffix for suffix in query.QUANTITIES if suffix} | {"theory", "z"} == set(DERIVED)
