"""A tracking server that goes and comes back: when it is tried, what is said, and who closes the parent run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event as Flag
from types import SimpleNamespace

import pytest

from actors.inline import Inline
from storage import notebook, runs, tracking
from storage.tracking import rebuild, track
from storage.zarr_store import ZarrStore
from sweeps.blocks import plan
from sweeps.events import BlockDone, Event, Notice, SweepDone, SweepStarted
from sweeps.run import perform, run
from tests.notebook import content, follow, follow_while, notices, small

pytestmark = pytest.mark.usefixtures("notebook")


class Away:
    """A tracking server that can be made unreachable; `tries` are the times at which it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_away, self.now, self.tries = False, 0.0, list[float]()
        self.real = runs.connect
        monkeypatch.setattr(runs, "connect", self.connect)
        monkeypatch.setattr(runs.Run, "tag", self.when_there(runs.Run.tag))
        monkeypatch.setattr(tracking, "time", SimpleNamespace(monotonic=lambda: self.now))

    def connect(self, uri: str) -> object:
        self.tries.append(self.now)
        return self.when_there(self.real)(uri)

    def when_there(self, function: object) -> object:
        def call(*arguments: object) -> object:
            if self.is_away:
                raise ConnectionError("[Errno 111] Connection refused")
            return function(*arguments)  # type: ignore[operator]

        return call


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Away:
    return Away(monkeypatch)


def tick(tracker: tracking._Tracker, server: Away, until: float) -> list[tuple[float, str]]:
    """A second is an event, and every try ends within its second."""
    said = []
    while server.now < until:
        server.now += 1.0
        for notice in [*tracker.see(Notice("a second")), *tracker._wait(None)]:
            said.append((server.now, notice.text))
    return said


def test_a_lost_server_is_tried_ever_more_seldom_until_it_is_back(server: Away) -> None:
    store = ZarrStore.create("sweep.zarr", small())
    tracker = tracking._Tracker(notebook.Notebook(store, store.sweep.track))
    server.is_away = True
    [lost] = tracker.see(SweepStarted(store.sweep.fingerprint, 12, 0))
    assert "unreachable: connection refused; the sweep goes on and tries it again; catch up with" in lost.text
    assert not tick(tracker, server, 3000)
    assert server.tries == [0, 0, 30, 90, 210, 450, 930, 1530, 2130, 2730], (
        "twice at first, then after 30 s, doubled up to 10 min"
    )
    server.is_away = False
    [(when, back)] = tick(tracker, server, 4000)
    assert when == 3330
    assert "is back" in back
    assert content()["all"]["status"] == "RUNNING"
    server.is_away, server.tries = True, []
    receipt = perform(plan(store.sweep)[0], store, "cpu")
    [lost] = [*tracker.see(BlockDone(receipt)), *tracker._wait(None)]
    assert "unreachable: connection refused" in lost.text, "said again when lost again"
    tick(tracker, server, 4100)
    assert server.tries[-2:] == [4030, 4090], "and soon tried again"


def test_a_lost_server_that_hangs_holds_nothing_up(server: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "AGAIN", 0.0)
    monkeypatch.setattr(tracking, "LAST", 0.1)
    forever, hanging = Flag(), Flag()

    def hang(uri: str) -> object:
        hanging.set()
        forever.wait()
        raise ConnectionError("too late")

    server.is_away = True
    events = follow_while(small(), {1: lambda: monkeypatch.setattr(runs, "connect", hang)})
    assert hanging.is_set()
    assert isinstance(events[-1], SweepDone)
    assert events[-1].done == 12
    lost, still = notices(events)
    assert "connection refused; the sweep goes on" in lost
    assert still.startswith("tracking server still unreachable; catch up with")
    forever.set()


def test_a_blip_is_not_worth_a_word(server: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PAUSE", 0.0)
    monkeypatch.setattr(tracking, "SHARE", 1e9)
    blips = iter([ConnectionError("aborted")])
    whole = runs.Run.tag

    def tag(self: runs.Run, tags: dict[str, str]) -> None:
        if tags.get("sweeps.blocks_done") == "5":
            for error in blips:
                raise error
        whole(self, tags)

    monkeypatch.setattr(runs.Run, "tag", tag)
    assert not notices(follow(small()))
    assert next(blips, None) is None
    assert {r["status"] for r in content().values()} == {"FINISHED"}


# --- who closes the parent ---


def test_rebuilding_leaves_a_running_sweep_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PAUSE", 0.0)
    monkeypatch.setattr(tracking, "SHARE", 1e9)
    store = ZarrStore.create("sweep.zarr", small())
    seen: list[str] = []

    def look() -> None:
        seen.append(content()["all"]["status"])

    def meddle() -> None:
        rebuild(store)
        look()

    def doubt() -> None:
        with monkeypatch.context() as impatient:
            impatient.setattr(notebook, "QUIET", 0.0)
            meddle()

    events = follow_while(small(), {3: meddle, 5: doubt, 7: look, 11: meddle})
    assert not notices(events)
    assert seen == ["RUNNING", "KILLED", "RUNNING", "FINISHED"], "taken for dead, it says otherwise at the next block"
    assert {r["status"] for r in content().values()} == {"FINISHED"}


def test_rebuilding_closes_what_nobody_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ZarrStore.create("sweep.zarr", small())
    following = track(run(store, Inline("cpu")), store, store.sweep.track)
    with monkeypatch.context() as outright:
        outright.setattr(tracking._Tracker, "_mark", lambda *arguments: None)  # as if the driver were killed
        for event in following:
            if isinstance(event, BlockDone) and event.receipt.block == 3:
                break
        following.close()  # type: ignore[attr-defined]
    rebuild(store)
    assert content()["all"]["status"] == "RUNNING"
    later = time.time() + notebook.QUIET + 1
    monkeypatch.setattr(notebook.time, "time", lambda: later)
    rebuild(store)
    assert content()["all"]["status"] == "KILLED"


def test_a_sweep_stopped_while_its_server_is_lost_is_marked_if_it_answers_again(server: Away) -> None:
    store = ZarrStore.create("sweep.zarr", small())

    def events() -> Iterator[Event]:
        for event in run(store, Inline("cpu")):
            if isinstance(event, BlockDone):
                server.now += 5.0
                server.is_away = 4 <= event.receipt.block < 7
                if event.receipt.block == 8:
                    raise KeyboardInterrupt
            yield event

    said: list[Event] = []
    with pytest.raises(KeyboardInterrupt):
        said.extend(track(events(), store, store.sweep.track))
    assert len(notices(said)) == 1, "lost, and not yet tried again"
    found = content()["all"]
    assert found["status"] == "KILLED"
    assert found["tags"]["sweeps.blocks_done"] == "8"
