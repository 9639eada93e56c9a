"""A running sweep on the screen, from its board: bars and estimates on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from deploy.board import Board, Estimate
from deploy.jobs import Job
from deploy.screen import counted, duration, pace
from sweeps.errors import RefusedError, unknown

EVERY = 1.5  # seconds between looks
LINE_EVERY = 10.0  # seconds between lines in a log
SILENCE = 120.0  # seconds that a dashboard may be away
BAR, ROOM = 36, 12  # width of a bar; lines of a screen that are not bars


def watch(job: Job, outcome: str | None, console: Console) -> int:
    """Show a job until it ends; the exit status of its sweep.

    Raises:
        UnknownNameError: the sweep has no such outcome.
        RefusedError: its cluster has been away for SILENCE.
    """
    looks, board = _looks(job), None
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            for job, board in looks:
                live.update(picture(job, board, outcome, max(1, console.height - ROOM)), refresh=True)
    else:
        due = 0.0
        for job, board in looks:
            if board is not None and not job.ended and time.monotonic() >= due:
                due = time.monotonic() + LINE_EVERY
                console.print(_line(board, outcome), markup=False, highlight=False, soft_wrap=True)
    for line in summary(job, board):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return job.exit or 0


def _looks(job: Job) -> Iterator[tuple[Job, Board | None]]:
    """(job, board) again and again, the last time when it has ended; a dashboard may be away for a while."""
    heard, board = time.monotonic(), None
    while True:
        try:
            job = job.fresh()
            board = job.board() or board
            heard = time.monotonic()
        except RefusedError:
            if time.monotonic() - heard > SILENCE:
                raise
        yield job, board
        if job.ended:
            return
        time.sleep(EVERY)


def picture(job: Job, board: Board | None, outcome: str | None, bars: int) -> RenderableType:
    """What a terminal shows: the whole, its slices, the estimates of an outcome."""
    if board is None:
        return Text(f"{job.id}: {job.status.lower()}, nothing from its driver yet")
    head = Table.grid(padding=(0, 2))
    head.add_row(f"[bold]{escape(board.name)}[/]", job.id, job.status.lower())
    whole = Table.grid(padding=(0, 2))
    bar = _bar(board.done + board.under_way, board.needed)
    whole.add_row("all", bar, f"{board.done}/{board.needed}", _pace(board, job))
    for name, done, needed in _fitting(board.slices, bars):
        whole.add_row(escape(name), _bar(done, needed), f"{done}/{needed}", "")
    parts: list[RenderableType] = [head, whole, Text(_workers(board))]
    if board.failed:
        parts.append(Text(f"{board.failed} blocks failed", style="bold red"))
    name, estimates = _chosen(board, outcome)
    if estimates:
        parts += [Text(), _estimates(name, estimates)]
    return Group(*parts)


def _fitting(slices: tuple[tuple[str, int, int], ...], bars: int) -> list[tuple[str, int, int]]:
    """The slices that are under way first, where a screen has no room for all."""
    if len(slices) <= bars:
        return list(slices)
    order = sorted(range(len(slices)), key=lambda i: (slices[i][1] == slices[i][2], -slices[i][1] / slices[i][2], i))
    shown = sorted(order[: bars - 1])
    rest = [slices[i] for i in range(len(slices)) if i not in shown]
    return [*(slices[i] for i in shown), (f"{len(rest)} more", sum(r[1] for r in rest), sum(r[2] for r in rest))]


def _bar(done: float, needed: int) -> ProgressBar:
    return ProgressBar(total=needed, completed=done, width=BAR)


def _pace(board: Board, job: Job) -> str:
    if job.ended or board.end:
        return f"{board.end or job.status.lower()} after {duration(board.elapsed)}"
    return pace(board.rate, board.left)


def _workers(board: Board) -> str:
    devices = ", ".join(f"{n} x {name}" for name, n in board.devices.items())
    age = max(0.0, time.time() - board.time)
    told = f"; told {duration(age)} ago" if age > 5 else ""
    return f"{board.workers}{f' ({devices})' if devices else ''}{told if not board.end else ''}"


def _chosen(board: Board, outcome: str | None) -> tuple[str, tuple[Estimate, ...]]:
    name = outcome or next(iter(board.estimates), "")
    if name and name not in board.estimates:
        raise unknown("outcome", name, board.estimates)
    return name, board.estimates.get(name, ())


def _estimates(name: str, estimates: tuple[Estimate, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("at")
    table.add_column(name, justify="right")
    table.add_column("95% interval", justify="left")
    table.add_column("draws", justify="right")
    for e in estimates:
        table.add_row(escape(e.at), _number(e.mean), _interval(e), str(e.draws))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _interval(e: Estimate) -> str:
    """`± 0.012`, or both ends where it is not even, as Wilson's."""
    if e.low is None or e.high is None or e.mean is None:
        return "-"
    half = (e.high - e.low) / 2
    even = abs((e.high + e.low) / 2 - e.mean) <= 0.02 * half
    return f"± {half:.2g}" if even else f"{e.low:.5g} to {e.high:.5g}"


def _line(board: Board, outcome: str | None) -> str:
    """`angle-width: 12/36 blocks, 2.1 blocks/s, 11 s left; cosine at width=16: 0.31 ± 0.02`."""
    failed = f", {board.failed} failed" if board.failed else ""
    name, estimates = _chosen(board, outcome)
    known = [e for e in estimates if e.mean is not None]
    shown = f"; {name} at {known[-1].at}: {_number(known[-1].mean)} {_interval(known[-1])}" if known else ""
    count = counted(board.done, board.under_way, board.needed)
    return f"{board.name}: {count}, {pace(board.rate, board.left)}{failed}{shown}"


def summary(job: Job, board: Board | None) -> list[str]:
    """How a job stands, in a few lines: for `status`, and at the end of `watch` and `stop`."""
    lines = [f"{job.id}: {job.status.lower()}, {job.name}"]
    if board is not None:
        failed = f", {board.failed} failed" if board.failed else ""
        told = "" if job.ended or board.rate is None else f", {pace(board.rate, board.left)}"
        lines.append(f"{board.done} of {board.needed} blocks are in {job.store}{failed}{told}")
    if job.ended and job.exit != 0:
        if job.exit not in (3, 4, 130):
            lines.append(f"see what went wrong with: sweeps logs {job.id}")
        lines.append(f"resume with: {job.again or 'deploy.submit(...) of the same sweep'}")
    return lines


def table(there: list[Job]) -> Table:
    """All sweeps of a cluster."""
    rows = Table("id", "sweep", "status", "submitted", "took", "store", box=None)
    for job in there:
        start, end = job.details.start_time, job.details.end_time
        began = datetime.fromtimestamp(start / 1000).strftime("%Y-%m-%d %H:%M:%S") if start else "-"
        took = duration(((end or time.time() * 1000) - start) / 1000) if start else "-"
        rows.add_row(job.id, escape(job.name), job.status.lower(), began, took, escape(job.store))
    return rows
