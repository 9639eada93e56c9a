"""The two ports, and the loop that joins them.

A `Store` keeps blocks; an `Executor` measures them somewhere. What is in the store is what is done: there is no
second record of progress. Running a sweep again therefore measures exactly the blocks that are missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sweeps.blocks import Block, plan
from sweeps.devices import describe
from sweeps.events import BlockDone, BlockFailed, Event, Receipt, SweepDone, SweepStarted
from sweeps.measure import Measured, measure
from sweeps.sweep import Sweep


class Store(Protocol):
    """Keeps the blocks of one sweep, cut as `plan(store.sweep)`. Picklable. Any number of processes may write
    different blocks at once, and the same block too: its bytes are a function of the spec, so the last write
    changes nothing."""

    @property
    def sweep(self) -> Sweep: ...

    def done(self) -> np.ndarray:
        """Which blocks are committed, bool (blocks,)."""
        ...

    def write(self, block: Block, measured: Measured, *, device: str, seconds: float) -> Receipt:
        """Store a block, then commit it; a kill at any instant leaves it whole or absent."""
        ...

    def receipt(self, block: Block) -> Receipt | None:
        """The ledger's line of a committed block."""
        ...


class Executor(Protocol):
    """Measures blocks somewhere and writes them to the store it is handed. Closing the iterator stops the work."""

    @property
    def workers(self) -> str:
        """Who works, in words, for the person watching."""
        ...

    def run(self, blocks: Iterator[Block | None], store: Store) -> Iterator[Event]:
        """Yield BlockDone or BlockFailed once for every block, in any order, and Notices.

        `blocks` is asked only from within this iterator, so every event that was yielded before has been seen by
        then. None says that there is no block to lease at present; it is asked again after the next event.

        Raises:
            RuntimeError: None was given while no block was under way, so that no event can follow.
        """
        ...


def run(store: Store, executor: Executor) -> Iterator[Event]:
    """Measure the blocks that the store does not hold, as an iterator of events."""
    cut, done = plan(store.sweep), store.done()
    yield SweepStarted(store.sweep.fingerprint, len(cut), int(done.sum()), executor.workers)
    finished, failed = int(done.sum()), []
    for event in executor.run((cut[int(i)] for i in np.flatnonzero(~done)), store):
        if isinstance(event, BlockDone):
            finished += 1
        elif isinstance(event, BlockFailed):
            failed.append(event)
        yield event
    yield SweepDone(finished, tuple(failed), len(cut) - finished - len(failed))


def perform(block: Block, store: Store, device: str) -> Receipt:
    """What a worker does with a block: measure it, store it, return the receipt."""
    start = time.perf_counter()
    measured = measure(store.sweep, block, device)
    return store.write(block, measured, device=describe(device), seconds=time.perf_counter() - start)
