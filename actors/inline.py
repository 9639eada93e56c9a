"""The executor that works in this process: a first-class one, and what the tests compare Ray with."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from actors.supply import STUCK
from sweeps.blocks import Block
from sweeps.devices import describe, resolve
from sweeps.errors import StoreError, in_one_line
from sweeps.events import BlockDone, BlockFailed, Event
from sweeps.logs import context
from sweeps.run import Store, perform


class Inline:
    """Blocks one after another, in order, on one device and one thread. A block that raises fails at once: here
    nothing but the block itself can be at fault, and trying again would give the same. A store that cannot be
    written is nobody's block's fault and ends the sweep."""

    def __init__(self, device: str = "auto") -> None:
        self.device = resolve(device)

    @property
    def workers(self) -> str:
        return f"this process on {describe(self.device)}"

    def run(self, blocks: Iterator[Block | None], store: Store) -> Generator[Event, None, None]:
        for block in blocks:
            if block is None:
                raise RuntimeError(STUCK)
            yield self._perform(block, store)

    def _perform(self, block: Block, store: Store) -> Event:
        try:
            with context(block=block.index, attempt=1):
                return BlockDone(perform(block, store, self.device))
        except StoreError:
            raise
        except Exception as error:
            return BlockFailed(block.index, 1, in_one_line(error))
