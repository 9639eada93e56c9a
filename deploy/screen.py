"""Events -> the screen: a bar with rate, ETA and failures on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sweeps.events import BlockDone, BlockFailed, Event, Notice, SweepDone, SweepStarted

LINE_EVERY = 10.0  # seconds between progress lines in a log


def show(events: Iterable[Event], name: str, console: Console) -> Iterator[Event]:
    """Draw every event and pass it on."""
    yield from (_bar if console.is_terminal else _lines)(events, name, console)


def _bar(events: Iterable[Event], name: str, console: Console) -> Iterator[Event]:
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("blocks"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[red]{task.fields[trouble]}"),
        console=console,
    )
    task = progress.add_task(name, total=None, rate="", trouble="")
    started, done, failed = time.monotonic(), 0, 0
    with progress:
        for event in events:
            match event:
                case SweepStarted():
                    progress.console.print(_opening(event))
                    progress.update(task, total=event.blocks, completed=event.done)
                    started = time.monotonic()
                case BlockDone():
                    done += 1
                    rate = f"{done / max(1e-9, time.monotonic() - started):.2f}/s"
                    progress.update(task, advance=1, rate=rate)
                case BlockFailed():
                    failed += 1
                    progress.update(task, trouble=f"{failed} failed")
                    progress.console.print(_failure(event), style="red")
                case Notice():
                    progress.console.print(event.text, style="yellow")
            yield event


def _lines(events: Iterable[Event], name: str, console: Console) -> Iterator[Event]:
    begun = last = time.monotonic()
    total = before = done = failed = 0
    for event in events:
        now = time.monotonic()
        match event:
            case SweepStarted():
                total, before, begun, last = event.blocks, event.done, now, now
                _plain(console, f"{name}: {_opening(event)}")
            case BlockDone():
                done += 1
                if now - last >= LINE_EVERY:
                    last, rate = now, done / (now - begun)
                    left = (total - before - done - failed) / rate
                    _plain(
                        console,
                        f"{name}: {before + done}/{total} blocks, {rate:.2f}/s, {duration(left)} left"
                        + (f", {failed} failed" if failed else ""),
                    )
            case BlockFailed():
                failed += 1
                _plain(console, f"{name}: {_failure(event)}")
            case Notice():
                _plain(console, f"{name}: {event.text}")
            case SweepDone():
                _plain(console, f"{name}: {event.done}/{total} blocks done in {duration(now - begun)}")
        yield event


def _plain(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _opening(event: SweepStarted) -> str:
    if event.done == event.blocks:
        return f"all {event.blocks} blocks are done already"
    resumed = f", {event.done} done already" if event.done else ""
    return f"{event.blocks} blocks{resumed}; {event.workers}"


def _failure(event: BlockFailed) -> str:
    return f"block {event.block} failed after {event.attempts} attempt{'s' * (event.attempts > 1)}: {event.error}"


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
