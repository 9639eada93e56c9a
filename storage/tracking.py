"""MLflow beside the ledger: one parent run a sweep, a child run for every value of the axis `track.by`.

What the runs hold is a function of the store (`storage.slices`); `track` publishes a slice once all its blocks
are committed, `rebuild` publishes the same from the store alone. Both look for the runs by fingerprint and store
first and add only what is missing (`storage.notebook`), so doing it twice changes nothing. A run is never made for an
unfinished slice: its numbers would change later. What remains open is in the parent's status (FINISHED, FAILED,
KILLED) and tags. Only the parent's start is not the store's: live, it is when the sweep was started; rebuilt, when
its first block was.

Numbers come first: MLflow is only called aside, and measuring waits PATIENCE for it; what takes longer goes on
meanwhile. A tracking server that cannot be used yields a `Notice` and the sweep goes on. It is tried again, aside and
ever more seldom, and once more at the end; a second `Notice` says that it is back and has been caught up with.
`sweeps track STORE` catches up at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from threading import Thread

import numpy as np

from storage import runs, slices
from storage.notebook import Notebook, counts
from storage.zarr_store import ZarrStore
from sweeps.errors import SweepsError
from sweeps.events import BlockDone, BlockFailed, Event, Notice, SweepDone, SweepStarted, TileSettled
from sweeps.sweep import TrackSettings

PAUSE = 2.0  # seconds between rounds of publishing, at least
SHARE = 0.1  # of the coordinator's time that publishing may take while the sweep runs
PATIENCE = 1.5  # seconds that measuring waits, or the end of an interrupted sweep: Ray's stop_job kills after 3
LAST = 20.0  # seconds that a finished sweep waits for a server that has not answered yet
AGAIN, SELDOM = 30.0, 600.0  # seconds until a lost server is tried again: at first, and at most; doubled each time


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

    An unfinished sweep's run ends as KILLED; it stays FAILED where it was, and RUNNING where blocks are still being
    committed. `settings` default to the spec's.

    Raises:
        SweepsError: the tracking server cannot be used.
    """
    settings = settings or store.sweep.track
    book, done = Notebook(store, settings.model_copy(update={"uri": uri or settings.uri})), store.done()
    try:
        with runs.quiet():
            book.replay()
            book.open(done)
            book.publish(done)
            book.settle(done)
            book.illustrate(done)
    except SweepsError:
        raise
    except Exception as error:
        raise SweepsError(f"tracking server {runs.shown(book.uri)} {runs.reason(error, book.uri)}") from error
    return Rebuilt(
        uri=runs.shown(book.uri),
        experiment=settings.experiment,
        run=book.parent.id,
        children=sum(map(book.is_published, book.parts)),
        slices=len(book.parts),
        done=int(done.sum()),
        blocks=len(done),
    )


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
    """A notebook kept while events come in; it may be lost and found again, and the sweep goes on.

    One errand at a time has the notebook. What is committed is known from the events; the marks are only listed
    where those do not say which blocks they count.
    """

    def __init__(self, book: Notebook) -> None:
        self.book = book
        self.done = np.zeros(len(book.store.plan), dtype=bool)
        self.failed: list[BlockFailed] = []
        self.spent = ""
        self.errand: _Errand | None = None
        self.is_open, self.lost, self.told, self.is_ending = False, False, "", False
        self.resting, self.again, self.delay = 0.0, 0.0, AGAIN

    def see(self, event: Event) -> Iterator[Notice]:
        if isinstance(event, SweepStarted):
            self.done = self._committed(event.done)
            yield from self._try(partial(self._twice, self._start), PATIENCE)
            yield from _told(slices.too_many(self.book.store.sweep, self.book.settings.by))
            return
        yield from self._wait(0.0)
        if isinstance(event, BlockFailed):
            self.failed.append(event)
        elif isinstance(event, BlockDone):
            self.done[event.receipt.block] = True
        elif isinstance(event, TileSettled):
            self.book.settled(event.tile, event.batches)
        if self.lost and time.monotonic() >= self.again:
            yield from self._try(self._return, 0.0)
        elif isinstance(event, BlockDone) and self.is_open and time.monotonic() >= self.resting:
            yield from self._try(self._round, PATIENCE)

    def finish(self, event: SweepDone) -> Iterator[Notice]:
        """The end as it should be; a lost server gets one more chance."""
        self.done, self.failed, self.spent = self._committed(event.done), list(event.failed), event.ended
        was_lost, self.is_ending = self.lost, not self.lost  # what is under way is not the last try of a lost one
        yield from self._await()
        self.is_ending = True
        if was_lost and self.lost and self.errand is None:
            yield from self._try(self._return, 0.0)
            yield from self._await()
        if self.errand is not None:
            yield from self._lose(TimeoutError("timed out"))
        status = "FAILED" if self.failed else "FINISHED" if self.book.is_complete(self.done) else "KILLED"
        for work, what in ((partial(self._end, status), ""), (self.book.illustrate, "artifacts: ")):
            if not self.lost:
                yield from self._try(partial(self._twice, work), what=what)

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
        if self.lost:
            self.book.open(self.done)
        if self.lost or self.is_open:
            self.book.end(status, self.done, self.failed)

    def _committed(self, count: int) -> np.ndarray:
        """Which blocks are committed, `count` of them that are wanted."""
        if count in (0, len(self.done)):
            return np.full(len(self.done), bool(count))
        return self.book.store.done()

    def _start(self, done: np.ndarray) -> None:
        self.book.open(done)
        self.is_open = True
        if not self.book.is_complete(done):
            self.book.parent.resume()
        self.book.parent.tag(counts(done))

    def _return(self, done: np.ndarray) -> None:
        self._start(done)
        self.book.publish(done)

    def _round(self, done: np.ndarray) -> None:
        begun = time.monotonic()
        self._twice(self._keep, done)
        now = time.monotonic()
        self.resting = now + max(PAUSE, (now - begun) / SHARE)

    def _keep(self, done: np.ndarray) -> None:
        self.book.publish(done)
        if not self.book.is_complete(done):  # somebody else may have closed it
            self.book.parent.resume()

    def _end(self, status: str, done: np.ndarray) -> None:
        self.book.look(done)
        self.book.publish(done)
        self.book.end(status, done, self.failed, self.spent)

    def _twice(self, work: Callable[[np.ndarray], None], done: np.ndarray) -> None:
        """An answer may be lost, or a run may give way to another's: the second time with a fresh look."""
        try:
            work(done)
        except SweepsError:
            raise
        except Exception:
            self.book.open(done)
            work(done)

    def _try(
        self, work: Callable[[np.ndarray], None], patience: float | None = None, what: str = ""
    ) -> Iterator[Notice]:
        """Do it with what is committed now, unless the server is busy still."""
        if self.errand is not None:
            return
        self.errand = _Errand(partial(work, self.done.copy()))
        self.errand.start()
        yield from self._wait(patience, what)

    def _await(self) -> Iterator[Notice]:
        """Wait for what is under way: LAST for an answer, and as long as it takes where there was one."""
        yield from self._wait(LAST)
        if self.is_open:
            yield from self._wait(None)

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
        elif self.lost:
            self.lost, self.told, self.delay = False, "", AGAIN
            yield Notice(f"tracking server {runs.shown(self.book.uri)} is back; its runs have caught up")

    def _lose(self, error: Exception, what: str = "") -> Iterator[Notice]:
        """Say it once when the server is lost, and at the end if it still is; a bad URI stays bad."""
        why, said = runs.reason(error, self.book.uri), self.told
        is_news = not self.lost or (self.is_ending and why != said)
        is_still = self.lost and self.is_ending and why.startswith(runs.UNREACHABLE)
        self.delay = min(SELDOM, 2 * self.delay) if self.lost else AGAIN
        self.again = time.monotonic() + self.delay
        self.lost, self.is_open, self.told = True, False, why
        catch_up = f"catch up with `sweeps track {slices.public(self.book.store.url)}`"
        if is_still:
            yield Notice(f"tracking server still unreachable; {catch_up}")
        elif is_news and isinstance(error, SweepsError):
            yield Notice(f"tracking stops: {error}")
        elif is_news:
            goes_on = "" if self.is_ending else "the sweep goes on and tries it again; "
            yield Notice(f"{what}tracking server {runs.shown(self.book.uri)} {why}; {goes_on}{catch_up}")


def _told(text: str) -> Iterator[Notice]:
    if text:
        yield Notice(text)
