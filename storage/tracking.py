"""MLflow beside the ledger: one parent run a sweep, a child run for every value of the axis `track.by`.

What the runs hold is a function of the store (`storage.slices`); `track` publishes a slice once all its blocks
are committed, `rebuild` publishes the same from the store alone. Both look for the runs by fingerprint and store
first and add only what is missing, so doing it twice changes nothing. A run is never made for an unfinished
slice: its numbers would change later. What remains open is in the parent's status (FINISHED, FAILED, KILLED) and
tags. Only the parent's start is not the store's: live, it is when the sweep was started; rebuilt, when its first
block was.

Numbers come first: MLflow is only called aside, and measuring waits PATIENCE for it; what takes longer goes on
meanwhile. A tracking server that cannot be used yields a `Notice` and the sweep goes on; it is tried once more at
the end, and `sweeps track STORE` catches up at any time.
"""

from __future__ import annotations

import getpass
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from storage import runs, slices
from storage.query import open_sweep
from storage.slices import WHOLE, Slice
from storage.snapshot import Snapshot
from storage.zarr_store import ZarrStore
from sweeps.errors import SweepsError
from sweeps.events import BlockDone, BlockFailed, Event, Notice, SweepDone, SweepStarted
from sweeps.sweep import TrackSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAUSE = 2.0  # seconds between rounds of publishing, at least
SHARE = 0.1  # of the coordinator's time that publishing may take while the sweep runs
PATIENCE = 1.5  # seconds that measuring waits, or the end of an interrupted sweep: Ray's stop_job kills after 3
LAST = 20.0  # seconds that a finished sweep waits for a server that has not answered yet
ARTIFACTS = "sweeps.artifacts"  # committed blocks when they were last logged


def track(events: Iterator[Event], store: ZarrStore, settings: TrackSettings) -> Iterator[Event]:
    """Log a sweep while it runs; every event is passed on. Closing the iterator closes `events`.

    Raises nothing of its own: whatever goes wrong with MLflow becomes a `Notice`.
    """
    tracker = _Tracker(Notebook(store, settings))
    status = "KILLED"
    try:
        for event in events:
            if isinstance(event, SweepDone):
                yield from tracker.finish(event)
                status = ""
                yield event
            else:
                yield event
                yield from tracker.see(event)
    except Exception:
        status = status and "FAILED"
        raise
    finally:
        if status:
            tracker.stop(status, getattr(events, "close", lambda: None))


@dataclass(frozen=True)
class Rebuilt:
    """Where the runs are; `children` of `slices` are published, `done` of `blocks` are in the store."""

    uri: str
    experiment: str
    run: str
    children: int
    slices: int
    done: int
    blocks: int

    def __str__(self) -> str:
        shown = f", {self.children} of {self.slices} child runs" if self.slices else ""
        counts = f"{self.done} of {self.blocks} blocks"
        return f"{self.uri}: experiment {self.experiment!r}, run {self.run}{shown}; {counts}"


def rebuild(store: ZarrStore, uri: str | None = None, settings: TrackSettings | None = None) -> Rebuilt:
    """Make or complete the runs of a store from the store alone; doing it again changes nothing.

    An unfinished sweep's run ends as KILLED, or stays FAILED where it was. `settings` default to the spec's.

    Raises:
        SweepsError: the tracking server cannot be used.
    """
    settings = settings or store.sweep.track
    book, done = Notebook(store, settings.model_copy(update={"uri": uri or settings.uri})), store.done()
    try:
        with runs.quiet():
            book.open(done)
            book.publish(done)
            book.settle(done)
            book.illustrate(done)
    except SweepsError:
        raise
    except Exception as error:
        raise SweepsError(f"tracking server {slices.hidden(book.uri)} {runs.reason(error)}") from error
    return Rebuilt(
        uri=slices.hidden(book.uri),
        experiment=settings.experiment,
        run=book.parent.id,
        children=len(book.published.intersection(book.parts)),
        slices=len(book.parts),
        done=int(done.sum()),
        blocks=len(done),
    )


class Notebook:
    """The runs of one store on one tracking server. Its methods are idempotent, and raise what MLflow raises."""

    client: MlflowClient
    parent: runs.Run

    def __init__(self, store: ZarrStore, settings: TrackSettings) -> None:
        self.store, self.settings = store, settings
        self.uri = runs.resolve(settings.uri)
        self.parts = slices.children(store.sweep, settings.by)
        self.found: dict[str, runs.Run] = {}
        self.published: set[Slice] = set()

    @property
    def key(self) -> str:
        """What the runs of this sweep in this store share; a hash, because a filter cannot quote every path."""
        text = f"{self.store.sweep.fingerprint}\n{slices.public(self.store.url)}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def open(self, done: np.ndarray) -> None:
        """Connect, find the runs there are, and make the parent if there is none."""
        self.client = runs.connect(self.uri)
        self.experiment = runs.experiment(self.client, self.uri, self.settings.experiment)
        self.found = {}
        for run in runs.find(self.client, self.experiment, self.key):
            self.found.setdefault(run.tags.get("sweeps.slice", ""), run)
        self.published = {p for p in self.parts if p.name in self.found and self.found[p.name].status == "FINISHED"}
        span = slices.span(self.store, done)
        self.parent = self._run(WHOLE, span[0] if span else time.time_ns() // 10**6)
        self.parent.add(slices.parameters(self.store.sweep, WHOLE), [])

    def _run(self, part: Slice, start: int) -> runs.Run:
        if part.name not in self.found:
            tags = {**slices.tags(self.store, part), runs.KEY: self.key, **_origin(self.store)}
            tags |= {runs.PARENT: self.parent.id} if part.axis else self._parent_tags()
            name = part.name if part.axis else self.store.sweep.name
            self.found[part.name] = runs.create(self.client, self.experiment, name, tags, start)
        return self.found[part.name]

    def _parent_tags(self) -> dict[str, str]:
        why = slices.too_many(self.store.sweep, self.settings.by)
        return {"mlflow.note.content": slices.note(self.store), **({"sweeps.children": why} if why else {})}

    def ready(self, done: np.ndarray) -> list[Slice]:
        """Slices that are complete and not yet published."""
        cut, sweep = self.store.layout.plan, self.store.sweep
        parts = self.parts or (WHOLE,)
        return [p for p in parts if p not in self.published and slices.complete(cut, sweep, p, done)]

    def publish(self, done: np.ndarray) -> None:
        """Everything that the committed blocks settle."""
        parts = self.ready(done)
        if parts:
            held, ds = Snapshot.of(self.store, done), open_sweep(self.store.url)
            for part in parts:
                self._publish(part, held, ds)
        self.parent.add({}, slices.progress(self.store, done))
        self.parent.tag(_counts(done))

    def _publish(self, part: Slice, held: Snapshot, ds: xr.Dataset) -> None:
        curve = slices.curve(self.store, held, ds, part, max(1, len(self.parts)))
        run = self._run(part, curve.start)
        run.add(slices.parameters(self.store.sweep, part), curve.entries)
        run.tag({"sweeps.steps": curve.steps} if curve.steps else {})
        if part.axis:
            run.end("FINISHED", curve.end)
        self.published.add(part)

    def end(self, status: str, done: np.ndarray, failed: Sequence[BlockFailed] = ()) -> None:
        """Close the parent run, as of the last committed block."""
        span = slices.span(self.store, done)
        ended = span[1] if span else self.parent.ended or time.time_ns() // 10**6
        tags = {**_counts(done), "sweeps.blocks_failed": str(len(failed))}
        if failed or "sweeps.failure" in self.parent.tags:
            tags["sweeps.failure"] = _failure(failed[0]) if failed else ""
        self.parent.tag(tags)
        self.parent.end(status, ended)

    def settle(self, done: np.ndarray) -> None:
        """Close the parent run by what the store alone says; a failure noted before stays noted."""
        if done.all() or self.parent.status != "FAILED":
            self.end("FINISHED" if done.all() else "KILLED", done)

    def illustrate(self, done: np.ndarray) -> None:
        """Spec, environment and figures, once for every number of committed blocks."""
        drawn = str(int(done.sum()))
        if self.parent.tags.get(ARTIFACTS) == drawn:
            return
        self.parent.text("spec.json", slices.spec(self.store))
        self.parent.text("environment.json", slices.environment(self.store))
        if done.any():
            from storage.figures import draw

            ds = open_sweep(self.store.url)
            for outcome in self.store.sweep.definition.outcomes:
                self.parent.figure(f"figures/{outcome.name}.png", draw(ds, outcome.name))
        self.parent.tag({ARTIFACTS: drawn})


class _Errand(Thread):
    """Something done with the server, aside, so that nobody has to wait for it; and what went wrong."""

    error: Exception | None = None

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.work = work

    def run(self) -> None:
        try:
            with runs.quiet():
                self.work()
        except Exception as error:
            self.error = error


class _Tracker:
    """A notebook kept while events come in; it may be lost, and the sweep goes on.

    One errand at a time has the notebook. What is committed is known from the events; the marks are only listed
    where those do not say which blocks they count.
    """

    def __init__(self, book: Notebook) -> None:
        self.book = book
        self.done = np.zeros(len(book.store.layout.plan), dtype=bool)
        self.failed: list[BlockFailed] = []
        self.errand: _Errand | None = None
        self.is_open, self.lost, self.told, self.resting = False, False, "", 0.0

    def see(self, event: Event) -> Iterator[Notice]:
        if isinstance(event, SweepStarted):
            self.done = self._committed(event.done)
            yield from self._try(self._start, PATIENCE)
            yield from _told(slices.too_many(self.book.store.sweep, self.book.settings.by))
            return
        yield from self._wait(0.0)
        if isinstance(event, BlockFailed):
            self.failed.append(event)
        elif isinstance(event, BlockDone):
            self.done[event.receipt.block] = True
            if self.is_open and time.monotonic() >= self.resting:
                yield from self._try(self._round, PATIENCE)

    def finish(self, event: SweepDone) -> Iterator[Notice]:
        """The end as it should be; a lost server gets one more chance."""
        self.done, self.failed = self._committed(event.done), list(event.failed)
        was_lost = self.lost
        yield from self._wait(None if self.is_open else LAST)
        if was_lost:
            self.lost = False
            yield from self._try(self._start, LAST)
        if self.errand is not None:
            yield from self._lose(TimeoutError("timed out"))
        status = "FAILED" if self.failed else "FINISHED" if self.done.all() else "KILLED"
        yield from self._try(partial(self._close, status))
        yield from self._try(self.book.illustrate, what="artifacts: ")

    def stop(self, status: str, close: Callable[[], None]) -> None:
        """Mark an interrupted sweep's run within PATIENCE, while the work is being stopped."""
        marking = _Errand(partial(self._mark, status, self.errand))
        marking.start()
        deadline = time.monotonic() + PATIENCE
        try:
            close()
        finally:
            marking.join(max(0.0, deadline - time.monotonic()))

    def _mark(self, status: str, before: _Errand | None) -> None:
        if before is not None:
            before.join()
        if self.is_open and not self.lost:
            self.book.end(status, self.done, self.failed)

    def _committed(self, count: int) -> np.ndarray:
        """Which blocks are committed, `count` of them unless others work on the same store."""
        if count in (0, len(self.done)):
            return np.full(len(self.done), bool(count))
        return self.book.store.done()

    def _start(self, done: np.ndarray) -> None:
        self.book.open(done)
        self.is_open = True
        if not done.all():
            self.book.parent.resume()
        self.book.parent.tag(_counts(done))

    def _round(self, done: np.ndarray) -> None:
        begun = time.monotonic()
        self.book.publish(done)
        now = time.monotonic()
        self.resting = now + max(PAUSE, (now - begun) / SHARE)

    def _close(self, status: str, done: np.ndarray) -> None:
        self.book.publish(done)
        self.book.end(status, done, self.failed)

    def _try(
        self, work: Callable[[np.ndarray], None], patience: float | None = None, what: str = ""
    ) -> Iterator[Notice]:
        """Do it with what is committed now, unless the server is lost, or busy still."""
        if self.lost or self.errand is not None:
            return
        self.errand = _Errand(partial(work, self.done.copy()))
        self.errand.start()
        yield from self._wait(patience, what)

    def _wait(self, patience: float | None, what: str = "") -> Iterator[Notice]:
        """Let the errand end, but no longer than `patience` seconds; its failure loses the server."""
        if self.errand is None:
            return
        self.errand.join(patience)
        if self.errand.is_alive():
            return
        error, self.errand = self.errand.error, None
        if error is not None:
            yield from self._lose(error, what)

    def _lose(self, error: Exception, what: str = "") -> Iterator[Notice]:
        """Say what is new: a server may come back, and that it did not is worth a word; a bad URI stays bad."""
        said, why = self.told, runs.reason(error)
        self.told, self.lost = why, True
        catch_up = f"catch up with `sweeps track {slices.public(self.book.store.url)}`"
        if said and why.startswith(runs.UNREACHABLE):
            yield Notice(f"tracking server still unreachable; {catch_up}")
        elif isinstance(error, SweepsError) and said != why:
            yield Notice(f"tracking stops: {error}")
        elif said != why:
            server = f"{what}tracking server {slices.hidden(self.book.uri)}"
            yield Notice(f"{server} {why}; the sweep goes on; {catch_up}")


def _told(text: str) -> Iterator[Notice]:
    if text:
        yield Notice(text)


def _failure(first: BlockFailed) -> str:
    return f"block {first.block}: {first.error}"[: slices.MAX_TEXT]


def _counts(done: np.ndarray) -> dict[str, str]:
    return {"sweeps.blocks": str(len(done)), "sweeps.blocks_done": str(int(done.sum()))}


def _origin(store: ZarrStore) -> dict[str, str]:
    """Who and what made a run, as far as the store remembers."""
    made_by = slices.environment(store).get("made_by", {})
    found = {
        "mlflow.source.name": "sweeps",
        "mlflow.source.git.commit": made_by.get("git_commit", ""),
        "mlflow.user": _user(),
        "sweeps.ray_submission_id": made_by.get("ray_submission_id", ""),
    }
    return {key: value for key, value in found.items() if value}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
