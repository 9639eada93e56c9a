"""Copies for publication: what plain xarray reads from them, their hash, their bytes, and what they refuse."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import relu_sweeps_toys as toys
import xarray as xr
import zarr

from actors.inline import Inline
from storage import compact as module
from storage import content_hash, open_sweep, provenance, quantiles, slabs
from storage.compact import check, compact, is_copy
from storage.export import export
from storage.provenance import described
from storage.zarr_store import ZarrStore
from sweeps import statistics
from sweeps.blocks import plan
from sweeps.errors import NoStoreError, RefusedError, StoreError
from sweeps.extension import grown
from sweeps.run import perform, run
from sweeps.sweep import Sweep
from tests.conftest import toy_spec
from tests.storage.test_export import OddParameters, disk_of
from tests.storage.test_query import filled


def files(root: str) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in Path(root).rglob("*") if p.is_file()}


def finished(url: str, **changes: Any) -> str:
    store = ZarrStore.create(url, Sweep.of(toy_spec(**changes)))
    assert not list(run(store, Inline("cpu")))[-1].failed
    return url


def extended(url: str, **more: Any) -> str:
    store = ZarrStore.extend(url, lambda now: grown(now, **more))
    store.prepare()
    assert not list(run(store, Inline("cpu")))[-1].failed
    return url


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> str:
    return finished(str(tmp_path_factory.mktemp("kept") / "kept.zarr"), points_per_block=2, keep="draws")


@pytest.fixture
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and slabs so small that a toy has many of them."""
    for name, values in (("CHUNK", 7), ("SLAB", 30), ("DRAWS_SLAB", 50)):
        monkeypatch.setattr(slabs, name, values)


# --- the copy ---


def test_it_holds_what_open_sweep_shows_and_says_where_from(kept: str) -> None:
    made = compact(kept, "copy.zarr")
    copy, ds = xr.open_zarr("copy.zarr"), open_sweep(kept)
    xr.testing.assert_equal(copy, ds)
    assert set(copy.coords) == set(ds.coords)
    assert {"level_theory", "level_histogram", "walk_draws"} <= set(copy.data_vars)
    for name, variable in ds.variables.items():
        assert copy[name].attrs == variable.attrs
        assert copy[name].dtype.kind == variable.dtype.kind or variable.dtype.kind == "U"
    said = described(ZarrStore.open(kept)).attrs
    assert said.items() <= copy.attrs.items()
    assert Sweep.of(json.loads(copy.attrs["spec"])) == ZarrStore.open(kept).sweep
    assert (copy.attrs["status"], copy.attrs["committed_blocks"], copy.attrs["blocks"]) == ("complete", 36, 36)
    assert [d.partition(":")[0] for d in json.loads(copy.attrs["devices"])] == ["cpu"]
    assert copy.attrs["first_block"] <= copy.attrs["last_block"]
    assert copy.attrs["content_hash"] == made.content_hash == content_hash(ds) == content_hash(copy)
    xr.testing.assert_equal(quantiles(copy, "walk", [0.1, 0.5]), quantiles(ds, "walk", [0.1, 0.5]))


def test_devices_and_times_are_those_of_the_ledger(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    receipts = ZarrStore.open(kept).receipts()
    ends = [f(r.finished for r in receipts) // 10**9 for f in (min, max)]
    for page in (4096, 5):
        monkeypatch.setattr(provenance, "RECEIPTS", page)
        found = provenance.history(ZarrStore.open(kept))
        assert json.loads(found["devices"]) == sorted({r.device for r in receipts})
        times = [datetime.fromisoformat(found[k]).timestamp() for k in ("first_block", "last_block")]
        assert times == ends


def test_a_reader_without_our_packages_gets_no_warning(kept: str, tmp_path: Path) -> None:
    compact(kept, str(tmp_path / "copy.zarr"))
    code = """
import sys, warnings
warnings.simplefilter("error")
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"sweeps", "storage", "actors", "deploy"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import xarray as xr, zarr
ds = xr.open_zarr("copy.zarr")
print(ds.level.sel(size=8, shift=0.5, colour="red").item(), ds.attrs["content_hash"])
zarr.open_group("copy.zarr", mode="r", use_consolidated=False)["walk_draws"][:]
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    ds = open_sweep(kept)
    assert ran.stdout.split() == [repr(ds.level.sel(size=8, shift=0.5, colour="red").item()), content_hash(ds)]


@pytest.mark.usefixtures("small_slabs")
def test_chunks_and_shards_are_bounded_and_hold_the_same(kept: str) -> None:
    made = compact(kept, "copy.zarr")
    xr.testing.assert_equal(xr.open_zarr("copy.zarr"), open_sweep(kept))
    group = zarr.open_group("copy.zarr", mode="r")
    for name, array in group.arrays():
        bound = 50 if name.endswith("_draws") else 30
        assert np.prod(array.chunks) <= 7, name
        assert np.prod(array.shards or array.chunks) <= bound + 7, name
    assert (group["walk"].chunks, group["walk"].shards) == ((1, 1, 2, 3), (1, 5, 2, 3))
    assert (group["walk_draws"].chunks, group["walk_draws"].shards) == ((1, 1, 1, 1, 7), (1, 1, 1, 2, 28))
    assert not check("copy.zarr")
    assert made.content_hash == content_hash(open_sweep(kept))


def test_the_same_store_gives_the_same_bytes(kept: str) -> None:
    compact(kept, "a.zarr")
    made = compact(kept, "b.zarr")
    assert files("a.zarr") == files("b.zarr")
    assert made.after.objects == len(files("b.zarr")) < made.before.objects == len(files(kept))
    assert made.after.bytes == sum(map(len, files("b.zarr").values()))


def test_it_is_written_to_any_url_and_into_an_empty_folder(kept: str, tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    compact(kept, "a.zarr")
    compact(kept, f"file://{tmp_path}/b.zarr")
    assert files("a.zarr") == files("b.zarr")


def test_the_root_comes_last(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[set[str]] = []
    put = obstore.put

    def watched(objects: Any, key: str, *arguments: Any, **options: Any) -> Any:
        if key == "zarr.json":
            before.append(set(files("copy.zarr")))
            with pytest.raises(FileNotFoundError):
                xr.open_zarr("copy.zarr")
        return put(objects, key, *arguments, **options)

    monkeypatch.setattr(obstore, "put", watched)
    compact(kept, "copy.zarr")
    assert before == [set(files("copy.zarr")) - {"zarr.json"}]


# --- the hash ---


def slow_hash(ds: xr.Dataset) -> str:
    """The content hash as docs/export.md defines it, an obvious way."""
    for dim in ds.dims:
        if dim in ds.coords:
            values = ds[dim].values.tolist()
            ds = ds.isel({dim: [values.index(v) for v in sorted(values)]})
    manifest = ""
    for name in sorted(map(str, ds.variables)):
        values = np.asarray(ds[name].values)
        text = values.dtype.kind in "OUT"
        header = json.dumps([name, list(ds[name].dims), "str" if text else values.dtype.name, list(values.shape)])
        body = b""
        for value in values.ravel().tolist():
            if text:
                body += (json.dumps(value) + "\n").encode()
            elif isinstance(value, float):
                body += bytes.fromhex("000000000000f87f") if value != value else np.float64(value).tobytes()
            else:
                body += value.to_bytes(1 if isinstance(value, bool) else 8, "little", signed=True)
        manifest += f"{hashlib.sha256((header + chr(10)).encode() + body).hexdigest()}  {name}\n"
    return hashlib.sha256(manifest.encode()).hexdigest()


@pytest.mark.parametrize("small", [False, True])
def test_the_hash_is_what_its_definition_says(kept: str, small: bool, request: pytest.FixtureRequest) -> None:
    if small:
        request.getfixturevalue("small_slabs")
    ds = open_sweep(kept)
    assert ds["colour"].values.tolist() == ["red", "blue"], "not in ascending order"
    assert content_hash(ds) == slow_hash(ds)


def test_tiles_workers_and_order_of_blocks_change_no_hash(kept: str) -> None:
    expected = content_hash(open_sweep(kept))
    sweep = Sweep.of(toy_spec(points_per_block=3, keep="draws"))
    store, order = ZarrStore.create("b.zarr", sweep), list(range(len(plan(sweep))))
    random.Random(1).shuffle(order)
    for i in order:
        perform(plan(sweep)[i], store, "cpu")
    assert compact("b.zarr", "copy.zarr").content_hash == expected


@pytest.mark.parametrize("keep", ["moments", "draws"])
def test_an_extended_store_and_one_larger_run_have_one_hash(keep: str) -> None:
    few = {"size": [8], "shift": [-1.0, 1.0], "colour": ["red"]}
    finished("grown.zarr", axes=few, keep=keep, draws=16)
    extended("grown.zarr", axes={"size": [2], "shift": [0.0, -0.5], "colour": ["blue"]})
    extended("grown.zarr", draws=24, axes={"shift": [0.5]})
    finished("whole.zarr", keep=keep)
    finished("turned.zarr", keep=keep, axes={**toy_spec()["axes"], "colour": ["blue", "red"], "size": [8, 2]})
    made = [compact(f"{name}.zarr", f"{name}-copy.zarr") for name in ("grown", "whole", "turned")]
    assert len({m.content_hash for m in made}) == 1
    grown_copy, whole_copy = (xr.open_zarr(f"{name}-copy.zarr") for name in ("grown", "whole"))
    xr.testing.assert_equal(grown_copy, whole_copy)
    assert grown_copy.attrs["fingerprint"] == whole_copy.attrs["fingerprint"]


def test_a_netcdf_file_of_all_of_it_has_the_same_hash(kept: str) -> None:
    assert content_hash(xr.open_dataset(export(kept, "a.nc", draws=True))) == content_hash(open_sweep(kept))
    assert content_hash(xr.open_dataset(export(kept, "b.nc"))) != content_hash(open_sweep(kept))


CHANGES: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "a value": lambda ds: ds.assign(level=ds.level.where(ds["size"] == 2, ds.level * (1 + 2**-52))),
    "the sign of zero": lambda ds: ds.assign(zero=-ds.zero),
    "a name": lambda ds: ds.rename(level="height"),
    "a variable less": lambda ds: ds.drop_vars("level_min"),
    "a dtype": lambda ds: ds.assign(level_n=ds.level_n.astype("int32")),
    "a shape": lambda ds: ds.isel(shift=slice(1, None)),
    "dims": lambda ds: ds.transpose(..., "size"),
    "a coordinate": lambda ds: ds.assign_coords(shift=ds["shift"] + 1),
    "text": lambda ds: ds.assign_coords(colour=["red", "blau"]),
    "points that are exchanged": lambda ds: ds.assign(level=ds.level.roll(shift=1, roll_coords=False)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_content_changes_the_hash(kept: str, change: str) -> None:
    ds = open_sweep(kept).drop_vars([f"{o}_draws" for o in ("level", "positive", "walk", "root")]).load()
    ds["zero"] = xr.zeros_like(ds.level)
    assert content_hash(CHANGES[change](ds)) != content_hash(ds)


def test_attributes_order_and_the_bits_of_nan_do_not_count(kept: str) -> None:
    ds = open_sweep(kept).load()
    other = ds.isel(shift=[3, 1, 0, 4, 2], colour=[1, 0]).assign_attrs(title="b")
    odd = np.array([0xFFF8000000000001], dtype="<u8").view("<f8")[0]
    other["root"] = other.root.where(other.root.notnull(), odd)
    assert other.root.values.tobytes() != ds.root.isel(shift=[3, 1, 0, 4, 2], colour=[1, 0]).values.tobytes()
    assert content_hash(other) == content_hash(ds)


# --- checking ---


def test_a_copy_is_told_from_a_store(kept: str, tmp_path: Path) -> None:
    compact(kept, "copy.zarr")
    assert (is_copy("copy.zarr"), is_copy(kept), is_copy("none.zarr"), is_copy(str(tmp_path))) == (1, 0, 0, 0)
    assert check("copy.zarr") == []


def shard(name: str) -> Path:
    return next(p for p in (Path("copy.zarr") / name / "c").rglob("*") if p.is_file())


def damage(how: str) -> None:
    if how == "removed":
        shard("level").unlink()
    elif how == "torn":
        shard("level").write_bytes(shard("level").read_bytes()[:-7])
    elif how == "other numbers":
        zarr.open_group("copy.zarr", mode="r+")["level"][0, 0, 0] = 0.5
    elif how == "variable removed":
        root = json.loads(Path("copy.zarr/zarr.json").read_text())
        del root["consolidated_metadata"]["metadata"]["level"]
        Path("copy.zarr/zarr.json").write_text(json.dumps(root))
    elif how == "variable added":
        group = zarr.open_group("copy.zarr", mode="r+")
        group.create_array("mine", data=np.zeros(2), dimension_names=["size"])
        zarr.consolidate_metadata(group.store)
    else:
        text = Path("copy.zarr/zarr.json").read_text()
        said = json.loads(text)["attributes"]["content_hash"]
        Path("copy.zarr/zarr.json").write_text(text.replace(said, "0" * 64))


@pytest.mark.filterwarnings("ignore:Consolidated metadata")  # of what this test writes
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("removed", "level differs"),
        ("torn", "level cannot be read: "),
        ("other numbers", "level differs"),
        ("variable removed", "level is missing"),
        ("variable added", "mine is not in the manifest"),
        ("hash edited", "content_hash is not that of the manifest"),
    ],
)
def test_what_differs_is_named(kept: str, how: str, said: str) -> None:
    compact(kept, "copy.zarr")
    damage(how)
    [line] = check("copy.zarr")
    assert line.startswith(said)
    assert len(line.splitlines()) == 1


def test_what_is_no_copy_cannot_be_checked(kept: str) -> None:
    for url in (kept, "none.zarr"):
        with pytest.raises(StoreError):
            check(url)


# --- refusals ---


def test_an_unfinished_sweep_is_refused_unless_partial(kept: str) -> None:
    filled("part.zarr", Sweep.of(toy_spec()), [0, 5])
    with pytest.raises(RefusedError, match=r"part.zarr is unfinished, 2 of 12 blocks are measured; .* --partial"):
        compact("part.zarr", "copy.zarr")
    assert not Path("copy.zarr").exists()
    assert compact("part.zarr", "copy.zarr", partial=True).status == "partial"
    copy = xr.open_zarr("copy.zarr")
    xr.testing.assert_equal(copy, open_sweep("part.zarr"))
    assert (copy.attrs["status"], copy.attrs["committed_blocks"], copy.attrs["blocks"]) == ("partial", 2, 12)
    assert compact(kept, "whole.zarr", partial=True).status == "complete"


def test_an_empty_store_can_be_copied_too() -> None:
    filled("empty.zarr", Sweep.of(toy_spec()), [])
    compact("empty.zarr", "copy.zarr", partial=True)
    xr.testing.assert_equal(xr.open_zarr("copy.zarr"), open_sweep("empty.zarr"))
    assert check("copy.zarr") == []


def test_a_sweep_with_until_is_complete_when_its_points_are_settled() -> None:
    until = {"outcome": "level", "halfwidth": 0.14, "min_draws": 16}
    finished("until.zarr", draws=80, until=until, points_per_block=5)
    store = ZarrStore.open("until.zarr")
    assert 0 < store.done().sum() < len(store.plan)
    assert compact("until.zarr", "copy.zarr").status == "complete"
    copy = xr.open_zarr("copy.zarr")
    assert copy.converged.dtype == bool
    assert set(np.unique(copy.converged)) == {False, True}
    xr.testing.assert_equal(copy, open_sweep("until.zarr"))
    fresh = ZarrStore.create("begun.zarr", Sweep.of(toy_spec(draws=80, until=until, points_per_block=5)))
    for i in range(2 * fresh.plan.tiles - 1):
        perform(fresh.plan[i], fresh, "cpu")
    with pytest.raises(RefusedError, match="is unfinished"):
        compact("begun.zarr", "other.zarr")


def test_truth_values_and_text_of_any_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "get", lambda name: replace(toys.TOY, parameters=OddParameters))
    filled("odd.zarr", Sweep.of(toy_spec(axes={"lit": [True, False], "label": ["naïve, 中", "", "a\nb"]})))
    made = compact("odd.zarr", "copy.zarr")
    copy = xr.open_zarr("copy.zarr")
    xr.testing.assert_equal(copy, open_sweep("odd.zarr"))
    assert copy["lit"].dtype == bool
    assert made.content_hash == slow_hash(open_sweep("odd.zarr"))


def test_a_place_that_is_not_empty_is_left_as_it_is(kept: str, tmp_path: Path) -> None:
    compact(kept, "copy.zarr")
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    Path("file.zarr").write_text("mine")
    before = files(str(tmp_path))
    for out in ("copy.zarr", "mine"):
        with pytest.raises(RefusedError, match=f"'{out}' is not empty, it holds '.*'; give another place"):
            compact(kept, out)
    with pytest.raises(StoreError, match=r"'file.zarr' cannot be"):
        compact(kept, "file.zarr")
    assert files(str(tmp_path)) == before


def test_a_place_that_only_looks_empty_is_left_as_it_is(kept: str) -> None:
    Path("hidden").mkdir()
    Path("hidden/notes#1").write_text("mine")
    Path("folders/inner").mkdir(parents=True)
    for out, there in (("hidden", "notes#1"), ("folders", "inner")):
        with pytest.raises(RefusedError, match=f"'{out}' is not empty, it holds '{there}'; give another place"):
            compact(kept, out)
    assert files("hidden") == {"notes#1": b"mine"}
    assert [p.name for p in Path("folders").rglob("*")] == ["inner"]


def test_the_store_itself_is_no_place_for_a_copy(kept: str) -> None:
    before = files(kept)
    for out in (kept, f"{kept}/copy.zarr", f"file://{kept}/copy.zarr"):
        with pytest.raises(RefusedError, match="lies inside the store"):
            compact(kept, out)
    assert files(kept) == before
    with pytest.raises(NoStoreError):
        compact("none.zarr", "copy.zarr")


@pytest.mark.parametrize("out", ["s3://[b", "file://[b", "a\0b", "file:///data/a#b"])
def test_a_place_that_cannot_be_is_refused(kept: str, out: str) -> None:
    with pytest.raises(StoreError, match=r"is no URL|has a control character|has a '#'"):
        compact(kept, out)


@pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_copy_that_failed(
    kept: str, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(ds: xr.Dataset) -> dict[str, str]:
        assert files("copy.zarr")
        raise error

    monkeypatch.setattr(module, "manifest", fail)
    with pytest.raises(StoreError if isinstance(error, OSError) else KeyboardInterrupt, match=r"gone|^$"):
        compact(kept, "copy.zarr")
    assert not Path("copy.zarr").exists()


def test_a_full_disk_is_one_line(kept: str) -> None:
    with disk_of(3000), pytest.raises(StoreError, match=r"'copy.zarr' cannot be written: ") as said:
        compact(kept, "copy.zarr")
    assert len(str(said.value).splitlines()) == 1
    assert not Path("copy.zarr").exists()
