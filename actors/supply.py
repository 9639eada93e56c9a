"""The blocks that wait to be leased: those that are to be measured again, then what the sweep asks for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from sweeps.blocks import Block

SOUGHT = 64  # blocks that wait, of which one that suits is looked for
STUCK = "the sweep has no block to lease at present, and none is under way"


class Supply:
    """Takes from an iterator of blocks; after a None it asks no more until an event was `told`."""

    def __init__(self, blocks: Iterator[Block | None]) -> None:
        self.blocks = blocks
        self.again: deque[Block] = deque()
        self.paused = self.ended = False

    def take(self, number: int) -> list[Block]:
        """At most so many blocks."""
        taken: list[Block] = []
        while len(taken) < number and (block := self._next()) is not None:
            taken.append(block)
        return taken

    def pick(self, suits: Callable[[Block], bool]) -> Block | None:
        """The first that suits of those that are to be measured again, else a new one."""
        for place, block in enumerate(islice(self.again, SOUGHT)):
            if suits(block):
                del self.again[place]
                return block
        return self._new()

    def back(self, blocks: Iterable[Block]) -> None:
        """Blocks that were taken and are to be measured again, or still."""
        self.again.extend(blocks)

    def told(self) -> None:
        """The sweep has heard of an event."""
        self.paused = False

    def any(self) -> bool:
        """Whether there is a block, asked when none is under way.

        Raises:
            RuntimeError: the sweep waits for an event that cannot come.
        """
        self.back(self.take(1))
        if not self.again and not self.ended:
            raise RuntimeError(STUCK)
        return bool(self.again)

    def _next(self) -> Block | None:
        return self.again.popleft() if self.again else self._new()

    def _new(self) -> Block | None:
        if self.paused or self.ended:
            return None
        try:
            block = next(self.blocks)
        except StopIteration:
            self.ended = True
            return None
        self.paused = block is None
        return block
