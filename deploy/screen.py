"""Events -> the screen: a bar with rate, ETA and failures on a terminal, plain lines in a log."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.said import record
from sweeps import logs
from sweeps.events import BlockDone, BlockFailed, BlockProgress, Event, MoreWanted, Notice, SweepDone, SweepStarted
from sweeps.progress import heard

LINE_EVERY = 10.0  # seconds between progress lines in a log
LOG_WIDTH = 160


class _Patient(Console):
    """Goes on without a screen where the reader of a pipe has left: the sweep matters, not its lines."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_console() -> Console:
    """The terminal; or, for a log or a pipe, a width that cuts no table."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return _Patient() if terminal else _Patient(width=LOG_WIDTH)


@dataclass
class Tally:
    """Counts of a running sweep; blocks under way count by their share. The rate is counted from the first block on, or
    from where the first ones under way are first heard of: before that, workers start and compile."""

    total: int = 0
    before: int = 0
    done: int = 0
    failed: int = 0
    begun: float = field(default_factory=time.monotonic)
    shares: dict[int, float] = field(default_factory=dict)
    since: float = math.inf
    at_first: float = 0.0

    def see(self, event: Event) -> None:
        match event:
            case SweepStarted():
                self.total, self.before, self.begun = event.blocks, event.done, time.monotonic()
            case MoreWanted():
                self.total = event.blocks
            case BlockProgress():
                is_new = event.block not in self.shares
                self.shares[event.block] = event.share
                if is_new and not self.done:
                    self.since, self.at_first = time.monotonic(), self.measured
            case BlockDone():
                self.shares.pop(event.receipt.block, None)
                self.done += 1
                if self.since == math.inf:
                    self.since, self.at_first = time.monotonic(), self.measured
            case BlockFailed():
                self.shares.pop(event.block, None)
                self.failed += 1

    @property
    def under_way(self) -> float:
        return sum(self.shares.values())

    @property
    def measured(self) -> float:
        """Blocks of this run."""
        return self.done + self.under_way

    @property
    def rate(self) -> float | None:
        """Blocks a second, once there is something to go by."""
        seconds, blocks = time.monotonic() - self.since, self.measured - self.at_first
        return blocks / seconds if seconds > 0 and blocks > 0 else None

    @property
    def count(self) -> str:
        return counted(self.before + self.done, self.under_way, self.total)

    @property
    def pace(self) -> str:
        rate = self.rate
        return pace(rate, (self.total - self.before - self.measured - self.failed) / rate if rate else None)

    @property
    def trouble(self) -> str:
        return f", {self.failed} failed" if self.failed else ""


def show(events: Iterable[Event], name: str, console: Console) -> Iterator[Event]:
    """Draw every event, or log it where JSON was chosen, and pass it on."""
    if logs.chosen() == logs.JSON:
        yield from record(events, name)
    else:
        yield from (_bar if console.is_terminal else _lines)(events, name, console)


def _bar(events: Iterable[Event], name: str, console: Console) -> Iterator[Event]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tally = Tally()
    with Progress(*columns, TextColumn("{task.fields[pace]}", markup=False), console=console) as progress:
        task = progress.add_task(name, total=None, pace="starting")

        def draw(event: Event) -> None:
            tally.see(event)
            for line in _said(event):
                _plain(progress.console, line)
            measured = tally.before + tally.measured
            progress.update(task, total=tally.total, completed=measured, pace=tally.pace + tally.trouble)

        for event in heard(events, draw):
            draw(event)
            yield event


def _lines(events: Iterable[Event], name: str, console: Console) -> Iterator[Event]:
    tally, last = Tally(), time.monotonic()

    def draw(event: Event) -> None:
        nonlocal last
        tally.see(event)
        for line in _said(event):
            _plain(console, f"{name}: {line}")
        now = time.monotonic()
        if isinstance(event, BlockDone | BlockProgress) and now - last >= LINE_EVERY:
            last = now
            _plain(console, f"{name}: {tally.count}, {tally.pace}{tally.trouble}")
        if isinstance(event, SweepDone):
            _plain(console, f"{name}: {event.done}/{tally.total} blocks done in {duration(now - tally.begun)}")

    for event in heard(events, draw):
        draw(event)
        yield event


def _said(event: Event) -> list[str]:
    match event:
        case SweepStarted():
            return [_opening(event)]
        case BlockFailed():
            return [_failure(event)]
        case Notice():
            return [event.text]
    return []


def _plain(console: Console, text: str) -> None:
    console.print(logs.without_secrets(text), markup=False, highlight=False, soft_wrap=True)


def _opening(event: SweepStarted) -> str:
    if event.done == event.blocks:
        return f"all {event.blocks} blocks are done already"
    resumed = f", {event.done} done already" if event.done else ""
    return f"{event.blocks} blocks{resumed}; {event.workers}"


def _failure(event: BlockFailed) -> str:
    return f"block {event.block} failed after {event.attempts} attempt{'s' * (event.attempts > 1)}: {event.error}"


def counted(done: int, under_way: float, total: int) -> str:
    """`3/24 blocks`, or `3.40/24 blocks` where some are heard of that are under way."""
    return f"{f'{done + under_way:.2f}' if under_way else done}/{total} blocks"


def pace(rate: float | None, left: float | None) -> str:
    """`2.31 blocks/s, 3 min 20 s left`, once there is something to go by."""
    if rate is None or left is None:
        return "starting"
    return f"{rate:{'.3g' if rate < 100 else '.0f'}} blocks/s, {duration(left)} left"


def duration(seconds: float) -> str:
    """`47 s`, `3 min 20 s`, `5 h 12 min`, `3 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: float) -> str:
    """`76.8 kB`."""
    unit = min(4, int(math.log(max(1, count), 1000)))
    return f"{count / 1000**unit:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[unit]}"
