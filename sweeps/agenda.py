"""What is still to be measured: the blocks of a sweep in the order in which they are wanted.

A fixed sweep wants every batch of every tile. With `until`, a tile wants batches until each of its points has
stopped; a point is looked at only at the batches that its rule names, on the moments of all its batches so far in
batch order, so that what is measured is a function of the spec and never of timing. Points of a tile share its
batches; what a stopped point gets beyond its own stop is stored and not counted.

A budget ends the agenda early: what is under way is finished, and the rest is left for another run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweeps.blocks import Block
from sweeps.budget import Budget
from sweeps.events import BlockDone, BlockFailed, Event, MoreWanted, TileSettled
from sweeps.moments import Moments
from sweeps.stopping import first_look, narrow, next_look
from sweeps.sweep import Sweep

if TYPE_CHECKING:
    from sweeps.run import Store


class Looks:
    """At which number of batches each of a run of points is looked at next, and which are open still."""

    def __init__(self, sweep: Sweep, points: int) -> None:
        assert sweep.until is not None
        self.sweep, self.until = sweep, sweep.until
        self.kind = sweep.definition.outcome(sweep.until.outcome).kind
        self.at = np.full(points, first_look(sweep.until, sweep.draws_per_batch, sweep.batches))
        self.open = np.ones(points, dtype=bool)

    def see(self, count: int, total: Moments) -> None:
        """The moments (points, *dims) of the first `count` batches."""
        due = np.flatnonzero(self.open & (self.at == count))
        if len(due) == 0:
            return
        size, batches = self.sweep.draws_per_batch, self.sweep.batches
        self.at[due] = next_look(self.until, self.kind, total.at(due), count, size, batches)
        self.open[due] = self.at[due] > count

    def narrow(self, total: Moments) -> np.ndarray:
        """Which intervals are narrow enough, bool (points,)."""
        return narrow(self.until, self.kind, total)


@dataclass
class _Tile:
    """A tile whose points are not all settled: their moments over its first `looked` batches."""

    looks: Looks
    total: Moments | None = None
    looked: int = 0


class Agenda:
    """The blocks of a store's sweep that it lacks, and what to make of those that come in.

    `target` (tiles,) is the number of batches known to be wanted of every tile, `settled` (tiles,) whether it
    will want no more and has them all. `wanted` blocks are known to be wanted, done or not (with `until` they grow),
    and `measured` of them are done. `ended` says which part of the budget is used up; empty while none is.
    """

    def __init__(self, store: Store, budget: Budget | None = None) -> None:
        self.store, self.sweep, self.plan = store, store.sweep, store.plan
        self.done = store.done()
        until, batches = self.sweep.until, self.plan.batches
        self._first = first_look(until, self.sweep.draws_per_batch, batches) if until else batches
        self.target = np.full(self.plan.tiles, self._first)
        self._left = self._first - self._grid[: self._first].sum(axis=0)
        self.wanted = self._first * self.plan.tiles
        self.measured = self.wanted - int(self._left.sum())
        self.settled = np.zeros(self.plan.tiles, dtype=bool)
        self._open: dict[int, _Tile] = {}
        self._ordered: deque[int] = deque()
        self._under_way = 0
        self._spending = _Spending(budget or Budget.model_validate({}), self)
        self.ended = ""

    @property
    def _grid(self) -> np.ndarray:
        return self.done.reshape(self.plan.batches, self.plan.tiles)

    @property
    def closed(self) -> np.ndarray:
        """Blocks that are done, or will never be wanted: bool (blocks,)."""
        beyond = np.arange(self.plan.batches)[:, None] >= self.target
        return (self._grid | (beyond & self.settled)).ravel()

    def start(self) -> Iterator[Event]:
        """Settle what the store holds already."""
        yield from self._advance(np.flatnonzero(self._left == 0))

    def see(self, event: Event) -> list[Event]:
        """Take in what an executor yields; what follows from it."""
        if isinstance(event, BlockFailed):
            self._under_way -= 1
        if not isinstance(event, BlockDone):
            return []
        self._under_way -= 1
        tile = event.receipt.block % self.plan.tiles
        if not self.done[event.receipt.block]:
            self.done[event.receipt.block] = True
            self._left[tile] -= 1
            self.measured += 1
        self._spending.see(event)
        return list(self._advance([tile])) if self._left[tile] == 0 else []

    def blocks(self) -> Iterator[Block | None]:
        """The blocks to measure; None where what is wanted next depends on blocks under way."""
        for index in np.flatnonzero(~self._grid[: self._first]):
            yield from self._lease(int(index))
            if self.ended:
                return
        while self.sweep.until and (self._ordered or self._under_way):
            if self._ordered:
                yield from self._lease(self._ordered.popleft())
            else:
                yield None
            if self.ended:
                return

    def is_over(self) -> bool:
        """Whether the budget is used up, for who waits with nothing under way: time passes all the same."""
        self.ended = self.ended or self._spending.out_of_time()
        return bool(self.ended)

    def _lease(self, index: int) -> Iterator[Block]:
        block = self.plan[index]
        self.ended = self._spending.exhausted(block)
        if not self.ended:
            self._under_way += 1
            yield block

    def _advance(self, tiles) -> Iterator[Event]:
        """Tiles that have all they wanted: settled, or ordered more of."""
        if self.sweep.until is None:
            self.settled[tiles] = True
            return
        before = self.wanted
        for tile in map(int, tiles):
            yield from self._look(tile)
        if self.wanted > before:
            yield MoreWanted(self.wanted)

    def _look(self, tile: int) -> Iterator[Event]:
        """Fold in the batches of a tile that has all it wanted, until it lacks some or is settled."""
        here = self._open.setdefault(tile, _Tile(Looks(self.sweep, self.plan[tile].points)))
        while self._left[tile] == 0:
            self._fold(here, tile)
            assert here.total is not None
            if not here.looks.open.any():
                del self._open[tile]
                self.settled[tile] = True
                yield TileSettled(tile, here.looked, len(here.looks.open), int(here.looks.narrow(here.total).sum()))
                return
            more = range(here.looked, int(here.looks.at[here.looks.open].max()))
            lacking = [batch for batch in more if not self._grid[batch, tile]]
            self.target[tile], self._left[tile] = more.stop, len(lacking)
            self.wanted += len(more)
            self.measured += len(more) - len(lacking)
            self._ordered.extend(batch * self.plan.tiles + tile for batch in lacking)

    def _fold(self, here: _Tile, tile: int) -> None:
        assert self.sweep.until is not None
        wanted = range(here.looked, int(self.target[tile]))
        for batch in self.store.moments(tile, wanted, self.sweep.until.outcome):
            merged = batch if here.total is None else here.total.merge(batch)
            here.total = merged if here.total is None else merged.where(here.looks.open, here.total)
            here.looked += 1
            here.looks.see(here.looked, here.total)


class _Spending:
    """What is used of a budget: time since this run began, GPU-seconds and draws of all runs."""

    def __init__(self, budget: Budget, agenda: Agenda) -> None:
        self.budget, self.agenda, self.begun = budget, agenda, time.monotonic()
        self.gpu_seconds, self.draws = 0.0, 0
        if budget.max_gpu_hours is not None:
            self.gpu_seconds = sum(map(_gpu_seconds, agenda.store.receipts()))
        if budget.max_draws is not None:
            self.draws = int(agenda._grid.sum(axis=0) @ agenda.plan.points) * agenda.sweep.draws_per_batch

    def see(self, event: BlockDone) -> None:
        self.gpu_seconds += _gpu_seconds(event.receipt)

    def out_of_time(self) -> str:
        limit = self.budget.max_time
        late = limit is not None and time.monotonic() - self.begun >= limit
        return f"budget.max_time = {limit:g} s" if late else ""

    def exhausted(self, block: Block) -> str:
        """The limit that measuring this block would pass, in words; else its draws are spent."""
        draws = block.points * self.agenda.sweep.draws_per_batch
        limit = self.budget
        if over := self.out_of_time():
            return over
        if limit.max_gpu_hours is not None and self.gpu_seconds >= 3600 * limit.max_gpu_hours:
            return f"budget.max_gpu_hours = {limit.max_gpu_hours:g}"
        if limit.max_draws is not None and self.draws + draws > limit.max_draws:
            return f"budget.max_draws = {limit.max_draws}"
        self.draws += draws
        return ""


def _gpu_seconds(receipt) -> float:
    return 0.0 if receipt.device.startswith("cpu") else receipt.seconds
