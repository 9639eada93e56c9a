"""What counts in a store of a sweep with `until`: at every point the batches up to its own stop, and no other."""

from __future__ import annotations

import pickle
import shutil
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from actors.inline import Inline
from storage.query import open_sweep
from storage.zarr_store import ZarrStore
from sweeps.errors import StoreError
from sweeps.moments import Moments, histogram
from sweeps.run import perform, run
from tests.sweeps.memory import Scrambled
from tests.sweeps.test_agenda import adaptive, alone, drawn


def moments_up_to(outcome: str, stops: np.ndarray) -> dict[str, np.ndarray]:
    """Moments of an outcome at every point over the first `stops` batches, merged one by one."""
    found = []
    for place in np.ndindex(*stops.shape):
        batches = np.split(drawn()[outcome][place][..., : 4 * stops[place]], stops[place], axis=-1)
        found.append(reduce(Moments.merge, map(Moments.of, batches)).stack())
    stacked = np.stack(found).reshape(*stops.shape, *np.shape(found[0]))
    return vars(Moments.unstack(stacked)) | {"variance": Moments.unstack(stacked).variance}


def check(ds: xr.Dataset, stops: np.ndarray) -> None:
    """To the bit: moments, counts and draws of every outcome over the first `stops` batches of every point."""
    for outcome in ("level", "positive", "walk", "root"):
        expected = moments_up_to(outcome, stops)
        named = {"": "mean", "_n": "n", "_undefined": "undefined", "_min": "min", "_max": "max"}
        for suffix, field in named.items():
            np.testing.assert_array_equal(ds[outcome + suffix], expected[field], err_msg=outcome + suffix)
        np.testing.assert_array_equal(ds[f"{outcome}_std"], np.sqrt(expected["variance"]))
        draws = drawn()[outcome].copy()
        for place in np.ndindex(*stops.shape):
            draws[place][..., 4 * stops[place] :] = np.nan
        np.testing.assert_array_equal(ds[f"{outcome}_draws"], draws)
        if outcome == "level":
            np.testing.assert_array_equal(ds.level_histogram, histogram(draws, (-1.0, -0.5, 0.0, 0.5, 1.0)))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> ZarrStore:
    sweep = adaptive("level", keep="draws", points_per_block=3)
    store = ZarrStore.create(str(tmp_path_factory.mktemp("until") / "a.zarr"), sweep)
    list(run(store, Inline("cpu")))
    return store


@pytest.mark.parametrize(
    ("outcome", "points_per_block"), [("level", 1), ("level", 20), ("positive", 3), ("walk", 3), ("root", 4)]
)
def test_every_point_counts_its_own_batches(outcome: str, points_per_block: int, tmp_path: Path) -> None:
    sweep = adaptive(outcome, keep="draws", points_per_block=points_per_block)
    store = ZarrStore.create(str(tmp_path / "a.zarr"), sweep)
    for index in np.random.default_rng(1).choice(len(store.plan), 8, replace=False):
        perform(store.plan[int(index)], store, "cpu")  # some of them beyond the stops
    for stop in (7, 30, None):
        list(run(store, Scrambled(4, 2, stop)))
    stops, converged = alone(outcome)
    ds = open_sweep(store.url)
    check(ds, stops)
    np.testing.assert_array_equal(ds.converged, converged)
    assert ds.converged.dtype == bool
    assert ds.converged.attrs["long_name"].startswith(f"interval of {outcome}")


def test_selections_agree_with_the_whole(full: ZarrStore) -> None:
    ds = open_sweep(full.url)
    whole = ds.load()
    lazy = open_sweep(full.url)
    random = np.random.default_rng(0)
    for _ in range(12):
        some = {k: random.integers(0, n, random.integers(1, n + 1)) for k, n in ds.sizes.items() if k in ds.dims}
        some = {k: v for k, v in some.items() if k in ("size", "shift", "colour", "step", "draw")}
        for name in ("converged", "level_n", "walk", "level_draws", "level_histogram"):
            here = {k: v for k, v in some.items() if k in whole[name].dims}
            xr.testing.assert_identical(lazy[name].isel(here).load(), whole[name].isel(here))
    xr.testing.assert_identical(pickle.loads(pickle.dumps(open_sweep(full.url))).load(), whole)


def test_one_point_reads_its_own_tile_up_to_its_stop(full: ZarrStore, tmp_path: Path) -> None:
    stops, whole = alone("level")[0], open_sweep(full.url).load()
    place = next(p for p in np.ndindex(*stops.shape) if stops[p] < 16)
    tile = int(full.plan.tiles_of(np.array([place]))[0])
    bare = shutil.copytree(full.url, tmp_path / "bare.zarr")
    for index in np.flatnonzero(full.done()):
        block = full.plan[int(index)]
        if index % full.plan.tiles != tile or block.batch >= stops[place]:
            for name in ("level", "level_histogram", "level_draws", "walk"):
                [*_, dims] = [len(full.array(0, name).shape) - len(block.tile) - 1]
                key = [*map(str, block.tile), str(block.batch), *["0"] * dims]
                bare.joinpath("piece-0", name, "c", *key).unlink()
    ds = open_sweep(str(bare)).isel(dict(zip(("size", "shift", "colour"), place, strict=True)))
    for name in ("converged", "level", "walk_sem", "level_histogram", "level_draws"):
        np.testing.assert_array_equal(ds[name], whole[name][place])
    with pytest.raises(StoreError, match="cannot be read: it was removed"):
        open_sweep(str(bare)).converged.load()


# --- unfinished ---


def test_a_gap_ends_what_counts(tmp_path: Path) -> None:
    sweep = adaptive("level", keep="draws", points_per_block=20)
    store = ZarrStore.create(str(tmp_path / "a.zarr"), sweep)
    tiles = store.plan.tiles
    have = {0: [0], 1: [0, 1, 3], 2: [0, 1, 2, 3, 4], 3: [1, 2]}  # batches of the tiles
    for tile, batches in have.items():
        for batch in batches:
            perform(store.plan[batch * tiles + tile], store, "cpu")
    unbroken, allowed = {0: 1, 1: 2, 2: 5, 3: 0}, np.zeros(sweep.shape, dtype=int)
    for tile in range(tiles):
        allowed[store.plan[tile].slices] = unbroken[tile]
    stops, converged = alone("level")
    ds = open_sweep(store.url)
    np.testing.assert_array_equal(ds.level_n, 4 * np.minimum(stops, allowed))
    np.testing.assert_array_equal(ds.converged, converged & (stops <= allowed))
    assert ds.level.isnull().any()
    np.testing.assert_array_equal(ds.level_draws.notnull().sum("draw"), ds.level_n)
    tile = store.plan[1].slices
    np.testing.assert_array_equal(ds.isel(size=tile[0], shift=tile[1], colour=tile[2]).level_n, ds.level_n.values[tile])


def test_no_point_has_converged_before_its_first_look(tmp_path: Path) -> None:
    """Eight equal draws have no variance to speak of: an interval is narrow by chance, and decides nothing."""
    until = {"outcome": "level", "halfwidth": 100.0, "min_draws": 12}
    store = ZarrStore.create(str(tmp_path / "a.zarr"), adaptive(until=until))
    for batch, converged in enumerate([False, False, True]):
        for tile in range(store.plan.tiles):
            perform(store.plan[batch * store.plan.tiles + tile], store, "cpu")
        assert (open_sweep(store.url).converged == converged).all()
        assert (open_sweep(store.url).level_n == 4 * (batch + 1)).all()


def test_an_empty_store_has_converged_nowhere(tmp_path: Path) -> None:
    ds = open_sweep(ZarrStore.create(str(tmp_path / "a.zarr"), adaptive()).url)
    assert not ds.converged.any()
    assert not ds.level_n.any()
    for none in ({"shift": []}, {"step": []}):
        assert ds.isel(none).load().walk.size == 0


def test_a_removed_chunk_is_noticed_by_whoever_goes_on(full: ZarrStore, tmp_path: Path) -> None:
    store = ZarrStore.open(str(shutil.copytree(full.url, tmp_path / "a.zarr")))
    Path(store.url, "piece-0", "level", "c", "0", "0", "0", "1", "0").unlink()
    with pytest.raises(StoreError, match=r"block \d+ of 'level' cannot be read: it was removed; remove piece-0/") as e:
        list(run(store, Inline("cpu")))
    mark = str(e.value).split("remove piece-0")[1].split(" ")[0]
    Path(store.url, "piece-0" + mark).unlink()
    list(run(store, Inline("cpu")))
    assert store.content_hash() == full.content_hash()
