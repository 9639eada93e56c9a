"""Stores that keep every draw: what is stored, and what can be asked of it later."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from storage.query import open_sweep
from storage.zarr_store import ZarrStore
from sweeps.errors import StoreError
from sweeps.sweep import Sweep
from tests.conftest import toy_spec
from tests.storage.test_query import filled, pooled

OUTCOMES = ["level", "positive", "walk", "root"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> ZarrStore:
    return filled(str(tmp_path_factory.mktemp("kept") / "a.zarr"), keeping())


def keeping(**changes: object) -> Sweep:
    return Sweep.of(toy_spec(keep="draws", points_per_block=2, **changes))


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_draws_are_those_that_were_sampled(kept: ZarrStore, outcome: str) -> None:
    draws, expected = open_sweep(kept.url)[f"{outcome}_draws"], pooled(kept.sweep, outcome)
    assert draws.dims == (*kept.sweep.axes, *(["step"] if outcome == "walk" else []), "draw")
    assert draws.values.tobytes() == np.ascontiguousarray(expected).tobytes()
    assert draws.attrs["long_name"].startswith("draws of ")


def test_undefined_draws_are_nan_and_counted(kept: ZarrStore) -> None:
    ds = open_sweep(kept.url)
    assert ds.root_undefined.sum() > 0
    np.testing.assert_array_equal(ds.root_draws.isnull().sum("draw"), ds.root_undefined)


def test_quantiles_and_histograms_are_numpys(kept: ZarrStore) -> None:
    ds, level, root = open_sweep(kept.url), pooled(kept.sweep, "level"), pooled(kept.sweep, "root")
    np.testing.assert_allclose(ds.level_draws.quantile([0.1, 0.5], "draw"), np.quantile(level, [0.1, 0.5], axis=-1))
    some = ds.root_draws.sel(size=8, shift=1.0, colour="red")
    np.testing.assert_allclose(some.quantile(0.9), np.nanquantile(root[1, 4, 0], 0.9))
    edges = np.linspace(-2, 2, 30)
    here = ds.level_draws.isel(size=1, colour=0)
    counts = [np.histogram(here.isel(shift=i), edges)[0] for i in range(5)]
    np.testing.assert_array_equal(counts, [np.histogram(level[1, i, 0], edges)[0] for i in range(5)])


def test_a_few_draws_read_their_batches_and_no_other(kept: ZarrStore, tmp_path: Path) -> None:
    whole = pooled(kept.sweep, "walk")
    bare = shutil.copytree(kept.url, tmp_path / "bare.zarr")
    for path in [p for p in (bare / "piece-0" / "walk_draws" / "c").glob("*/*/*/1/*/*") if p.is_file()]:
        path.unlink()
    draws = open_sweep(str(bare)).walk_draws
    for some in ([0, 23, 5], [7, 16], slice(0, 8, 3), slice(16, None), [22, 16, 22]):
        np.testing.assert_array_equal(draws.isel(draw=some), whole[..., some])
        np.testing.assert_array_equal(
            draws.isel(draw=some, step=[2, 0], shift=3), whole[:, 3][..., [2, 0], :][..., some]
        )
    for some in ([8], slice(None)):
        with pytest.raises(
            StoreError, match="'walk_draws' cannot be read: it was removed; remove piece-0/commit/c/0/0/0/1 "
        ):
            draws.isel(draw=some).load()


def test_draws_that_are_missing_are_nan(tmp_path: Path) -> None:
    blocks = [0, 1, 5, 12, 13, 14, 30]
    store = filled(str(tmp_path / "part.zarr"), keeping(), blocks)
    for outcome in OUTCOMES:
        draws = open_sweep(store.url)[f"{outcome}_draws"]
        np.testing.assert_array_equal(draws, pooled(store.sweep, outcome, blocks))
        assert draws.isnull().any()


def test_moments_and_hashes_are_those_of_a_store_without_draws(kept: ZarrStore, tmp_path: Path) -> None:
    plain = filled(str(tmp_path / "plain.zarr"), Sweep.of(toy_spec(points_per_block=2)))
    with_draws, without = open_sweep(kept.url).load(), open_sweep(plain.url).load()
    names = {f"{o}_draws" for o in OUTCOMES}
    assert set(with_draws.data_vars) - set(without.data_vars) == names
    left = with_draws.drop_vars(names)
    left.attrs = without.attrs = {}
    xr.testing.assert_identical(left, without)
    assert kept.content_hash() != plain.content_hash()
    assert all(kept.verify(block, "cpu") == [] for block in kept.plan)


def test_verify_finds_a_changed_draw(kept: ZarrStore, tmp_path: Path) -> None:
    store = ZarrStore.open(str(shutil.copytree(kept.url, tmp_path / "a.zarr")))
    store.array(0, "level_draws")[0, 0, 0, 0, 3] += 1e-9
    assert store.verify(store.plan[0], "cpu") == ["level_draws"]


def test_plain_xarray_reads_the_draws(kept: ZarrStore) -> None:
    plain = xr.open_zarr(kept.url, group="piece-0")
    assert plain.level_draws.dims == ("size", "shift", "colour", "batch", "draw")
    pooled_level = plain.level_draws.values.reshape(2, 5, 2, 24)
    np.testing.assert_array_equal(pooled_level, pooled(kept.sweep, "level"))
