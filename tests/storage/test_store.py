"""The contract of a store, and what ours promises beyond it."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from actors.inline import Inline
from storage.urls import check
from storage.zarr_store import ZarrStore
from sweeps import statistics
from sweeps.blocks import plan, settled
from sweeps.errors import StoreError
from sweeps.events import BlockDone
from sweeps.measure import measure
from sweeps.run import perform, run
from sweeps.sweep import Sweep
from tests.conftest import SpecMaker

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(toy: SpecMaker, tmp_path: Path) -> ZarrStore:
    return ZarrStore.create(str(tmp_path / "a.zarr"), toy())


def fill(store: ZarrStore) -> None:
    assert all(e.receipt for e in run(store, Inline("cpu")) if isinstance(e, BlockDone))


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


class TestContract:
    """Any store: nothing is done at first; what is written is done, read back, and written again without a change."""

    def test_nothing_is_done_at_first(self, store: ZarrStore) -> None:
        assert not store.done().any()
        assert len(store.done()) == len(plan(store.sweep))
        assert store.receipt(plan(store.sweep)[0]) is None

    def test_a_written_block_is_done_and_no_other(self, store: ZarrStore) -> None:
        receipt = perform(plan(store.sweep)[5], store, "cpu")
        assert np.flatnonzero(store.done()).tolist() == [5]
        assert store.receipt(plan(store.sweep)[5]) == receipt
        assert receipt.block == 5

    def test_it_is_read_back_to_the_byte(self, store: ZarrStore) -> None:
        block = plan(store.sweep)[7]
        perform(block, store, "cpu")
        stored, measured = store.read(block), measure(store.sweep, block)
        for name, moments in measured.moments.items():
            assert stored[name].tobytes() == moments.stack().tobytes()
        assert stored["level_histogram"].tobytes() == measured.histograms["level"].tobytes()

    def test_writing_again_changes_no_number(self, store: ZarrStore) -> None:
        block = plan(store.sweep)[2]
        first = perform(block, store, "cpu")
        before = store.content_hash()
        second = perform(block, store, "cpu")
        assert (second.digest, store.content_hash()) == (first.digest, before)

    def test_it_travels_by_pickle(self, store: ZarrStore) -> None:
        there = pickle.loads(pickle.dumps(store))
        perform(plan(there.sweep)[0], there, "cpu")
        assert store.done()[0]

    def test_it_lands_where_it_was_from_another_folder(
        self, toy: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = ZarrStore.create("here.zarr", toy())
        parcel = pickle.dumps(store)
        (tmp_path / "elsewhere").mkdir()
        with monkeypatch.context() as there:
            there.chdir(tmp_path / "elsewhere")
            perform(plan(store.sweep)[0], pickle.loads(parcel), "cpu")
            assert os.listdir() == []
        assert store.done()[0]

    def test_running_again_measures_exactly_what_is_missing(self, store: ZarrStore) -> None:
        for i in (0, 3, 4):
            perform(plan(store.sweep)[i], store, "cpu")
        events = [e for e in run(store, Inline("cpu")) if isinstance(e, BlockDone)]
        assert sorted(e.receipt.block for e in events) == sorted(set(range(len(plan(store.sweep)))) - {0, 3, 4})


def test_equal_sweeps_make_equal_files_but_for_the_ledger(toy: SpecMaker, tmp_path: Path) -> None:
    stores = [ZarrStore.create(str(tmp_path / name), toy(), made_by={"x": "y"}) for name in "ab"]
    for store in stores:
        fill(store)
    a, b = (files(tmp_path / name) for name in "ab")
    assert a.keys() == b.keys()
    assert {k: v for k, v in a.items() if not k.startswith("piece-0/commit/c/")} == {
        k: v for k, v in b.items() if not k.startswith("piece-0/commit/c/")
    }


def test_chunks_without_a_mark_are_not_done(store: ZarrStore, tmp_path: Path) -> None:
    perform(plan(store.sweep)[0], store, "cpu")
    shutil.rmtree(tmp_path / "a.zarr" / "piece-0" / "commit" / "c")
    assert list((tmp_path / "a.zarr" / "piece-0" / "level" / "c").rglob("*"))
    assert not store.done().any()


def test_the_mark_is_written_last(store: ZarrStore, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    original = ZarrStore.array
    monkeypatch.setattr(ZarrStore, "array", lambda self, piece, name: order.append(name) or original(self, piece, name))
    perform(plan(store.sweep)[0], store, "cpu")
    assert order == ["level", "level_histogram", "positive", "walk", "root", "commit"]


def test_no_two_blocks_share_a_file(store: ZarrStore, tmp_path: Path) -> None:
    root, seen = tmp_path / "a.zarr", {}
    for block in plan(store.sweep):
        before = set(files(root))
        perform(block, store, "cpu")
        new = set(files(root)) - before
        assert len(new) == 6, "a chunk an array and the mark"
        seen[block.index] = new
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


def test_plain_xarray_opens_it(store: ZarrStore) -> None:
    fill(store)
    dataset = xr.open_zarr(store.url, group="piece-0")
    assert dataset.walk.dims == ("size", "shift", "colour", "batch", "step", "moment")
    assert dataset.colour.values.tolist() == ["red", "blue"]
    assert dataset.level.attrs["long_name"] == "mean of the first normals"
    assert float(dataset.level.sel(size=8, shift=0.5, colour="red", moment="n").sum()) == 24


def test_attributes_say_what_made_it(toy: SpecMaker, tmp_path: Path) -> None:
    sweep = toy()
    store = ZarrStore.create(str(tmp_path / "a.zarr"), sweep, made_by={"git_commit": "abc"})
    found = store.attributes
    assert found["fingerprint"] == sweep.fingerprint
    assert Sweep.of(found["spec"]) == settled(sweep)
    assert found["made_by"] == {"git_commit": "abc"}
    assert set(found["versions"]) >= {"python", "torch", "numpy", "numba", "zarr"}


class TestRefusals:
    """Somebody else's place, or another sweep's, is left as it is."""

    def test_another_sweep_is_refused_with_the_difference(self, store: ZarrStore, toy: SpecMaker) -> None:
        with pytest.raises(StoreError, match=r"seed is 3 there, 4 here; fixed\.steps is 3 there, 5 here"):
            ZarrStore.create(store.url, toy(seed=4, fixed={"steps": 5}))

    def test_a_folder_of_other_things_is_refused(self, toy: SpecMaker, tmp_path: Path) -> None:
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "thesis.txt").write_text("mine")
        before = files(tmp_path)
        with pytest.raises(StoreError, match=r"is not empty and not a sweep: it holds 'thesis\.txt'"):
            ZarrStore.create(str(tmp_path / "docs"), toy())
        assert files(tmp_path) == before

    def test_somebody_elses_zarr_group_is_refused(self, toy: SpecMaker, tmp_path: Path) -> None:
        xr.Dataset({"x": ("t", [1.0, 2.0])}).to_zarr(tmp_path / "b.zarr", zarr_format=3, consolidated=False)
        with pytest.raises(StoreError, match="a Zarr group that is not a sweep"):
            ZarrStore.create(str(tmp_path / "b.zarr"), toy())

    def test_a_file_in_the_way_is_refused(self, toy: SpecMaker, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        with pytest.raises(StoreError, match="cannot be created"):
            ZarrStore.create(str(tmp_path / "file" / "a.zarr"), toy())

    def test_a_folder_that_cannot_be_written_is_refused(self, toy: SpecMaker) -> None:
        with pytest.raises(StoreError, match=r"cannot be (created|written)"):
            ZarrStore.create("/proc/sweeps/a.zarr", toy())

    def test_a_url_nobody_knows_is_refused(self, toy: SpecMaker) -> None:
        with pytest.raises(StoreError, match="is not one that obstore takes"):
            ZarrStore.create("gopher://hole/a.zarr", toy())

    def test_opening_nothing_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="no store there"):
            ZarrStore.open(str(tmp_path / "none.zarr"))

    def test_an_edited_spec_is_refused(self, store: ZarrStore, tmp_path: Path) -> None:
        root = tmp_path / "a.zarr" / "zarr.json"
        root.write_text(root.read_text().replace('"seed": 3', '"seed": 4'))
        with pytest.raises(StoreError, match="does not match its fingerprint"):
            ZarrStore.open(store.url)

    def test_blocks_without_their_root_are_not_taken_over(self, store: ZarrStore, toy: SpecMaker) -> None:
        perform(plan(store.sweep)[0], store, "cpu")
        os.unlink(os.path.join(store.url, "zarr.json"))
        with pytest.raises(StoreError, match=r"holds blocks of a sweep without its zarr\.json"):
            ZarrStore.create(store.url, toy(seed=9))

    def test_chunks_that_are_not_our_blocks_are_refused(self, store: ZarrStore, tmp_path: Path) -> None:
        root = tmp_path / "a.zarr" / "piece-0" / "zarr.json"
        text = json.loads(root.read_text())
        grid = text["consolidated_metadata"]["metadata"]["level"]["chunk_grid"]["configuration"]
        grid["chunk_shape"][1] += 1
        root.write_text(json.dumps(text))
        with pytest.raises(StoreError, match=r"array 'piece-0/level' has chunks .*, its blocks need"):
            ZarrStore.open(store.url)

    @pytest.mark.parametrize("root", ["[]", "{}", '{"attributes": []}', '{"attributes": {"relu_sweeps": {"spec": 1}}}'])
    def test_a_root_that_is_not_ours_is_refused(self, store: ZarrStore, tmp_path: Path, root: str) -> None:
        (tmp_path / "a.zarr" / "zarr.json").write_text(root)
        with pytest.raises(StoreError, match="not a sweep"):
            ZarrStore.open(store.url)

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("s3://user:s3cr3t@bucket/x", "was given with credentials"),
            ("s3://bucket/x?token=s3cr3t", "was given with credentials"),
            ("s3://me:s3c?r3t@bucket/x", "was given with credentials"),
            ("s3://me:s3cr3t@[bucket/x", r"'s3://\[bucket/x' is no URL"),
            ("s3://b/a#1.zarr", r"'s3://b/a#1\.zarr' has a '#'.*; write %23"),
            ("s3://b/a.zarr#", "has a '#'"),
            ("s3://b/a\tb.zarr", r"has a control character, '\\t'"),
            ("memory:///x", "memory is not shared with workers"),
            ("s3://", "is not one that obstore takes"),
            ("file:///data/run#1.zarr", r"'file:///data/run#1\.zarr' has a '#'.*; write %23, or the path alone"),
            ("file:///data/a?b.zarr", r"has a '\?'.*; write %3F, or the path alone"),
            ("file://results/a.zarr", "names a host, 'results'; write file:///PATH from the root on, or the path"),
            ("file://me:s3cr3t@host/a.zarr", "'file://host/a.zarr' names a host, 'host'"),
            ("file://", "has no path"),
            ("file://[b", "is no URL"),
            ("a\0b", r"has a control character, '\\x00'"),
            ("file:///a%00b", r"has a control character, '\\x00'"),
        ],
    )
    def test_a_url_that_cannot_work_is_refused_without_its_secret(
        self, toy: SpecMaker, tmp_path: Path, url: str, message: str
    ) -> None:
        for use in (check, lambda url: ZarrStore.create(url, toy())):
            with pytest.raises(StoreError, match=message) as error:
                use(url)
            assert "s3c" not in str(error.value)
            assert "\n" not in str(error.value)
        assert list(tmp_path.iterdir()) == []


def test_a_store_keeps_neither_its_place_nor_a_secret(toy: SpecMaker, tmp_path: Path) -> None:
    track = {"experiment": "x", "uri": "https://u:s3cr3t@h/x?token=abc"}
    store = ZarrStore.create(str(tmp_path / "a.zarr"), toy(store={"url": str(tmp_path / "a.zarr")}, track=track))
    everything = b"".join(files(tmp_path).values())
    for secret in (b"s3cr3t", b"token=abc", str(tmp_path).encode()):
        assert secret not in everything
    assert ZarrStore.open(store.url).sweep.track.experiment == "x"


def test_file_urls_name_the_path(toy: SpecMaker, tmp_path: Path) -> None:
    urls = [f"{start}{tmp_path}/a%20b%23%3F1.zarr" for start in ("file://", "FILE://", "file://localhost")]
    for i, url in enumerate([*urls, f"{tmp_path}/a b#?1.zarr"]):
        store = ZarrStore.create(url, toy())
        perform(plan(store.sweep)[i], store, "cpu")
        assert store.done().sum() == i + 1
    assert (tmp_path / "a b#?1.zarr" / "zarr.json").exists()


def test_strange_files_among_the_marks_are_left_alone(store: ZarrStore, tmp_path: Path) -> None:
    perform(plan(store.sweep)[0], store, "cpu")
    (tmp_path / "a.zarr" / "piece-0" / "commit" / "c" / ".nfs0001").write_text("x")
    assert store.done().sum() == 1


def test_a_full_disk_ends_the_sweep_in_one_line_and_keeps_what_is_there(
    store: ZarrStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ZarrStore.array
    puts = iter(range(1000))

    def full(self: ZarrStore, piece: int, name: str):
        if next(puts) > 15:
            raise OSError(28, "No space left on device\nand many more lines")
        return original(self, piece, name)

    monkeypatch.setattr(ZarrStore, "array", full)
    with pytest.raises(StoreError, match=r"cannot be written: \[Errno 28\] No space left on device; .*run again$"):
        fill(store)
    monkeypatch.setattr(ZarrStore, "array", original)
    assert 0 < store.done().sum() < len(plan(store.sweep))
    fill(store)
    assert store.done().all()


def test_a_half_made_store_is_made_again(toy: SpecMaker, tmp_path: Path) -> None:
    store = ZarrStore.create(str(tmp_path / "a.zarr"), toy())
    whole = files(tmp_path)
    (tmp_path / "a.zarr" / "zarr.json").unlink()
    shutil.rmtree(tmp_path / "a.zarr" / "piece-0" / "walk")
    ZarrStore.create(store.url, toy())
    assert files(tmp_path) == whole


def test_a_retuned_cost_model_moves_no_chunk(toy: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ZarrStore.create(str(tmp_path / "a.zarr"), toy(points_per_block=None))
    fill(store)
    dearer = dataclasses.replace(statistics.get("toy"), cost=lambda p: 1.0)
    monkeypatch.setattr(statistics, "get", lambda name: dearer)
    assert len(plan(toy(points_per_block=None))) > len(plan(store.sweep))
    for again in (ZarrStore.open(store.url), ZarrStore.create(store.url, toy(points_per_block=None))):
        assert again.done().all()
        assert len(again.done()) == len(plan(store.sweep))


def test_verify_finds_a_changed_byte(store: ZarrStore) -> None:
    fill(store)
    block = plan(store.sweep)[4]
    assert store.verify(block, "cpu") == []
    values = store.read(block)["walk"]
    values[..., 2] += 1e-12
    store.array(0, "walk")[(*block.slices, slice(block.batch, block.batch + 1))] = np.expand_dims(values, 3)
    assert store.verify(block, "cpu") == ["walk"]


KILLED_WRITER = """
import os, signal, sys, threading, time
from storage.zarr_store import ZarrStore
from sweeps import statistics
from sweeps.blocks import plan, settled
from sweeps.run import perform
store = ZarrStore.open(sys.argv[1])
perform(plan(store.sweep)[0], store, "cpu")
print("ready", flush=True)
while True:
    for block in plan(store.sweep):
        perform(block, store, "cpu")
"""


def test_a_writer_killed_at_any_instant_leaves_nothing_torn(store: ZarrStore, tmp_path: Path) -> None:
    for delay in np.random.default_rng(0).uniform(0, 0.05, 4):
        writer = subprocess.Popen([sys.executable, "-c", KILLED_WRITER, store.url], stdout=subprocess.PIPE, cwd=ROOT)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        for index in np.flatnonzero(store.done()):
            assert store.verify(plan(store.sweep)[int(index)], "cpu") == []
    store.gc()
    fill(store)
    other = ZarrStore.create(str(tmp_path / "b.zarr"), store.sweep)
    fill(other)
    assert store.content_hash() == other.content_hash()
    assert files(tmp_path / "a.zarr").keys() == files(tmp_path / "b.zarr").keys()


def test_gc_removes_what_killed_writers_left_and_nothing_else(store: ZarrStore, tmp_path: Path) -> None:
    fill(store)
    before = files(tmp_path)
    level = tmp_path / "a.zarr" / "piece-0" / "level" / "c" / "0"
    (level / "0#3").write_bytes(b"half")
    assert store.gc() == [], "its writer may be alive"
    os.utime(level / "0#3", (0, 0))
    assert store.gc() == [os.path.join("piece-0", "level", "c", "0", "0#3")]
    assert files(tmp_path) == before
