"""A store in memory, and an executor that brings blocks back in any order: what the loop may meet, at little cost."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import numpy as np

from sweeps.blocks import Block, Plan, plan, settled
from sweeps.events import BlockDone, BlockFailed, Event, Receipt
from sweeps.measure import Measured
from sweeps.moments import Moments
from sweeps.run import Store, perform
from sweeps.sweep import Sweep


class MemoryStore:
    """Blocks by index; `written` are those that were written, in order, `read` the (tile, batches) asked for."""

    def __init__(self, sweep: Sweep, cut: Plan | None = None) -> None:
        self.sweep, self.plan = settled(sweep), cut or plan(sweep)
        self.held: dict[int, tuple[Receipt, Measured]] = {}
        self.written: list[int] = []
        self.read: list[tuple[int, range]] = []

    def done(self) -> np.ndarray:
        done = np.zeros(len(self.plan), dtype=bool)
        done[list(self.held)] = True
        return done

    def write(self, block: Block, measured: Measured, *, device: str, seconds: float) -> Receipt:
        receipt = Receipt(block.index, 0, 0, seconds, device)
        self.held[block.index] = receipt, measured
        self.written.append(block.index)
        return receipt

    def receipt(self, block: Block) -> Receipt | None:
        return self.held[block.index][0] if block.index in self.held else None

    def receipts(self) -> list[Receipt]:
        return [self.held[index][0] for index in sorted(self.held)]

    def moments(self, tile: int, batches: range, outcome: str) -> Iterator[Moments]:
        self.read.append((tile, batches))
        for batch in batches:
            block = self.plan[batch * self.plan.tiles + tile]
            array = self.held[block.index][1].moments[outcome].stack()
            yield Moments.unstack(array.reshape(block.points, *array.shape[len(block.shape) :]))


class Scrambled:
    """Up to `flight` blocks under way, brought back in an order that `seed` decides; closed after `stop` of them.

    A block in `failing` raises. Asks again after None only once something came back, as the port says.
    """

    workers = "nobody"

    def __init__(
        self,
        flight: int = 1,
        seed: int = 0,
        stop: int | None = None,
        failing: frozenset[int] = frozenset(),
        perform: Callable[[Block, Store, str], Receipt] = perform,
    ) -> None:
        self.flight, self.stop, self.failing, self.perform = flight, stop, failing, perform
        self.random = np.random.default_rng(seed)

    def run(self, blocks: Iterator[Block | None], store: Store) -> Generator[Event, None, None]:
        under_way: list[Block] = []
        for landed in range(self.stop if self.stop is not None else len(store.plan) + 1):
            while len(under_way) < self.flight and (block := next(blocks, None)) is not None:
                under_way.append(block)
            if not under_way:
                assert next(blocks, self) is self, f"nothing is under way after {landed}, and still no block to be had"
                return
            yield self._land(under_way.pop(self.random.integers(len(under_way))), store)

    def _land(self, block: Block, store: Store) -> Event:
        if block.index in self.failing:
            return BlockFailed(block.index, 1, "ArithmeticError: as told")
        return BlockDone(self.perform(block, store, "cpu"))
