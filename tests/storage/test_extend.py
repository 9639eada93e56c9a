"""Extended stores: value for value those of one larger run, nothing touched or measured again, whoever is killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.inline import Inline
from storage import template
from storage.query import open_sweep
from storage.zarr_store import ZarrStore
from sweeps import blocks, statistics
from sweeps.errors import NoStoreError, RefusedError, StoreError
from sweeps.events import BlockDone
from sweeps.extension import grown
from sweeps.run import perform, run
from sweeps.sweep import Sweep
from tests.conftest import toy_spec
from tests.strategies import FLIPPED, growing

ROOT = Path(__file__).parents[2]
SMALL = {"axes": {"size": [2, 8], "shift": [0.0, 1.0]}, "draws": 8, "draws_per_batch": 4}


@pytest.fixture
def _flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "get", lambda name: FLIPPED)


def fill(store: ZarrStore) -> int:
    """Measure what a store lacks; how many blocks that was."""
    store.prepare()
    return sum(isinstance(event, BlockDone) for event in run(store, Inline("cpu")))


def made(url: Path, spec: dict) -> ZarrStore:
    store = ZarrStore.create(str(url), Sweep.of(spec))
    fill(store)
    return store


def at_once(url: Path, spec: dict) -> xr.Dataset:
    """What one run of a sweep in a fresh store gives."""
    return seen(made(url, spec).url)


def seen(url: str) -> xr.Dataset:
    """All that `open_sweep` shows, but for the counts of blocks; names and truth values sorted too."""
    ds = open_sweep(url).load()
    ds.attrs = {k: v for k, v in ds.attrs.items() if k not in ("committed_blocks", "blocks")}
    return ds.sortby([name for name in ds.coords if name in ("colour", "flip")])


def chunks(url: str | Path) -> dict[str, tuple[bytes, int]]:
    """Every committed chunk and mark: its bytes, and when they were written."""
    found = [p for p in Path(url).rglob("*") if p.is_file() and "c" in p.relative_to(url).parts]
    return {str(p.relative_to(url)): (p.read_bytes(), p.stat().st_mtime_ns) for p in found}


def files(url: str | Path) -> dict[str, bytes]:
    return {str(p.relative_to(url)): p.read_bytes() for p in Path(url).rglob("*") if p.is_file()}


def more(**what: Any) -> Callable[[Sweep], Sweep]:
    return lambda now: grown(now, **what)


VARIANTS: dict[str, dict] = {
    "moments": {},
    "draws": {"keep": "draws"},
    "until": {"until": {"outcome": "level", "halfwidth": 0.8, "min_draws": 4}},
}


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.usefixtures("_flipped")
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_any_extensions_give_what_one_larger_run_gives(
    variant: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    specs = data.draw(growing(**VARIANTS[variant]))
    folder = tmp_path_factory.mktemp("extended")
    store = ZarrStore.create(str(folder / "a.zarr"), Sweep.of(specs[0]))
    measured, before = fill(store), chunks(store.url)
    for number, spec in enumerate(specs[1:], 2):
        if variant == "until":
            spec["until"] = {**spec["until"], "halfwidth": 0.8 / number}
        receipts = {receipt.finished: receipt for receipt in store.receipts()}
        store = ZarrStore.extend(store.url, lambda _, spec=spec: Sweep.of(spec))
        measured += fill(store)
        after = chunks(store.url)
        assert {key: after[key] for key in before} == before, "a committed chunk was written again"
        assert {r.finished for r in store.receipts()} >= receipts.keys()
        assert measured == store.done().sum(), "something was measured again"
        before = after
    xr.testing.assert_identical(seen(store.url), at_once(folder / "b.zarr", spec))
    assert ZarrStore.open(store.url).sweep == store.sweep
    shutil.rmtree(folder)


@pytest.fixture
def twice(tmp_path: Path) -> ZarrStore:
    """A store extended by draws, then by a value between others on one axis and one on the other."""
    store = made(tmp_path / "a.zarr", toy_spec(**SMALL))
    ZarrStore.extend(store.url, more(draws=12))
    fill(store := ZarrStore.extend(store.url, more(axes={"shift": [0.5], "size": [4]})))
    return store


LARGER = {**SMALL, "axes": {"size": [2, 8, 4], "shift": [0.0, 1.0, 0.5]}, "draws": 12}


def test_everything_else_knows_extended_stores(twice: ZarrStore, tmp_path: Path) -> None:
    assert len(twice.plan.pieces) == 3
    assert twice.done().all()
    for block in twice.plan:
        assert twice.verify(block, "cpu") == []
        receipt = twice.receipt(block)
        assert receipt is not None
        assert receipt.block == block.index
    assert [r.block for r in twice.receipts()] == list(range(len(twice.plan)))
    assert twice.gc() == []

    other = made(tmp_path / "b.zarr", toy_spec(**SMALL))
    for change in (more(draws=12), more(axes={"shift": [0.5], "size": [4]})):
        assert other.content_hash() != twice.content_hash()
        fill(other := ZarrStore.extend(other.url, change))
    assert other.content_hash() == twice.content_hash()
    assert files(other.url).keys() == files(twice.url).keys()
    xr.testing.assert_identical(seen(twice.url), at_once(tmp_path / "c.zarr", toy_spec(**LARGER)))


def test_an_extension_that_adds_nothing_writes_nothing(twice: ZarrStore) -> None:
    before = files(twice.url)
    again = ZarrStore.extend(twice.url, more(draws=12, axes={"shift": [1.0, 0.5]}))
    assert again.plan == twice.plan
    assert fill(again) == 0
    assert files(twice.url) == before


def test_the_larger_spec_finds_an_extended_store_and_the_old_one_does_not(twice: ZarrStore) -> None:
    before = files(twice.url)
    assert ZarrStore.create(twice.url, Sweep.of(json.loads(twice.sweep.to_json()))).done().all()
    with pytest.raises(StoreError, match=r"holds another sweep: draws is 12 there, 8 here; axes.size is .*extend"):
        ZarrStore.create(twice.url, Sweep.of(toy_spec(**SMALL)))
    assert files(twice.url) == before


@pytest.mark.parametrize(
    "change", [more(draws=4), more(axes={"shift": [99.0]}), lambda _: Sweep.of(toy_spec(**SMALL, seed=4))]
)
def test_a_refused_extension_writes_nothing(twice: ZarrStore, change: Callable[[Sweep], Sweep]) -> None:
    before = files(twice.url)
    with pytest.raises((RefusedError, ValueError)):
        ZarrStore.extend(twice.url, change)
    assert files(twice.url) == before


def test_extending_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoStoreError, match="no store there"):
        ZarrStore.extend(str(tmp_path / "none.zarr"), more(draws=8))
    assert not (tmp_path / "none.zarr").exists()


def test_a_store_of_small_tiles_that_became_large_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_BLOCKS", 40)
    store = made(tmp_path / "a.zarr", toy_spec(axes={"shift": [0.0]}, points_per_block=1, draws=8))
    ZarrStore.extend(store.url, more(axes={"shift": {"linspace": [0, 1, 50]}}))
    assert len(ZarrStore.open(store.url).plan) == 2
    assert fill(ZarrStore.open(store.url)) == 1
    assert open_sweep(store.url).level_n.values.tolist() == [8] * 50


# --- other readers ---


def test_plain_xarray_opens_a_store_before_and_after(twice: ZarrStore, tmp_path: Path) -> None:
    young = made(tmp_path / "b.zarr", toy_spec(**SMALL))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for store, pieces, batches in ((young, 1, 2), (twice, 3, 3)):
            tree = xr.open_datatree(store.url, engine="zarr")
            assert list(tree.children) == [f"piece-{i}" for i in range(pieces)]
            for name, piece in zip(tree.children, store.plan.pieces, strict=True):
                plain = xr.open_zarr(store.url, group=name)
                assert plain.level.sizes["batch"] == plain.commit.sizes["batch"] == batches
                assert tuple(plain.level.sizes[axis] for axis in store.sweep.axes) == piece.shape
                xr.testing.assert_identical(tree[name].to_dataset().load(), plain.load())
                ours = open_sweep(store.url).sel({k: plain[k] for k in store.sweep.axes})
                np.testing.assert_array_equal(plain.level.sel(moment="n").sum("batch"), ours.level_n)
                np.testing.assert_array_equal(plain.level_histogram.sum("batch"), ours.level_histogram)
    assert tree.attrs["relu_sweeps"]["fingerprint"] == Sweep.of(toy_spec(**SMALL)).fingerprint, "as created"


def test_a_selection_reads_the_pieces_it_touches_and_no_other(twice: ZarrStore) -> None:
    whole = seen(twice.url)
    for name in ("piece-1", "piece-2"):
        shutil.rmtree(Path(twice.url) / name / "level" / "c")
    ds = open_sweep(twice.url)
    old = {"size": [2, 8], "shift": [0.0, 1.0]}
    np.testing.assert_array_equal(ds.level.sel(old), whole.level.sel(old))
    with pytest.raises(StoreError, match=r"'level' cannot be read: it was removed; remove piece-[12]/commit/c/"):
        ds.level.sel(size=4).load()


# --- killed ---


class KilledError(Exception):
    pass


def killed_at(monkeypatch: pytest.MonkeyPatch, put: int, work: Callable[[], Any]) -> bool:
    """Do the work, and die right before its put of that number; whether it came so far."""
    original, puts = obstore.put, iter(range(10**6))

    def dying(*arguments: Any, **options: Any) -> Any:
        if next(puts) == put:
            raise KilledError
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put", dying)
        try:
            work()
        except (KilledError, StoreError):
            return True
    return False


def test_an_extension_killed_at_any_put_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = made(tmp_path / "base.zarr", toy_spec(**SMALL))
    young = seen(base.url)
    whole = made(tmp_path / "whole.zarr", toy_spec(**LARGER))
    change, names = more(draws=12, axes={"shift": [0.5], "size": [4]}), []
    for put in range(1000):
        url = str(tmp_path / f"{put}.zarr")
        shutil.copytree(base.url, url)
        if not killed_at(monkeypatch, put, lambda url=url: ZarrStore.extend(url, change)):
            break
        assert ZarrStore.open(url).done().sum() == len(base.plan)
        xr.testing.assert_equal(open_sweep(url).sel({k: young[k] for k in ("size", "shift")}).load(), young)
        store = ZarrStore.extend(url, change) if put == 0 else ZarrStore.open(url)
        store.prepare()
        names.append(sorted(files(url)))
        if put in (1, 2, 10, 20):
            assert fill(store) == len(store.plan) - len(base.plan)
            xr.testing.assert_identical(seen(url), seen(whole.url))
        assert len(xr.open_datatree(url, engine="zarr").children) == 3
    assert put > 20, "pieces, arrays, records"
    assert names == [names[0]] * put


def test_a_folder_left_without_its_record_is_no_extension(tmp_path: Path) -> None:
    store = made(tmp_path / "a.zarr", toy_spec(**SMALL))
    (Path(store.url) / "extension-1").mkdir()
    (Path(store.url) / "extension-1" / "zarr.json#1").write_bytes(b"{half")
    assert ZarrStore.open(store.url).sweep == store.sweep
    fill(ZarrStore.extend(store.url, more(draws=12)))
    (Path(store.url) / "extension-7").mkdir()
    assert ZarrStore.open(store.url).sweep.draws == 12
    fill(ZarrStore.extend(store.url, more(draws=16)))
    assert sorted(p.parent.name for p in Path(store.url).glob("extension-*/zarr.json")) == [
        "extension-1",
        "extension-2",
    ]
    assert open_sweep(store.url).level_n.values.min() == 16


# --- at the same time ---


@pytest.mark.parametrize(
    ("changes", "records"),
    [
        ((more(axes={"shift": [0.5]}), more(axes={"shift": [-1.0]})), 2),
        ((more(draws=12), more(axes={"size": [4]})), 2),
        ((more(draws=12, axes={"shift": [0.5]}), more(draws=12, axes={"shift": [0.5]})), 1),
    ],
    ids=["values and values", "draws and values", "the same"],
)
def test_two_extensions_at_the_same_time_come_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: tuple, records: int
) -> None:
    """Both have read the store before either writes."""
    store = made(tmp_path / "a.zarr", toy_spec(**SMALL))
    original, met = obstore.put, threading.Barrier(2)

    def together(objects: Any, key: str, *content: Any, **options: Any) -> Any:
        if key.startswith("extension-1/"):
            met.wait(60)
        return original(objects, key, *content, **options)

    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put", together)
        assert in_threads([lambda change=change: ZarrStore.extend(store.url, change) for change in changes]) == []
    assert len(list(Path(store.url).glob("extension-*/zarr.json"))) == records
    held = ZarrStore.open(store.url)
    for change in changes:
        assert change(held.sweep).fingerprint == held.sweep.fingerprint, "it is lost"
    assert len(xr.open_datatree(store.url, engine="zarr").children) == len(held.plan.pieces)
    fill(held)
    spec = toy_spec(**SMALL) | {"axes": {k: list(v) for k, v in held.sweep.axes.items()}, "draws": held.sweep.draws}
    xr.testing.assert_identical(seen(store.url), at_once(tmp_path / "b.zarr", spec))


def in_threads(works: list[Callable[[], Any]]) -> list[BaseException]:
    failures: list[BaseException] = []

    def guarded(work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_a_slow_mender_does_not_undo_a_later_extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process records its extension and rests; another extends further and mends; then the first goes on."""
    store = made(tmp_path / "a.zarr", toy_spec(**SMALL))
    original, rested = template._mend, []

    def resting(objects: Any, now: template.Held) -> None:
        if not rested:
            rested.append(True)
            ZarrStore.extend(store.url, more(draws=16, axes={"size": [4]}))
        original(objects, now)

    monkeypatch.setattr(template, "_mend", resting)
    mine = ZarrStore.extend(store.url, more(draws=12))
    assert mine.sweep.draws == 16
    tree = xr.open_datatree(store.url, engine="zarr")
    assert list(tree.children) == ["piece-0", "piece-1"]
    assert {piece.sizes["batch"] for piece in tree.children.values()} == {4}


EXTENDER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from storage.zarr_store import ZarrStore
from sweeps.extension import grown
url, number = sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
while not Path(url + ".go").exists():
    time.sleep(0.001)
for i in range(4):
    ZarrStore.extend(url, lambda now: grown(now, axes={"shift": [number + i / 10]}))
"""


def test_processes_that_extend_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    store = ZarrStore.create(str(tmp_path / "a.zarr"), Sweep.of(toy_spec(axes={"shift": [0.0]}, draws=8)))
    command = [sys.executable, "-c", EXTENDER, str(ROOT), store.url]
    two = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, cwd=ROOT) for n in (1, 2)]
    for process in two:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    Path(store.url + ".go").touch()
    for process in two:
        assert process.wait(120) == 0
        assert process.stdout is not None
        process.stdout.close()
    held = ZarrStore.open(store.url)
    assert sorted(held.sweep.axes["shift"]) == [0.0, 1.0, 1.1, 1.2, 1.3, 2.0, 2.1, 2.2, 2.3]
    assert len(xr.open_datatree(store.url, engine="zarr").children) == 9
    fill(held)
    np.testing.assert_array_equal(open_sweep(store.url).level_n, 8)


def test_a_worker_that_opened_a_store_before_it_was_extended_writes_what_counts(tmp_path: Path) -> None:
    old = ZarrStore.create(str(tmp_path / "a.zarr"), Sweep.of(toy_spec(**SMALL)))
    perform(old.plan[0], old, "cpu")
    new = ZarrStore.extend(old.url, more(draws=12, axes={"shift": [0.5], "size": [4]}))
    new.prepare()
    for index in range(1, len(old.plan)):
        perform(old.plan[index], old, "cpu")
    assert new.done().sum() == old.done().sum() == len(old.plan)
    assert fill(new) == len(new.plan) - len(old.plan)
    assert old.done().all(), "batches it does not know are left alone"
    old.prepare()
    assert fill(old) == 0
    xr.testing.assert_identical(seen(new.url), at_once(tmp_path / "b.zarr", toy_spec(**LARGER)))
    assert xr.open_zarr(new.url, group="piece-0").level.sizes["batch"] == 3
