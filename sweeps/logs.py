"""Log records that say which sweep, block and attempt they are about, as lines for people or as JSON.

What is true of all that follows is said once, `with context(sweep="angles", block=3)`; a record may add fields of its own
with `extra={"fields": {...}}`. Passwords and tokens of the environment, and those within URLs, are cut out of every line.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from sweeps.errors import in_one_line

ROOMS = ("sweeps", "actors", "storage", "deploy")
PLAIN, JSON = "plain", "json"
VARIABLE = "SWEEPS_LOG_FORMAT"
SECRET_NAMES = re.compile(r"(PASSWORD|TOKEN|SECRET_ACCESS_KEY|ACCESS_KEY_ID)$")
IN_URL = re.compile(r"(?<=://)[^/\s'\"]*@")

_context: ContextVar[dict[str, Any]] = ContextVar("_context", default={})  # noqa: B039  (never changed in place)


@contextmanager
def context(**fields: Any) -> Iterator[None]:
    """Fields of every record in here."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def without_secrets(text: str) -> str:
    """What nobody may read in a log, cut out."""
    for name, value in os.environ.items():
        if len(value) > 3 and SECRET_NAMES.search(name):
            text = text.replace(value, "***")
    return IN_URL.sub("", text)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return {**_context.get(), **getattr(record, "fields", {})}


class Lines(logging.Formatter):
    """`warning: sweeps.x is not used (sweep angles, block 3, attempt 2)`."""

    def format(self, record: logging.LogRecord) -> str:
        about = ", ".join(f"{k} {v}" for k, v in fields_of(record).items())
        text = f"{record.levelname.lower()}: {record.getMessage()}{f' ({about})' if about else ''}"
        return without_secrets(text)


class Objects(logging.Formatter):
    """One JSON object a line: time, level, logger and message, then the fields; an exception in one line."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {"time": when, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[1]:
            said["exception"] = in_one_line(record.exc_info[1])
        return without_secrets(json.dumps({**said, **fields_of(record)}, default=str, ensure_ascii=False))


def chosen() -> str:
    return JSON if os.environ.get(VARIABLE) == JSON else PLAIN


def set_up(stream: TextIO | None = None) -> None:
    """Have this process's records written as chosen: warnings and worse for people, and as JSON what happens too."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Objects() if chosen() == JSON else Lines())
    for room in ROOMS:
        logger = logging.getLogger(room)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO if chosen() == JSON else logging.WARNING)
        logger.propagate = False
