"""How far the block under way is.

A sampler whose launch takes long may `tell` the share of it that is done, as often as it likes. Whoever follows the
blocks of this thread hears, within that call and a few times a second, the share of the block. No number depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from sweeps.events import BlockProgress, Event

PAUSE = 0.25  # seconds between what is heard
Hear = Callable[[BlockProgress], None]


@dataclass
class _Follower:
    hear: Hear
    due: float
    block: int = 0
    before: float = 0.0  # share of the block that was done before this launch
    part: float = 1.0  # share of the block that this launch is


_follower: ContextVar[_Follower | None] = ContextVar("_follower", default=None)


def tell(share: float) -> None:
    """Say that this share of the launch is done; nothing if nobody follows, or heard just now."""
    follower = _follower.get()
    if follower is None or (now := time.monotonic()) < follower.due:
        return
    follower.due = now + PAUSE
    follower.hear(BlockProgress(follower.block, follower.before + follower.part * min(1.0, max(0.0, share))))


def launch(block: int, before: float, part: float) -> None:
    """Say that a launch begins, and which part of its block it is."""
    follower = _follower.get()
    if follower is not None:
        follower.block, follower.before, follower.part = block, before, part
        tell(0.0)


@contextmanager
def told(hear: Hear) -> Iterator[None]:
    """Follow the blocks measured in here; what ends within PAUSE is not heard of."""
    token = _follower.set(_Follower(hear, time.monotonic() + PAUSE))
    try:
        yield
    finally:
        _follower.reset(token)


def heard(events: Iterable[Event], hear: Hear) -> Iterator[Event]:
    """Pass events on; what is told while the next one is awaited goes to `hear`."""
    events = iter(events)
    while True:
        with told(hear):
            event = next(events, None)
        if event is None:
            return
        yield event
