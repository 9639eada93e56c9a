"""The live board: what a running sweep looks like, as one line of JSON in its log from time to time.

Whoever watches from afar reads the last such line; nothing else is asked of the driver. Progress comes from the
events. Estimates, at a few points, come from blocks read back from the store, for a small share of the coordinator's
time: they lag behind, say from how many draws they are, and are merged as blocks come, not in batch order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from deploy.screen import Tally
from storage.layout import lengths
from storage.zarr_store import ZarrStore
from sweeps.errors import StoreError
from sweeps.events import BlockDone, BlockFailed, Event, MoreWanted, SweepDone, SweepStarted, TileSettled
from sweeps.intervals import interval
from sweeps.moments import Moments
from sweeps.statistic import Outcome
from sweeps.stopping import first_look

PREFIX = "@sweeps "
FIRST, LONGEST, GROWTH = 2.0, 60.0, 1.3  # seconds between boards
SHARE = 0.02  # of the coordinator's time, for reading blocks back
ADVANCE, AT_END = 0.1, 1.0  # seconds more for it from the start, and for the last board
SLICES = 40
POINTS = 6
CONFIDENCE = 0.95
RECENT = 4096  # blocks by which the rate is told


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval, from `draws` draws at a point; None where too few draws say."""

    at: str
    mean: float | None
    low: float | None
    high: float | None
    draws: int


@dataclass(frozen=True)
class Board:
    """`rate` is in blocks a second and `left` in seconds, None before there is something to go by. `slices` holds
    (name, blocks done, blocks needed); `devices` counts the workers heard of; `end` says how it ended; `under_way` adds
    up the shares of blocks that are."""

    name: str
    store: str
    time: float
    elapsed: float
    done: int
    needed: int
    failed: int
    rate: float | None
    left: float | None
    workers: str
    devices: dict[str, int]
    slices: tuple[tuple[str, int, int], ...]
    estimates: dict[str, tuple[Estimate, ...]]
    end: str = ""
    under_way: float = 0.0

    def line(self) -> str:
        return PREFIX + json.dumps(dataclasses.asdict(self), separators=(",", ":"), allow_nan=False)

    @classmethod
    def of(cls, line: str) -> Board:
        """The board of a line; fields that are not known here are dropped.

        Raises:
            ValueError: the line is torn, or no board.
        """
        return TypeAdapter(cls).validate_json(line.removeprefix(PREFIX))


def last(text: str) -> Board | None:
    """The last board in a piece of a log that can be read."""
    for line in reversed(text.splitlines()):
        if line.startswith(PREFIX):
            with contextlib.suppress(ValueError):
                return Board.of(line)
    return None


def board(
    events: Iterable[Event], store: ZarrStore, put: Callable[[str], None] = print, *, at_most: float = math.inf
) -> Iterator[Event]:
    """Pass events on, and put a board's line when the sweep starts, from time to time (after `at_most` events, where
    each of these is a line too), and when it ends."""
    painter: _Painter | None = None
    try:
        for event in events:
            if isinstance(event, SweepStarted):
                painter = _Painter(store, event, put, at_most)
            elif painter is not None:
                painter.see(event)
            yield event
    finally:
        if painter is not None and not painter.end:
            painter.paint("stopped")


class _Painter:
    """Counts of a running sweep, and when to write them down."""

    def __init__(self, store: ZarrStore, started: SweepStarted, put: Callable[[str], None], at_most: float) -> None:
        self.store, self.put, self.workers = store, put, started.workers
        self.events, self.at_most = 0, at_most
        self.needed, self.committed = started.blocks, started.done
        self.done = store.done() if started.done else np.zeros(len(store.plan), dtype=bool)
        self.failed: set[int] = set()
        self.begun, self.end = time.monotonic(), ""
        self.heard: dict[str, str] = {}  # worker: device
        self.recent: deque[float] = deque(maxlen=RECENT)
        self.tally = Tally()
        self.slices = _Slices(store)
        self.followed = _Followed(store, self.done)
        self.pause, self.due = FIRST, 0.0
        self.paint()

    def see(self, event: Event) -> None:
        now = time.monotonic()
        self.tally.see(event)
        self.events += 1
        match event:
            case BlockDone():
                receipt = event.receipt
                self.done[receipt.block] = True
                self.committed += 1
                self.failed.discard(receipt.block)
                self.recent.append(now)
                self.heard[receipt.worker] = receipt.device
                self.followed.add(receipt.block)
            case BlockFailed():
                self.failed.add(event.block)
            case MoreWanted():
                self.needed = event.blocks
            case TileSettled():
                self.slices.settled(event.tile, event.batches)
            case SweepDone():
                short = "out of budget" if event.ended else "stopped"
                self.paint("failed" if event.failed else short if event.missing else "done")
        if (now >= self.due or self.events >= self.at_most) and not self.end:
            self.paint()

    def paint(self, end: str = "") -> None:
        now = time.monotonic()
        self.end, self.due, self.events = end, now + self.pause, 0
        if end != "stopped":  # then there is no time
            self.followed.read(ADVANCE + SHARE * (now - self.begun) + AT_END * bool(end))
        self.pause = min(LONGEST, GROWTH * self.pause)
        rate = self._rate(now)
        under_way = self.tally.under_way
        left = (self.needed - self.committed - len(self.failed) - under_way) / rate if rate else None
        self.put(
            Board(
                name=self.store.sweep.name,
                store=self.store.url,
                time=round(time.time(), 1),
                elapsed=round(now - self.begun, 1),
                done=self.committed,
                needed=self.needed,
                failed=len(self.failed),
                rate=_rounded(rate),
                left=_rounded(left),
                workers=self.workers,
                devices=dict(Counter(self.heard.values())),
                slices=self.slices.count(self.done),
                estimates=self.followed.estimates(),
                end=end,
                under_way=round(under_way, 4),
            ).line()
        )

    def _rate(self, now: float) -> float | None:
        """Of the last RECENT blocks; until there are so many, of all."""
        if len(self.recent) < RECENT or now <= self.recent[0]:
            return self.tally.rate
        return (RECENT - 1) / (now - self.recent[0])


class _Slices:
    """The parts of a sweep whose progress is told: values of `track.by`, else of the first axis, at most SLICES."""

    def __init__(self, store: ZarrStore) -> None:
        sweep, self.cut = store.sweep, store.plan
        name = sweep.track.by or next(iter(sweep.axes))
        axis, values = list(sweep.axes).index(name), sweep.axes[name]
        bounds = np.unique(np.linspace(0, len(values), min(len(values), SLICES) + 1).round().astype(int))
        groups = list(pairwise(bounds))
        self.names = [
            f"{name}={values[a]}" if b - a == 1 else f"{name}={values[a]} to {values[b - 1]}" for a, b in groups
        ]
        self.tiles = [self._touched(axis, a, b) for a, b in groups]
        until = sweep.until
        least = first_look(until, sweep.draws_per_batch, sweep.batches) if until else sweep.batches
        self.wanted = np.full(self.cut.tiles, least)

    def _touched(self, axis: int, first: int, last: int) -> np.ndarray:
        """Numbers of the tiles with points at positions [first, last) along an axis."""
        numbers, found = np.arange(len(self.cut)), []
        for index, piece in enumerate(self.cut.pieces):
            a, b = (min(max(i - piece.origin[axis], 0), piece.shape[axis]) for i in (first, last))
            if a < b:
                step = piece.tile[axis]
                found.append(self.cut.grid(numbers, index)[0].take(np.arange(a // step, (b - 1) // step + 1), axis))
        return np.concatenate([tiles.ravel() for tiles in found])

    def settled(self, tile: int, batches: int) -> None:
        self.wanted[tile] = batches

    def count(self, done: np.ndarray) -> tuple[tuple[str, int, int], ...]:
        """(name, blocks done, blocks needed); a block counts for every group that it touches."""
        each = done.reshape(self.cut.batches, -1).sum(axis=0)
        wanted = np.maximum(each, self.wanted)
        return tuple(
            (name, int(each[tiles].sum()), int(wanted[tiles].sum()))
            for name, tiles in zip(self.names, self.tiles, strict=True)
        )


@dataclass
class _Followed:
    """A few points, evenly spaced over the grid, and what is known of them from the blocks read back."""

    store: ZarrStore
    done: np.ndarray
    spent: float = 0.0  # seconds, reading
    waiting: deque[int] = field(default_factory=deque)
    held: dict[tuple[int, str], Moments] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sweep, self.cut = self.store.sweep, self.store.plan
        places = np.unique(np.linspace(0, sweep.size - 1, min(POINTS, sweep.size)).round().astype(np.int64))
        self.points = [tuple(int(i) for i in np.unravel_index(p, sweep.shape)) for p in places]
        self.tiles = {int(tile) for tile in self.cut.tiles_of(np.array(self.points))}
        indices = (b * self.cut.tiles + tile for b in range(self.cut.batches) for tile in sorted(self.tiles))
        self.waiting.extend(i for i in indices if self.done[i])

    def add(self, index: int) -> None:
        if index % self.cut.tiles in self.tiles:
            self.waiting.append(index)

    def read(self, allowed: float) -> None:
        """Read what waits, until so many seconds were spent in all."""
        while self.waiting and self.spent < allowed:
            start = time.monotonic()
            block = self.cut[self.waiting.popleft()]
            try:
                arrays = self.store.read(block)
            except StoreError:
                arrays = {}  # somebody removed it; verify tells
            for number, point in enumerate(self.points):
                inside = all(a <= i < b for i, a, b in zip(point, block.starts, block.stops, strict=True))
                for name in self._outcomes() if inside and arrays else ():
                    self._merge(number, name, arrays[name][tuple(np.subtract(point, block.starts))])
            self.spent += time.monotonic() - start

    def _outcomes(self) -> list[str]:
        return [outcome.name for outcome in self.store.sweep.definition.outcomes]

    def _merge(self, number: int, name: str, stacked: np.ndarray) -> None:
        """Of an outcome's own dimensions, the last place: the last layer, the last step."""
        fresh = Moments.unstack(stacked.reshape(-1, stacked.shape[-1])[-1])
        before = self.held.get((number, name))
        self.held[number, name] = before.merge(fresh) if before else fresh

    def estimates(self) -> dict[str, tuple[Estimate, ...]]:
        outcomes = self.store.sweep.definition.outcomes
        return {o.name: tuple(self._estimates(o)) for o in outcomes}

    def _estimates(self, outcome: Outcome) -> Iterator[Estimate]:
        for number, point in enumerate(self.points):
            m = self.held.get((number, outcome.name))
            if m is not None:
                low, high = interval(m, outcome.kind, CONFIDENCE)
                yield Estimate(self._label(point, outcome), *map(_rounded, (m.mean, low, high)), draws=int(m.n))

    def _label(self, point: tuple[int, ...], outcome: Outcome) -> str:
        sweep = self.store.sweep
        place = {name: values[i] for (name, values), i in zip(sweep.axes.items(), point, strict=True)}
        last = {d.name: d.start + n - 1 for d, n in zip(outcome.dims, lengths(sweep, outcome), strict=True)}
        return ", ".join(f"{name}={value}" for name, value in {**place, **last}.items())


def _rounded(value: Any) -> float | None:
    return float(f"{float(value):.6g}") if value is not None and np.isfinite(value) else None
