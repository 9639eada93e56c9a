"""MLflow beside the ledger, on real SQLite."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.inline import Inline
from storage import runs, slices, tracking
from storage.query import open_sweep
from storage.tracking import rebuild, track
from storage.zarr_store import ZarrStore
from sweeps.blocks import plan
from sweeps.errors import StoreError
from sweeps.events import BlockDone, Event, SweepDone
from sweeps.run import perform, run
from tests.notebook import BY_SIZE, FIGURES, content, follow, notices, small

pytestmark = pytest.mark.usefixtures("notebook")

# --- what is logged ---


@pytest.mark.usefixtures("real_figures")
def test_a_parent_and_a_child_for_every_value() -> None:
    events = follow(small())
    found = content()
    assert not notices(events)
    assert isinstance(events[-1], SweepDone)
    assert set(found) == {"all", "size=2", "size=8"}
    assert {k: v["name"] for k, v in found.items()} == {"all": "small", "size=2": "size=2", "size=8": "size=8"}
    assert {v["status"] for v in found.values()} == {"FINISHED"}
    assert [found[k]["child"] for k in ("all", "size=2", "size=8")] == [False, True, True]
    assert len({frozenset(v["parameters"]) for v in found.values()}) == 1, "parallel coordinates need the same names"
    assert [found[k]["parameters"]["size"] for k in ("all", "size=2", "size=8")] == ["2 values from 2 to 8", "2", "8"]
    assert found["size=8"]["parameters"]["steps"] == "2"
    assert found["all"]["artifacts"] == ["environment.json", *FIGURES, "spec.json"]


@pytest.mark.usefixtures("real_figures")
def test_what_is_undefined_everywhere_has_no_figure() -> None:
    follow(small(axes={"shift": [-10.0, -9.0], "size": [2]}))
    assert content()["all"]["artifacts"] == ["environment.json", *(f for f in FIGURES if "root" not in f), "spec.json"]


def test_metrics_are_the_numbers_of_the_store_in_ascending_order() -> None:
    follow(small())
    ds, metrics = open_sweep("sweep.zarr").sel(size=8), content()["size=8"]["metrics"]
    assert [v for _, v, _ in metrics["shift"]] == [-1.0, 0.0, 1.0]
    assert [s for s, _, _ in metrics["shift"]] == [0, 1, 2]
    for key, expected in {
        "level": ds.level,
        "level_sem": ds.level_sem,
        "level_theory": ds.level_theory,
        "positive": ds.positive,
        "walk.step_2": ds.walk.sel(step=2),
        "walk_sem.step_1": ds.walk_sem.sel(step=1),
        "walk_theory.step_2": ds.walk_theory.sel(step=2),
        "walk_z.step_2": ds.walk_z.sel(step=2),
    }.items():
        assert [v for _, v, _ in metrics[key]] == expected.values.tolist(), key
    defined = ds["root"].values[np.isfinite(ds["root"].values)]
    assert [v for _, v, _ in metrics["root"]] == defined.tolist(), "what is undefined is not logged"


def test_times_are_those_of_the_ledger() -> None:
    follow(small())
    sweep, found = small(), content()
    store, cut = ZarrStore.open("sweep.zarr"), plan(sweep)
    ledger = {r.block: r for r in store.receipts()}
    last = {tuple(cut[i].starts): r.finished // 10**6 for i, r in ledger.items() if cut[i].batch == 2}
    # the tiles of shift hold (1, -1) and (0)
    expected = [last[(1, 0)], last[(1, 2)], last[(1, 0)]]
    assert [t for _, _, t in found["size=8"]["metrics"]["level"]] == expected
    assert found["all"]["times"][1] == max(r.finished for r in ledger.values()) // 10**6
    assert found["all"]["metrics"]["progress"] == [
        (i + 1, (i + 1) / 12, ledger[i].finished // 10**6) for i in range(12)
    ]


def test_tags_say_which_sweep_and_store_and_carry_no_secret() -> None:
    sweep = small(track={**BY_SIZE, "experiment": "mine"})
    store = ZarrStore.create("sweep.zarr", sweep, made_by={"git_commit": "abc", "ray_submission_id": "raysubmit_1"})
    list(track(run(store, Inline("cpu")), store, sweep.track))
    tags = content(experiment="mine")["all"]["tags"]
    assert tags["sweeps.fingerprint"] == sweep.fingerprint
    assert tags["sweeps.store"] == os.path.abspath("sweep.zarr")
    assert tags["mlflow.source.git.commit"] == "abc"
    assert tags["sweeps.ray_submission_id"] == "raysubmit_1"
    assert (tags["sweeps.blocks"], tags["sweeps.blocks_done"], tags["sweeps.blocks_failed"]) == ("12", "12", "0")
    spec = json.loads(next(Path("mlruns/mine").rglob("spec.json")).read_text())
    assert spec["axes"]["size"] == [2, 8]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:pass@bucket/path", "s3://bucket/path"),
        ("s3://bucket/path?token=pass#x", "s3://bucket/path"),
        ("s3://me:pa@ss@bucket/a", "s3://bucket/a"),
        ("s3://key:pa ss@bucket/a", "s3://bucket/a"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("file:///data/a.zarr", "/data/a.zarr"),
        ("/data/odd?name#1", "/data/odd?name#1"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert slices.public(url) == shown


def test_the_spec_is_logged_without_secrets() -> None:
    sweep = small(store={"url": "s3://key:pass@bucket/a"}, track={"uri": "http://me:pass@host/", "by": "size"})
    spec = slices.spec(ZarrStore("s3://key:pass@bucket/a", sweep, plan(sweep)))
    assert "pass" not in json.dumps(spec)
    assert spec["store"] == {"url": "s3://bucket/a"}


def test_without_an_axis_the_parent_holds_the_whole_grid() -> None:
    follow(small(track={}))
    found = content()
    assert set(found) == {"all"}
    assert [s for s, _, _ in found["all"]["metrics"]["level"]] == list(range(6))
    assert [v for _, v, _ in found["all"]["metrics"]["size"]] == [2, 2, 2, 8, 8, 8]
    before = found
    follow(small(track={}))
    assert content() == before


def test_one_point_is_stepped_along_batches() -> None:
    follow(small(axes={"size": [2, 8]}))
    metrics = content()["size=8"]["metrics"]
    ds = open_sweep("sweep.zarr").sel(size=8)
    assert [v for _, v, _ in metrics["draws"]] == [4, 8, 12]
    assert [s for s, _, _ in metrics["level"]] == [0, 1, 2]
    last = {"level": ds.level, "level_sem": ds.level_sem, "level_z": ds.level_z, "walk.step_2": ds.walk.sel(step=2)}
    for key, expected in last.items():
        assert metrics[key][-1][1] == expected.item(), key
    assert {v for _, v, _ in metrics["level_theory"]} == {0.0}


def test_a_chunk_that_was_removed_is_not_a_number() -> None:
    store = ZarrStore.create("sweep.zarr", small(axes={"size": [2, 8]}))
    list(run(store, Inline("cpu")))
    shutil.rmtree("sweep.zarr/piece-0/level/c/0/1")
    events = follow(store.sweep)
    assert isinstance(events[-1], SweepDone)
    [told] = notices(events)
    assert told == (
        "tracking stops: sweep.zarr: block 2 of 'level' cannot be read: it was removed; remove piece-0/commit/c/0/1 "
        "from the store and run again to measure it anew"
    )
    with pytest.raises(StoreError, match="remove piece-0/commit/c/0/1 from the store"):
        rebuild(store)


def test_too_many_values_fall_back_to_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "MAX_CHILDREN", 1)
    [told] = notices(follow(small()))
    assert "size" in told
    assert "over the limit of 1" in told
    found = content()
    assert set(found) == {"all"}
    assert found["all"]["tags"]["sweeps.children"] == told
    assert len(found["all"]["metrics"]["level"]) == 6


def test_steps_and_entries_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "MAX_STEPS", 4)
    monkeypatch.setattr(slices, "MAX_ENTRIES", 2)
    follow(small(axes={"size": [2], "shift": {"linspace": [-1, 1, 9]}}, fixed={"steps": 9}, track={}))
    run = content()["all"]
    assert [s for s, _, _ in run["metrics"]["level"]] == [0, 3, 5, 8]
    assert {k for k in run["metrics"] if k.startswith("walk.")} == {"walk.step_1", "walk.step_9"}
    assert run["tags"]["sweeps.steps"] == "4 of 9, evenly spaced"


def test_long_parameters_are_shortened() -> None:
    sweep = small().model_copy(update={"fixed": {"path": "x" * 7000}})
    text = slices.parameters(sweep, slices.WHOLE)["path"]
    assert len(text) <= slices.MAX_TEXT
    assert text.endswith("(7000 characters)")


# --- doing it again ---


def test_running_again_and_rebuilding_change_nothing() -> None:
    follow(small())
    before = content()
    assert not notices(follow(small()))
    assert content() == before
    told = rebuild(ZarrStore.open("sweep.zarr"))
    assert content() == before
    assert (told.children, told.slices, told.done) == (2, 2, 12)
    assert "2 of 2 child runs" in str(told)


def test_rebuilt_runs_equal_those_followed_live(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PAUSE", 0.0)
    follow(small())
    shutil.copy(database, "other.db")
    rebuild(ZarrStore.open("sweep.zarr"), "sqlite:///other.db")
    assert content("sqlite:///other.db") == content()


def test_a_slice_is_published_when_its_last_block_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PAUSE", 0.0)
    monkeypatch.setattr(tracking, "SHARE", 1e9)
    sweep = small()
    store = ZarrStore.create("sweep.zarr", sweep)
    seen = []
    for event in track(run(store, Inline("cpu")), store, sweep.track):
        if isinstance(event, BlockDone) and event.receipt.block in (9, 11):
            seen.append({k: v["status"] for k, v in content().items()})
    # an event is passed on before it is logged: at block 9 the runs know of block 8, at 11 of 10
    assert seen == [{"all": "RUNNING"}, {"all": "RUNNING", "size=2": "FINISHED"}]


def test_what_is_committed_is_known_from_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    whole = ZarrStore.done
    store = ZarrStore.create("sweep.zarr", small())
    monkeypatch.setattr(ZarrStore, "done", lambda self: (listed.append("run" if self is store else ""), whole(self))[1])
    for _ in range(2):  # measured, and all there already
        listed.clear()
        assert not notices(list(track(run(store, Inline("cpu")), store, store.sweep.track)))
        assert listed.count("run") == 1, "the marks are listed by `run`, not again by `track`"


def test_a_half_logged_child_is_completed_even_if_a_block_was_written_again(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "CHUNK", 7)
    sweep, left = small(), [2]
    with monkeypatch.context() as broken:
        broken.setattr(runs.Run, "_known", _failing(runs.Run._known, left))
        told = notices(follow(sweep))
    assert any("no more" in t for t in told)
    assert {v["status"] for v in content().values()} != {"FINISHED"}
    store = ZarrStore.open("sweep.zarr")
    for block in plan(sweep):
        perform(block, store, "cpu")  # the ledger's times move on
    rebuild(store)
    shutil.copy(database, "other.db")
    rebuild(store, "sqlite:///other.db")
    for name, run_ in content("sqlite:///other.db").items():
        mine = content()[name]
        assert mine["status"] == "FINISHED"
        without_times = [{k: [m[:2] for m in v] for k, v in r["metrics"].items()} for r in (mine, run_)]
        assert without_times[0] == without_times[1]


def _failing(method: Any, left: list[int]) -> Any:
    def known(self: Any, key: str) -> set[int]:
        if key == "level" and left[0] == 0:
            raise ConnectionError("no more")
        left[0] -= key == "level"
        return method(self, key)

    return known


# --- how it ends ---


def test_a_failed_block_fails_the_parent_until_it_succeeds() -> None:
    axes, track_ = {"value": [0, 1]}, {"by": "value"}
    faulty = {"statistic": "faulty", "axes": axes, "track": track_, "fixed": {"bad": 1}}
    follow(small(**faulty))
    found = content()
    assert (found["all"]["status"], found["value=0"]["status"]) == ("FAILED", "FINISHED")
    assert "value=1" not in found, "an unfinished slice has no run"
    assert "no answer at value 1" in found["all"]["tags"]["sweeps.failure"]
    assert found["all"]["tags"]["sweeps.blocks_failed"] == "3"
    rebuild(ZarrStore.open("sweep.zarr"))
    assert content() == found, "the store does not know of failures; what was noted stays"


def test_an_interrupted_sweep_is_killed_and_finishes_later(database: Path) -> None:
    sweep = small()
    store = ZarrStore.create("sweep.zarr", sweep)
    closed: list[bool] = []

    def events() -> Iterator[Event]:
        try:
            yield from run(store, Inline("cpu"))
        finally:
            closed.append(True)

    following = track(events(), store, sweep.track)
    for event in following:
        if isinstance(event, BlockDone) and event.receipt.block == 3:
            break
    following.close()  # type: ignore[attr-defined]
    assert closed
    found = content()
    assert {k: v["status"] for k, v in found.items()} == {"all": "KILLED"}
    assert int(found["all"]["tags"]["sweeps.blocks_done"]) in (3, 4)
    follow(sweep)
    shutil.copy(database, "other.db")
    rebuild(store, "sqlite:///other.db")
    assert content() == content("sqlite:///other.db")
    assert content()["all"]["status"] == "FINISHED"


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (OSError, "FAILED")])
def test_an_exception_passes_through_and_ends_the_run(error: type[BaseException], status: str) -> None:
    sweep = small()
    store = ZarrStore.create("sweep.zarr", sweep)

    def events() -> Iterator[Event]:
        for i, event in enumerate(run(store, Inline("cpu"))):
            yield event
            if i == 3:
                raise error

    with pytest.raises(error):
        list(track(events(), store, sweep.track))
    assert content()["all"]["status"] == status


def test_rebuilding_an_unfinished_store_says_so() -> None:
    sweep = small()
    store = ZarrStore.create("sweep.zarr", sweep)
    for block in list(plan(sweep))[:10]:  # all of size 2, not all of size 8
        perform(block, store, "cpu")
    assert (told := rebuild(store)).done == 10
    assert told.children == 1
    found = content()
    assert {k: v["status"] for k, v in found.items()} == {"all": "KILLED", "size=2": "FINISHED"}
    assert len(found["all"]["metrics"]["progress"]) == 10
