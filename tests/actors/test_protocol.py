"""The leasing protocol: an executor that is told to wait asks again after an event, and knows no block twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sweeps.blocks import Block, plan
from sweeps.events import BlockDone, BlockFailed, Event
from sweeps.run import Executor
from tests.actors.conftest import faulty
from tests.conftest import SpecMaker

pytestmark = pytest.mark.cluster


class Script:
    """Releases waves of blocks, each when all of the wave before it have been seen done or failed."""

    def __init__(self, cut, sizes: list[int]) -> None:
        self.waves = [[cut[i] for i in range(sum(sizes[:n]), sum(sizes[: n + 1]))] for n in range(len(sizes))]
        self.seen: list[int] = []
        self.events = 0
        self.asked: list[int] = []  # events seen when a None was given

    def blocks(self) -> Iterator[Block | None]:
        before: list[int] = []
        for wave in self.waves:
            while not set(before) <= set(self.seen):
                self.asked.append(self.events)
                yield None
            yield from wave
            before = [block.index for block in wave]

    def follow(self, events: Iterator[Event]) -> list[int]:
        for event in events:
            self.events += 1
            if isinstance(event, BlockDone):
                self.seen.append(event.receipt.block)
            if isinstance(event, BlockFailed):
                self.seen.append(event.block)
        return self.seen


@pytest.mark.parametrize("sizes", [[4, 1, 7], [1, 1, 1], [12]], ids=str)
def test_blocks_are_leased_as_they_are_released(executor: Executor, new_store, sizes: list[int]) -> None:
    store = new_store(faulty())
    script = Script(plan(store.sweep), sizes)
    seen = script.follow(executor.run(script.blocks(), store))
    assert sorted(seen) == list(range(sum(sizes)))
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    assert [set(seen[:end]) for end in ends] == [set(range(end)) for end in ends]
    assert len(script.asked) == len(set(script.asked)), "after a None it asks again only when an event was seen"


def test_a_wave_that_fails_releases_the_next(executor: Executor, new_store) -> None:
    store = new_store(faulty(bad=0))
    script = Script(plan(store.sweep), [1, 2])
    assert sorted(script.follow(executor.run(script.blocks(), store))) == [0, 1, 2]


@pytest.mark.parametrize("first", [0, 3])
def test_waiting_for_nothing_is_a_bug(executor: Executor, toy: SpecMaker, new_store, first: int) -> None:
    store = new_store(toy())
    blocks = iter([*[plan(store.sweep)[i] for i in range(first)], *[None] * 9])
    events = []
    with pytest.raises(RuntimeError, match="no block to lease at present, and none is under way"):
        events.extend(executor.run(blocks, store))
    assert store.done().sum() == first


def test_none_of_no_blocks_starts_nobody(executor: Executor, toy: SpecMaker, new_store) -> None:
    assert list(executor.run(iter(()), new_store(toy()))) == []
