"""Progress on a screen: shares of blocks under way count, in the bar, in the lines of a log, and for the time left."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from actors.inline import Inline
from deploy import said, screen
from deploy.screen import Tally, counted, pace, show
from storage.zarr_store import ZarrStore
from sweeps import progress
from sweeps.events import BlockDone, BlockFailed, BlockProgress, Event, Receipt, SweepDone, SweepStarted
from sweeps.run import run
from sweeps.sweep import Sweep


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Time that passes only when told."""
    now = [100.0]
    with monkeypatch.context() as patch:
        patch.setattr(screen.time, "monotonic", lambda: now[0])
        yield now


def done(block: int) -> BlockDone:
    return BlockDone(Receipt(block, 0, 0, 1.0, "cpu"))


CASES: dict[str, tuple[list[tuple[float, Event]], float, float | None, float | None]] = {
    "nothing yet": ([], 10, None, None),
    "a first block": ([(0, done(0))], 10, None, None),
    "whole blocks": ([(0, done(0)), (2, done(1))], 8, 1 / 8, 8 * 8),
    "one that is heard of once": ([(0, BlockProgress(0, 0.1))], 3, None, None),
    "one under way": ([(0, BlockProgress(0, 0.1)), (9, BlockProgress(0, 0.4))], 9, 0.3 / 9, 9.6 * 30),
    "workers that begin together": (
        [(0, BlockProgress(0, 0.1)), (1, BlockProgress(1, 0.2)), (5, BlockProgress(0, 0.3))],
        5,
        0.2 / 4,
        9.5 * 20,
    ),
    "a second block": (
        [(0, BlockProgress(0, 0.25)), (6, done(0)), (8, BlockProgress(1, 0.25))],
        8,
        1 / 8,
        8.75 * 8,
    ),
    "one that fails": (
        [(0, done(0)), (1, BlockProgress(1, 0.5)), (2, BlockFailed(1, 1, "no")), (4, done(2))],
        4,
        1 / 4,
        7 * 4,
    ),
    "one that begins again": ([(0, BlockProgress(0, 0.5)), (9, BlockProgress(0, 0.0))], 10, None, None),
}


@pytest.mark.parametrize("case", CASES)
def test_pace_and_time_left_count_shares(clock: list[float], case: str) -> None:
    """Of 10 blocks: (time, event)s, and what is then known at a time."""
    events, now, rate, left = CASES[case]
    tally = Tally()
    tally.see(SweepStarted("f", 14, 4))
    for clock[0], event in events:
        tally.see(event)
    clock[0] = now
    assert tally.rate == (rate and pytest.approx(rate))
    assert tally.pace == pace(rate, left)


@pytest.mark.parametrize(("rate", "said"), [
    (1 / 600, "0.00167 blocks/s"), (2.314, "2.31 blocks/s"), (99.96, "100 blocks/s"), (1234.5, "1234 blocks/s")
])  # fmt: skip
def test_rates_are_readable(rate: float, said: str) -> None:
    assert pace(rate, 200) == f"{said}, 3 min 20 s left"


def test_blocks_are_counted_with_shares_where_there_are_some() -> None:
    assert (counted(3, 0.0, 24), counted(3, 0.401, 24)) == ("3/24 blocks", "3.40/24 blocks")


SPEC = {"name": "long", "statistic": "faulty", "draws": 1, "draws_per_batch": 1, "fixed": {"seconds": 0.45}}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    monkeypatch.setattr(screen, "LINE_EVERY", 0.0)


def shown(terminal: bool) -> tuple[str, str, list[Event]]:
    """What a screen shows of a sweep of two blocks in this process, the bytes it stores, and its events."""
    store = ZarrStore.create("a.zarr", Sweep.of({**SPEC, "axes": {"value": [0, 1]}}))
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal, color_system=None)
    events = list(show(run(store, Inline("cpu")), "long", console))
    return console.file.getvalue(), store.content_hash(), events  # type: ignore[attr-defined]


def test_a_log_tells_shares_and_time_left_in_plain_lines(at_once: None) -> None:
    text, _, events = shown(terminal=False)
    lines = text.splitlines()
    assert lines[0].startswith("long: 2 blocks; this process on cpu")
    assert re.fullmatch(r"long: 2/2 blocks done in [\d.]+ s", lines[-1])
    told = [re.fullmatch(r"long: ([\d.]+)/2 blocks, (starting|\S+ blocks/s, .+ left)", x) for x in lines[1:-1]]
    assert all(told), lines
    counts = [float(found[1]) for found in told if found]
    assert counts == sorted(counts)
    assert sum(0 < c < 1 for c in counts) >= 2
    assert sum(1 < c < 2 for c in counts) >= 2
    early = [x for x in lines if re.match(r"long: 0\.\d+/2 blocks, .* left", x)]
    assert early, "time left is known before a block is done"
    assert [type(e) for e in events] == [SweepStarted, BlockDone, BlockDone, SweepDone]


def test_plain_lines_show_no_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush-hush")
    console = Console(file=io.StringIO())
    screen._plain(console, "a block failed: hush-hush at https://me:pw@host/")
    said.say("a block failed: hush-hush at https://me:pw@host/")
    for text in (console.file.getvalue(), capsys.readouterr().out):  # type: ignore[attr-defined]
        assert text == "a block failed: *** at https://host/\n"


def test_a_log_is_not_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    monkeypatch.setattr(screen, "LINE_EVERY", 0.3)
    text, _, events = shown(terminal=False)
    assert 2 <= len(text.splitlines()) <= 5
    assert events[-1] == SweepDone(2)


def test_a_bar_grows_while_a_block_is_measured(at_once: None) -> None:
    text, _, _ = shown(terminal=True)
    assert "0/2" in text
    assert re.search(r"0/2 \S+ \S+ blocks/s, .+ left", text), text


def test_bits_are_those_of_a_sweep_that_nobody_follows(at_once: None, tmp_path) -> None:
    _, followed, _ = shown(terminal=False)
    alone = ZarrStore.create("b.zarr", Sweep.of({**SPEC, "axes": {"value": [0, 1]}}))
    list(run(alone, Inline("cpu")))
    assert followed == alone.content_hash()
