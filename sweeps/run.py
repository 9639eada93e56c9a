"""The two ports, and the loop that joins them.

A `Store` keeps blocks; an `Executor` measures them somewhere. What is in the store is what is done: there is no
second record of progress. Running a sweep again therefore measures exactly the blocks that are missing.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Protocol

import numpy as np

from sweeps.agenda import Agenda
from sweeps.blocks import Block, Plan
from sweeps.budget import Budget
from sweeps.devices import describe
from sweeps.events import BlockFailed, Event, NoWorker, Receipt, SweepDone, SweepStarted
from sweeps.measure import Measured, measure
from sweeps.moments import Moments
from sweeps.sweep import Sweep


class Store(Protocol):
    """Keeps the blocks of one sweep, cut as `plan` says. Picklable. Any number of processes may write different
    blocks at once, and the same block too: its bytes are a function of the spec, so the last write changes nothing."""

    @property
    def sweep(self) -> Sweep: ...

    @property
    def plan(self) -> Plan: ...

    def done(self) -> np.ndarray:
        """Which blocks are committed, bool (blocks,)."""
        ...

    def write(self, block: Block, measured: Measured, *, device: str, seconds: float) -> Receipt:
        """Store a block, then commit it; a kill at any instant leaves it whole or absent."""
        ...

    def receipt(self, block: Block) -> Receipt | None:
        """The ledger's line of a committed block."""
        ...

    def receipts(self) -> list[Receipt]:
        """The ledger's lines of all committed blocks."""
        ...

    def moments(self, tile: int, batches: range, outcome: str) -> Iterator[Moments]:
        """What is stored of an outcome of a tile, batch by batch: moments (points, *dims), all of them committed."""
        ...


class Executor(Protocol):
    """Measures blocks somewhere and writes them to the store it is handed. Closing the iterator stops the work."""

    @property
    def workers(self) -> str:
        """Who works, in words, for the person watching; asked only if there is work."""
        ...

    def run(self, blocks: Iterator[Block | None], store: Store) -> Generator[Event, None, None]:
        """Yield BlockDone or BlockFailed once for every block, in any order, with Notices and BlockProgress between.

        `blocks` is asked only from within this iterator, so every event that was yielded before has been seen by
        then. None says that there is no block to lease at present; it is asked again after the next event.

        Raises:
            RuntimeError: None was given while no block was under way, so that no event can follow.
        """
        ...


def run(store: Store, executor: Executor, budget: Budget | None = None) -> Iterator[Event]:
    """Measure the blocks that the store lacks, within the budget, as an iterator of events."""
    agenda, failed = Agenda(store, budget), []
    settled = list(agenda.start())
    done = agenda.closed.all()
    workers = "" if done else executor.workers
    yield SweepStarted(store.sweep.fingerprint, agenda.wanted, agenda.measured, workers)
    yield from settled
    for event in () if done else _in_time(executor.run(agenda.blocks(), store), agenda):
        follows = agenda.see(event)
        if isinstance(event, BlockFailed):
            failed.append(event)
        yield event
        yield from follows
    missing = agenda.wanted - agenda.measured - len(failed)
    yield SweepDone(agenda.measured, tuple(failed), missing, agenda.ended)


def _in_time(events: Generator[Event, None, None], agenda: Agenda) -> Iterator[Event]:
    """All events, unless the budget's time is over while nobody works."""
    for event in events:
        yield event
        if isinstance(event, NoWorker) and agenda.is_over():
            events.close()
            return


def perform(block: Block, store: Store, device: str) -> Receipt:
    """What a worker does with a block: measure it, store it, return the receipt."""
    start = time.perf_counter()
    measured = measure(store.sweep, block, device)
    return store.write(block, measured, device=describe(device), seconds=time.perf_counter() - start)
