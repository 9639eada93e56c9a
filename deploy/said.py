"""What a command or a driver says: as lines for people, or, where that was chosen, as log records with fields."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

import typer

from sweeps import logs
from sweeps.events import BlockDone, BlockFailed, BlockProgress, Event, MoreWanted, Notice, SweepDone, SweepStarted
from sweeps.events import TileSettled as Settled
from sweeps.progress import heard

PROGRESS_EVERY = 10.0  # seconds between what is said of blocks under way

log = logging.getLogger("deploy")


def say(text: str, *, err: bool = False, level: int = logging.INFO, **fields: Any) -> None:
    """A line on standard output, or with `err` on standard error; as JSON, a record."""
    if logs.chosen() == logs.JSON:
        log.log(level, "%s", text, extra={"fields": fields})
    else:
        typer.echo(logs.without_secrets(text), err=err)


def record(events: Iterable[Event], name: str) -> Iterator[Event]:
    """Log every event and pass it on."""
    last = time.monotonic()

    def tell(event: Event) -> None:
        nonlocal last
        if isinstance(event, BlockProgress):
            if time.monotonic() - last < PROGRESS_EVERY:
                return
            last = time.monotonic()
        level, text, fields = _told(event)
        log.log(level, "%s", text, extra={"fields": {"sweep": name, "event": type(event).__name__, **fields}})

    for event in heard(events, tell):
        tell(event)
        yield event


def _told(event: Event) -> tuple[int, str, dict[str, Any]]:
    match event:
        case SweepStarted(fingerprint, blocks, done, workers):
            return (
                logging.INFO,
                "started",
                {
                    "fingerprint": fingerprint[:16],
                    "blocks": blocks,
                    "done": done,
                    "workers": workers,
                },
            )
        case BlockDone(receipt, attempt):
            took = {"seconds": round(receipt.seconds, 4), "writing": round(receipt.writing, 4)}
            where = {"worker": receipt.worker, "device": receipt.device}
            return logging.INFO, "block done", {"block": receipt.block, "attempt": attempt, **took, **where}
        case BlockFailed(block, attempts, error):
            return logging.ERROR, f"block failed: {error}", {"block": block, "attempt": attempts, "error": error}
        case BlockProgress(block, share):
            return logging.INFO, "block under way", {"block": block, "share": round(share, 4)}
        case Settled(tile, batches, points, narrow):
            counts = {"tile": tile, "batches": batches, "points": points, "narrow": narrow}
            return logging.INFO, "tile settled", counts
        case MoreWanted(blocks):
            return logging.INFO, "more blocks are wanted", {"blocks": blocks}
        case Notice(text):
            return logging.WARNING, text, {}
        case SweepDone(done, failed, missing, ended):
            counts = {"done": done, "failed": len(failed), "missing": missing, "ended": ended}
            return logging.ERROR if failed else logging.INFO, "sweep done", counts
    raise TypeError(f"no such event: {event!r}")
