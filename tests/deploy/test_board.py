"""The live board against an independent account of the same store, its cost, and what a screen makes of it."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from actors.inline import Inline
from deploy import board as module
from deploy import watching
from deploy.board import ADVANCE, AT_END, LONGEST, POINTS, SHARE, SLICES, Board, board, last
from storage.query import open_sweep
from storage.zarr_store import ZarrStore
from sweeps.blocks import plan
from sweeps.errors import RefusedError, UnknownNameError
from sweeps.events import BlockDone, BlockFailed, BlockProgress, Event, Receipt, SweepDone, SweepStarted
from sweeps.run import run
from sweeps.sweep import Sweep
from tests.conftest import SpecMaker


class Clock:
    """Time that passes only when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    with monkeypatch.context() as patch:
        yield Clock(patch)


def watched(store: ZarrStore, events: Iterator[Event] | None = None) -> list[Board]:
    lines: list[str] = []
    for _ in board(events or run(store, Inline("cpu")), store, lines.append):
        pass
    assert all("\n" not in line and line.startswith("@sweeps {") for line in lines)
    return [Board.of(line) for line in lines]


@pytest.mark.parametrize("by", [None, "shift", "colour"])
def test_the_last_board_equals_what_the_store_says(toy: SpecMaker, by: str | None) -> None:
    store = ZarrStore.create("a.zarr", toy(track={"by": by} if by else None, points_per_block=2))
    first, *_, end = watched(store)
    blocks = list(plan(store.sweep))
    assert (first.done, first.needed, first.end) == (0, len(blocks), "")
    assert (end.done, end.needed, end.failed, end.left, end.end) == (len(blocks), len(blocks), 0, 0.0, "done")
    assert list(end.devices.values()) == [1]
    axis = list(store.sweep.axes).index(by or "size")
    values = list(store.sweep.axes.values())[axis]
    touching = [sum(b.starts[axis] <= i < b.stops[axis] for b in blocks) for i in range(len(values))]
    expected = tuple((f"{by or 'size'}={v}", n, n) for v, n in zip(values, touching, strict=True))
    assert end.slices == expected

    ds = open_sweep("a.zarr")
    assert list(end.estimates) == ["level", "positive", "walk", "root"]
    for name, estimates in end.estimates.items():
        assert len(estimates) == POINTS
        for e in estimates:
            at = dict(part.split("=") for part in e.at.split(", "))
            here = ds.sel(size=int(at["size"]), colour=at["colour"], step=int(at.get("step", 3)))
            here = here.sel(shift=float(at["shift"]))
            assert e.draws == here[f"{name}_n"]
            for value, suffix in ((e.mean, ""), (e.low, "_ci_low"), (e.high, "_ci_high")):
                expected_value = float(here[name + suffix])
                assert (
                    value == pytest.approx(expected_value, rel=1e-5) if np.isfinite(expected_value) else value is None
                )
    assert end.estimates["walk"][0].at == "size=2, shift=-1.0, colour=red, step=3"
    assert (end.estimates["level"][0].at, end.estimates["level"][-1].at) == (
        "size=2, shift=-1.0, colour=red",
        "size=8, shift=1.0, colour=blue",
    )


def test_boards_stay_near_the_end_of_a_log_that_has_a_line_for_every_event(toy: SpecMaker, clock: Clock) -> None:
    store = ZarrStore.create("a.zarr", toy())
    lines: list[str] = []
    for event in board(run(store, Inline("cpu")), store, lines.append, at_most=5):
        lines.append(repr(event))
    places = [i for i, line in enumerate(lines) if line.startswith("@sweeps ")]
    assert max(b - a for a, b in itertools.pairwise(places)) <= 6
    assert len(places) >= 3


def test_a_resumed_sweep_shows_what_was_there(toy: SpecMaker) -> None:
    store = ZarrStore.create("a.zarr", toy())
    events = board(run(store, Inline("cpu")), store, lambda _: None)
    for event in events:
        if isinstance(event, BlockDone) and event.receipt.block == 4:
            break
    events.close()
    first, *_, end = watched(store)
    assert first.done == 5
    assert {e.draws for e in first.estimates["level"]} <= {8, 16}
    assert {e.draws for e in end.estimates["level"]} == {24}


def test_an_end_before_the_end_is_told(toy: SpecMaker) -> None:
    store = ZarrStore.create("a.zarr", toy())
    lines: list[str] = []
    events = board(run(store, Inline("cpu")), store, lines.append)
    for _ in range(4):
        next(events)
    events.close()
    stopped = Board.of(lines[-1])
    assert (stopped.end, stopped.done) == ("stopped", 3)


def test_failed_blocks_are_counted_and_told() -> None:
    spec = {"name": "f", "statistic": "faulty", "draws": 2, "draws_per_batch": 1, "fixed": {"bad": 1}}
    store = ZarrStore.create("f.zarr", Sweep.of({**spec, "axes": {"value": [0, 1, 2]}}))
    end = watched(store)[-1]
    assert (end.done, end.failed, end.needed, end.left, end.end) == (4, 2, 6, 0.0, "failed")
    assert end.slices == (("value=0", 2, 2), ("value=1", 0, 2), ("value=2", 2, 2))


def receipt(index: int) -> Receipt:
    return Receipt(index, 0, 0, 1.0, f"cpu: {index % 2}", 0.0, f"w{index % 2}")


def test_reading_back_costs_a_share_of_the_time_and_boards_become_rare(
    toy: SpecMaker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block comes every second and takes a second to read: almost none is."""
    store = ZarrStore.create("a.zarr", toy(draws=8000))
    blocks, reads = len(plan(store.sweep)), []
    read = ZarrStore.read

    def slow(self: ZarrStore, block: Any) -> Any:
        clock.now += 1.0
        reads.append(block.index)
        return {n: np.ones((*block.shape, 6)) for n in ("level", "positive", "root")} | {
            "walk": np.ones((*block.shape, 3, 6))
        }

    monkeypatch.setattr(ZarrStore, "read", slow)

    def events() -> Iterator[Event]:
        yield SweepStarted("f", blocks, 0, "nobody")
        for i in range(blocks):
            clock.now += 1.0
            yield BlockDone(receipt(i))
        yield SweepDone(blocks)

    begun = clock.now
    boards = watched(store, events())
    elapsed = clock.now - begun
    assert blocks == 4000
    assert 0.8 * SHARE * elapsed < len(reads) <= ADVANCE + SHARE * elapsed + AT_END + 1
    gaps = np.diff([b.elapsed for b in boards])
    assert gaps[0] <= 4.0
    assert gaps.max() <= LONGEST + 2.0
    assert elapsed / LONGEST * 0.9 < len(boards) < elapsed / LONGEST + 20
    assert boards[-2].rate == pytest.approx(1.0, rel=0.05)
    assert boards[-1].devices == {"cpu: 0": 1, "cpu: 1": 1}
    assert read is not ZarrStore.read


def test_blocks_under_way_count_by_their_share(toy: SpecMaker, clock: Clock) -> None:
    """12 blocks, two at once of 100 s each, heard of every 5 s: time left is known long before one is done."""
    store = ZarrStore.create("a.zarr", toy())

    def events() -> Iterator[Event]:
        yield SweepStarted("f", 12, 0, "two")
        for twentieth in range(1, 20):
            clock.now += 5.0
            yield from (BlockProgress(i, twentieth / 20) for i in range(2))
        clock.now += 5.0
        yield from (BlockDone(receipt(i)) for i in range(2))
        yield SweepDone(2, missing=10)

    first, *boards, end = watched(store, events())
    assert (first.under_way, first.rate, first.left) == (0.0, None, None)
    late = boards[-1]  # painted when the first of the two has told anew
    assert (late.done, late.rate) == (0, pytest.approx(0.02, rel=0.05))
    assert 1.0 < late.under_way < 2.0
    assert late.left == pytest.approx((12 - late.under_way) / late.rate, rel=1e-4)
    assert f"toy: {late.under_way:.2f}/12 blocks, 0.0194 blocks/s" in watching._line(late, None)
    assert (end.done, end.under_way, end.rate) == (2, 0.0, pytest.approx(0.02))
    early = Board.of(f"@sweeps {json.dumps({k: v for k, v in vars(first).items() if k != 'under_way'})}")
    assert early == first, "one from a driver that does not tell it"


def test_a_board_stays_small_on_a_grid_of_a_million_points() -> None:
    axes = {"shift": {"linspace": [-1, 1, 10**5]}, "size": list(range(1, 11))}
    spec = {"name": "big", "statistic": "toy", "draws": 64, "draws_per_batch": 64, "axes": axes}
    store = ZarrStore.create("big.zarr", Sweep.of(spec))
    blocks = len(plan(store.sweep))
    events: list[Event] = [SweepStarted("f", blocks, 0), BlockFailed(0, 3, "no"), SweepDone(0, (), blocks)]
    lines: list[str] = []
    for _ in board(iter(events), store, lines.append):
        pass
    end = Board.of(lines[-1])
    assert len(end.slices) == SLICES
    assert end.slices[0][0].startswith("shift=-1.0 to -0.95")
    assert sum(needed for _, _, needed in end.slices) >= blocks
    assert max(map(len, lines)) < 16_000


def test_the_last_board_of_a_log_is_found_even_after_a_torn_line(toy: SpecMaker) -> None:
    lines: list[str] = []
    store = ZarrStore.create("a.zarr", toy())
    list(board(run(store, Inline("cpu")), store, lines.append))
    log = "\n".join(["hello", lines[0], "a word", lines[-1], "bye", lines[-1][:40]])
    assert last(log) == Board.of(lines[-1])
    assert last("hello\n") is None
    assert json.loads(lines[-1].removeprefix("@sweeps "))["name"] == "toy"


def test_odd_boards_are_passed_over_and_unknown_fields_dropped(toy: SpecMaker) -> None:
    lines: list[str] = []
    store = ZarrStore.create("a.zarr", toy())
    list(board(run(store, Inline("cpu")), store, lines.append))
    found = json.loads(lines[-1].removeprefix("@sweeps "))
    torn = lines[-1][: lines[-1].index("}") + 1]  # it ends as a whole one does
    odd = [{"name": "toy"}, {**found, "done": "many"}, {**found, "slices": [[1]]}, {**found, "estimates": 3}, [], 7]
    log = [lines[0], lines[-1], torn, "@sweeps no}", "@sweeps {}", *(f"@sweeps {json.dumps(each)}" for each in odd)]
    assert last("\n".join(log)) == Board.of(lines[-1])
    assert last("\n".join(log[2:])) is None
    for e in found["estimates"]["level"]:
        e["median"] = 0.5
    assert last(f"@sweeps {json.dumps({**found, 'humour': 'good'})}") == Board.of(lines[-1])


# --- the screen ---


def job(status: str = "RUNNING", code: int | None = None) -> Any:
    ended = status not in ("PENDING", "RUNNING")
    return SimpleNamespace(
        id="sweep-1", name="toy", status=status, ended=ended, exit=code, store="/x/a.zarr", again="sweeps submit a.toml"
    )


def text(renderable: Any, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_terminal_shows_slices_pace_workers_and_estimates(toy: SpecMaker) -> None:
    _, *_, end = watched(ZarrStore.create("a.zarr", toy()))
    running = Board(**{**vars(end), "done": 6, "left": 75.0, "rate": 0.08, "failed": 2, "end": ""})
    shown = text(watching.picture(job(), running, "walk", 20))
    for word in (
        "toy",
        "6/12",
        "0.08 blocks/s, 1 min 15 s left",
        "size=2",
        "size=8",
        "2 blocks failed",
        "95% interval",
    ):
        assert word in shown
    assert "this process on cpu" in shown
    assert shown.count("±") == POINTS
    assert "nothing from its driver yet" in text(watching.picture(job("PENDING"), None, None, 20))
    with pytest.raises(UnknownNameError, match="unknown outcome 'wlk'; did you mean 'walk'"):
        watching.picture(job(), running, "wlk", 20)


def test_a_small_screen_shows_the_slices_under_way(toy: SpecMaker) -> None:
    slices = tuple((f"width={i}", 10 if i < 5 else 3 if i == 5 else 0, 10) for i in range(30))
    shown = watching._fitting(slices, 8)
    assert len(shown) == 8
    assert ("width=5", 3, 10) in shown
    assert shown[-1] == ("23 more", 50, 230)
    assert watching._fitting(slices, 30) == list(slices)


def test_a_summary_says_how_to_resume_what_ended_early(toy: SpecMaker) -> None:
    _, *_, end = watched(ZarrStore.create("a.zarr", toy()))
    assert watching.summary(job("SUCCEEDED", 0), end) == [
        "sweep-1: succeeded, toy",
        "12 of 12 blocks are in /x/a.zarr",
    ]
    assert watching.summary(job("STOPPED", 130), None)[-1] == "resume with: sweeps submit a.toml"
    assert "sweeps logs sweep-1" in watching.summary(job("FAILED", 1), None)[1]


class Leaving:
    """A job whose cluster goes as soon as it has succeeded, and takes its log along."""

    def __init__(self, board: Board) -> None:
        self.looks, self.last = 0, board
        vars(self).update(vars(job()))

    def fresh(self) -> Leaving:
        self.looks += 1
        vars(self).update(vars(job("SUCCEEDED", 0) if self.looks > 1 else job()))
        return self

    def board(self) -> Board:
        if self.ended:  # type: ignore[attr-defined]
            raise RefusedError("nobody is there")
        return self.last


@pytest.mark.parametrize("terminal", [False, True])
def test_a_sweep_that_succeeded_is_watched_to_its_end_though_its_cluster_has_gone(
    toy: SpecMaker, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(watching, "EVERY", 0.0)
    _, *_, end = watched(ZarrStore.create("a.zarr", toy()))
    screen = io.StringIO()
    console = Console(file=screen, width=100, force_terminal=terminal, color_system=None)
    assert watching.watch(Leaving(end), None, console) == 0  # type: ignore[arg-type]
    assert "12 of 12 blocks are in /x/a.zarr" in screen.getvalue()


def test_lines_of_a_log_tell_an_estimate_with_its_interval(toy: SpecMaker, tmp_path: Path) -> None:
    _, *_, end = watched(ZarrStore.create("a.zarr", toy()))
    line = watching._line(end, "positive")
    assert line.startswith("toy: 12/12 blocks, ")
    assert "; positive at size=8, shift=1.0, colour=blue: 1 0.86" in line
    assert " ± " in watching._line(end, None)
