"""Files for other programs: what is read back, by readers that know nothing of us, is what `open_sweep` shows."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest
import relu_sweeps_toys as toys
import xarray as xr
from pydantic import Field

from actors.inline import Inline
from storage import netcdf, open_sweep, quantiles, slabs, tables
from storage.export import export
from storage.provenance import described
from storage.zarr_store import ZarrStore
from sweeps import statistics
from sweeps.errors import RefusedError, SpecError, StoreError, UnknownNameError
from sweeps.run import run
from sweeps.sweep import Sweep
from tests.conftest import toy_spec
from tests.storage.test_query import filled, pooled

FORMATS = ("nc", "parquet", "csv")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with draws, and points whose every draw is undefined."""
    sweep = Sweep.of(toy_spec(points_per_block=2, keep="draws"))
    return filled(str(tmp_path_factory.mktemp("kept") / "kept.zarr"), sweep).url


@pytest.fixture(scope="module")
def until(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store whose points stopped at different numbers of draws, not all of them narrow."""
    rule = {"outcome": "level", "halfwidth": 0.14, "min_draws": 16}
    sweep = Sweep.of(toy_spec(draws=80, until=rule, points_per_block=5))
    store = ZarrStore.create(str(tmp_path_factory.mktemp("until") / "until.zarr"), sweep)
    assert not list(run(store, Inline("cpu")))[-1].failed
    return store.url


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        return pd.read_csv(path, comment="#")
    return pd.read_parquet(path)


def attributes(path: Path) -> dict[str, Any]:
    """What a file says of the sweep, as any reader sees it."""
    if path.suffix == ".nc":
        return xr.open_dataset(path).attrs
    if path.suffix == ".parquet":
        metadata = parquet.read_schema(path).metadata
        assert metadata is not None
        return {k.decode(): v.decode() for k, v in metadata.items()}
    lines = (line[2:].rstrip("\n") for line in path.read_text().splitlines() if line.startswith("# "))
    return dict(line.partition(": ")[::2] for line in lines)


def same_bits(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind != "f":
        return a.dtype.kind == b.dtype.kind and a.shape == b.shape and bool((a == b).all())
    return bool(((a == b) & (np.signbit(a) == np.signbit(b)) | (np.isnan(a) & np.isnan(b))).all())


# --- NetCDF ---


@pytest.mark.parametrize("draws", [False, True])
def test_netcdf_is_what_open_sweep_shows_to_the_bit(kept: str, tmp_path: Path, draws: bool) -> None:
    found, ds = xr.open_dataset(export(kept, tmp_path / "a.nc", draws=draws)), open_sweep(kept)
    expected = ds if draws else ds.drop_vars([f"{o}_draws" for o in ("level", "positive", "walk", "root")])
    assert set(found.variables) == set(expected.variables)
    for name, variable in expected.variables.items():
        assert same_bits(found[name].values, variable.values), name
        assert found[name].dtype.kind == variable.dtype.kind
        assert (found[name].dims, found[name].attrs) == (variable.dims, variable.attrs)
    assert set(found.coords) == set(expected.coords)
    assert found.attrs == described(ZarrStore.open(kept)).attrs
    if draws:
        np.testing.assert_array_equal(found.walk_draws, pooled(ZarrStore.open(kept).sweep, "walk"))
        xr.testing.assert_equal(quantiles(found, "walk", [0.1, 0.5]), quantiles(ds, "walk", [0.1, 0.5]))


def test_netcdf_is_what_xarray_itself_would_write(kept: str, tmp_path: Path) -> None:
    ds = described(ZarrStore.open(kept))
    ds.load().to_netcdf(tmp_path / "theirs.nc")
    ours = xr.open_dataset(export(kept, tmp_path / "ours.nc", draws=True))
    theirs = xr.open_dataset(tmp_path / "theirs.nc")
    xr.testing.assert_identical(ours, theirs)
    for name in ours.variables:
        for key in ("_FillValue", "coordinates"):
            a, b = ours[name].encoding.get(key), theirs[name].encoding.get(key)
            assert a == b or (a != a and b != b), (name, key)


def test_a_reader_without_our_packages(kept: str, tmp_path: Path) -> None:
    export(kept, tmp_path / "a.nc")
    code = """
import sys, warnings
warnings.simplefilter("error")
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"sweeps", "storage", "actors", "deploy"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import xarray as xr
ds = xr.open_dataset("a.nc")
print(ds.level.sel(size=8, shift=0.5, colour="red").item(), ds.walk_theory.attrs["theory_note"])
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    level = open_sweep(kept).level.sel(size=8, shift=0.5, colour="red").item()
    assert ran.stdout.split() == [repr(level), "exact"]


# --- tables ---


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_tables_hold_every_number_to_the_bit(kept: str, tmp_path: Path, suffix: str) -> None:
    frame, ds = read(export(kept, tmp_path / f"a.{suffix}")), open_sweep(kept)
    assert list(frame)[:5] == ["size", "shift", "colour", "step", "outcome"]
    assert list(frame)[5:] == list(tables.QUANTITIES)
    assert frame["outcome"].unique().tolist() == ["level", "positive", "walk", "root"]
    assert len(frame) == 3 * 20 + 60
    for outcome, rows in frame.groupby("outcome"):
        dims = [str(d) for d in ds[outcome].dims]
        assert rows[[d for d in ("step",) if d not in dims]].isna().all(axis=None)
        for column, suffix in tables.QUANTITIES.items():
            if f"{outcome}{suffix}" not in ds:
                assert rows[column].isna().all()
                continue
            grid = rows.set_index(dims)[column].to_xarray().sel({d: ds[d] for d in dims})
            assert same_bits(grid.values, ds[f"{outcome}{suffix}"].values), (outcome, column)
    first = frame[frame["outcome"] == "walk"].iloc[:4]
    assert first[["size", "shift", "colour", "step"]].values.tolist() == [
        [2, -1, "red", 1], [2, -1, "red", 2], [2, -1, "red", 3], [2, -1, "blue", 1]
    ]  # fmt: skip


def test_csv_is_for_any_reader(kept: str, tmp_path: Path) -> None:
    path = export(kept, tmp_path / "a.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert len(rows) == 120
    assert rows[0]["step"] == ""
    assert float(rows[0]["mean"]) == open_sweep(kept).level.values[0, 0, 0]
    assert b"\r" not in path.read_bytes()


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_row_a_defined_draw(kept: str, tmp_path: Path, suffix: str) -> None:
    frame = read(export(kept, tmp_path / f"a.{suffix}", draws=True))
    assert list(frame) == ["size", "shift", "colour", "step", "outcome", "draw", "value"]
    for outcome, rows in frame.groupby("outcome"):
        draws = pooled(ZarrStore.open(kept).sweep, str(outcome))
        defined = ~np.isnan(draws)
        assert same_bits(rows["value"].to_numpy(), draws[defined])
        assert rows["draw"].to_numpy().tolist() == np.nonzero(defined)[-1].tolist()
    assert (frame["outcome"] == "root").sum() == open_sweep(kept).root_n.sum()


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_the_size_of_a_page_changes_no_row(
    kept: str, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for draws in (False, True):
        whole = read(export(kept, tmp_path / f"a.{suffix}", draws=draws, force=True))
        monkeypatch.setattr(tables, "ROWS", 7)
        pd.testing.assert_frame_equal(read(export(kept, tmp_path / f"b.{suffix}", draws=draws, force=True)), whole)
        if suffix == "csv":
            assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
        monkeypatch.undo()


def test_the_size_of_a_slab_changes_no_number(kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = xr.open_dataset(export(kept, tmp_path / "a.nc", draws=True)).load()
    for name, values in (("CHUNK", 7), ("SLAB", 30), ("DRAWS_SLAB", 50)):
        monkeypatch.setattr(slabs, name, values)
    small = xr.open_dataset(export(kept, tmp_path / "b.nc", draws=True))
    assert small.walk.encoding["chunksizes"] == (1, 1, 2, 3)
    assert small.walk_draws.encoding["chunksizes"] == (1, 1, 1, 1, 7)
    xr.testing.assert_identical(small, whole)


# --- every format ---


@pytest.mark.parametrize("suffix", FORMATS)
def test_attributes_say_where_it_comes_from(kept: str, tmp_path: Path, suffix: str) -> None:
    found = attributes(export(kept, tmp_path / f"a.{suffix}"))
    sweep = ZarrStore.open(kept).sweep
    assert Sweep.of(json.loads(found["spec"])) == sweep
    assert found["fingerprint"] == sweep.fingerprint
    assert float(found["confidence"]) == 0.95
    assert (found["statistic"], found["source"], found["theory_note"]) == ("toy", "none", "exact")
    assert set(json.loads(found["versions"])) >= {"python", "torch", "numpy", "relu-sweeps"}
    assert (int(found["committed_blocks"]), int(found["blocks"])) == (36, 36)


def test_pandas_shows_the_attributes_of_parquet(kept: str, tmp_path: Path) -> None:
    path = export(kept, tmp_path / "a.parquet")
    assert pd.read_parquet(path).attrs == described(ZarrStore.open(kept)).attrs


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_sweep_with_until_says_which_points_converged(until: str, tmp_path: Path, suffix: str) -> None:
    path, ds = export(until, tmp_path / f"a.{suffix}"), open_sweep(until)
    assert set(np.unique(ds.converged)) == {False, True}
    if suffix == "nc":
        found = xr.open_dataset(path)
        assert found.converged.dtype == bool
        xr.testing.assert_identical(found.converged, ds.converged)
        return
    frame = read(path)
    assert frame["converged"].dtype == bool
    for outcome, rows in frame.groupby("outcome"):
        expected, _ = xr.broadcast(ds.converged, ds[outcome])
        assert rows["converged"].tolist() == expected.values.ravel().tolist()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_selection_keeps_what_was_selected(kept: str, tmp_path: Path, suffix: str) -> None:
    path = export(kept, tmp_path / f"a.{suffix}", selection=["size=8", "step=2", "shift=-1,0.5"], outcome="walk")
    ds = open_sweep(kept).sel(size=8, step=2, shift=[-1, 0.5])
    if suffix == "nc":
        found = xr.open_dataset(path)
        assert set(found.data_vars) == {n for n in ds.data_vars if str(n).startswith("walk")} - {"walk_draws"}
        assert (found["size"].item(), found["step"].item()) == (8, 2)
        xr.testing.assert_equal(found, ds[list(found.data_vars)])
        return
    frame = read(path)
    assert frame[["size", "shift", "colour", "step", "outcome"]].values.tolist() == [
        [8, shift, colour, 2, "walk"] for shift in (-1, 0.5) for colour in ("red", "blue")
    ]
    assert same_bits(frame["mean"].to_numpy(), ds.walk.values.ravel())


def test_one_value_of_a_dimension_is_no_label_of_outcomes_without_it(kept: str, tmp_path: Path) -> None:
    frame = read(export(kept, tmp_path / "a.parquet", selection=["step=2"]))
    assert frame[frame["outcome"] == "walk"]["step"].unique().tolist() == [2]
    assert frame[frame["outcome"] != "walk"]["step"].isna().all()


def test_an_outcome_whose_name_begins_another_takes_only_its_own(tmp_path: Path) -> None:
    spec = {"name": "a", "statistic": "angle", "draws": 4, "draws_per_batch": 4, "axes": {"width": [4, 8]}}
    url = filled("angle.zarr", Sweep.of({**spec, "fixed": {"depth": 2}})).url
    found = xr.open_dataset(export(url, tmp_path / "a.nc", outcome="cosine"))
    assert not [name for name in found.data_vars if str(name).startswith("cosine_in")]
    assert "cosine_histogram" in found


class OddParameters(toys.ToyParameters):
    lit: bool = Field(False, description="a switch")
    label: str = Field("", description="any text")
    mean: float = Field(0.0, description="a name that a column has too")


ODD = ['#1, "quoted"', "naïve, 中", "a\nb", "plain"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_text_truth_values_and_clashing_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(statistics, "get", lambda name: replace(toys.TOY, parameters=OddParameters))
    axes = {"lit": [True, False], "label": ODD, "mean": [1e-300, -0.0, 0.1]}
    url = filled("odd.zarr", Sweep.of(toy_spec(axes=axes))).url
    path, ds = export(url, tmp_path / f"a.{suffix}"), open_sweep(url)
    if suffix == "nc":
        xr.testing.assert_equal(xr.open_dataset(path), ds)
        assert xr.open_dataset(path)["label"].values.tolist() == ODD
        return
    frame = read(path)
    assert list(frame)[:6] == ["lit", "label", "mean", "step", "outcome", "outcome_mean"]
    rows = frame[frame["outcome"] == "level"]
    assert rows[["lit", "label", "mean"]].values.tolist() == [
        [lit, label, mean] for lit in axes["lit"] for label in ODD for mean in ds["mean"].values.tolist()
    ]
    assert same_bits(rows["outcome_mean"].to_numpy(), ds.level.values.ravel())


def test_an_unfinished_store_is_exported_as_it_is(tmp_path: Path) -> None:
    url = filled("part.zarr", Sweep.of(toy_spec()), [0, 5]).url
    xr.testing.assert_equal(xr.open_dataset(export(url, tmp_path / "a.nc")), open_sweep(url))
    frame = read(export(url, tmp_path / "a.csv"))
    assert frame[frame["draws"] == 0]["mean"].isna().all()
    assert attributes(tmp_path / "a.csv")["committed_blocks"] == "2"


# --- places ---


@pytest.mark.parametrize(
    ("path", "changes", "error", "message"),
    [
        ("a.xlsx", {}, SpecError, r"written as \.nc, \.parquet, \.csv; got 'a\.xlsx'"),
        ("a", {}, SpecError, "got 'a'"),
        ("no/such/a.nc", {}, SpecError, "there is no such directory"),
        ("s3://bucket/a.nc", {}, SpecError, "local path, got 's3://bucket/a.nc'"),
        ("dir.nc", {}, SpecError, "it is a directory"),
        ("there.csv", {}, RefusedError, "'there.csv' is there already; give --force to write over it"),
        ("a.csv", {"outcome": "wlk"}, UnknownNameError, "unknown outcome 'wlk'; did you mean 'walk'"),
        ("a.csv", {"selection": ["sise=2"]}, UnknownNameError, "unknown axis 'sise'"),
        ("a.csv", {"draws": True}, SpecError, 'holds no draws; run the sweep with keep = "draws"'),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(
    until: str, tmp_path: Path, path: str, changes: dict, error: type, message: str
) -> None:
    (tmp_path / "dir.nc").mkdir()
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(error, match=message):
        export(until, path, **changes)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dir.nc", "there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_cannot_be_finished_leaves_the_old_one(kept: str, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text("old")
    with disk_of(2000), pytest.raises(StoreError, match="cannot be written: ") as said:
        export(kept, path, force=True)
    assert len(str(said.value).splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"
    export(kept, path, force=True)
    assert path.read_bytes() != b"old"


def test_nothing_is_under_the_final_name_before_it_is_whole(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    put = netcdf._put

    def watched(*arguments: Any) -> None:
        seen.append(sorted(p.name for p in tmp_path.iterdir()))
        put(*arguments)

    monkeypatch.setattr(netcdf, "_put", watched)
    export(kept, tmp_path / "a.nc")
    assert seen
    assert all(len(names) == 1 and names[0].startswith(".a.nc.") for names in seen)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]
    assert (tmp_path / "a.nc").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
