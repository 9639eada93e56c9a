"""Log records that say which sweep, block and attempt they are about, as lines for people or as JSON.

`about(sweep=..., submission_id=...)` is said once a process, and goes along to its workers; `context(block=3,
attempt=1)` holds for what is logged within; a record may add fields of its own with `extra={"fields": {...}}`.
Passwords and tokens of the environment, and those within URLs, are cut out of every line.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from sweeps.errors import in_one_line

ROOMS = ("sweeps", "actors", "storage", "deploy")
PLAIN, JSON = "plain", "json"
FORMAT, FIELDS = "SWEEPS_LOG_FORMAT", "SWEEPS_LOG_FIELDS"
SECRET_NAMES = re.compile(r"(PASSWORD|TOKEN|SECRET_ACCESS_KEY|ACCESS_KEY_ID)$")
IN_URL = re.compile(r"(?<=://)[^/\s'\"]*@")

_process: dict[str, Any] = {}
_context: ContextVar[tuple[tuple[str, Any], ...]] = ContextVar("_context", default=())


def about(**fields: Any) -> None:
    """Fields of every record of this process from now on, in place of those before."""
    _process.clear()
    _process.update({name: value for name, value in fields.items() if value})


@contextmanager
def context(**fields: Any) -> Iterator[None]:
    """Fields of every record in here."""
    token = _context.set((*_context.get(), *fields.items()))
    try:
        yield
    finally:
        _context.reset(token)


def chosen() -> str:
    return JSON if os.environ.get(FORMAT) == JSON else PLAIN


def set_up(stream: str = "stderr") -> None:
    """Have this process's records written as chosen: warnings and worse for people; as JSON, all that happens."""
    handler = _Handler(stream)
    handler.setFormatter(Objects() if chosen() == JSON else Lines())
    for room in ROOMS:
        logger = logging.getLogger(room)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO if chosen() == JSON else logging.WARNING)


def environment() -> dict[str, str]:
    """What a worker's process is started with, for `inherit`."""
    return {FORMAT: chosen(), FIELDS: json.dumps(_process)}


def inherit() -> None:
    """Log as the process that started this one, if that said how."""
    if FIELDS in os.environ:
        about(**json.loads(os.environ[FIELDS]))
        set_up()


def without_secrets(text: str) -> str:
    """What nobody may read in a log, cut out."""
    for name, value in os.environ.items():
        if len(value) > 3 and SECRET_NAMES.search(name):
            text = text.replace(value, "***")
    return IN_URL.sub("", text)


def message(line: str) -> str:
    """What a line of JSON of ours says; any other line as it is."""
    try:
        return str(json.loads(line)["message"])
    except (ValueError, KeyError, TypeError):
        return line


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {**_process, **dict(_context.get()), **getattr(record, "fields", {})}


class Lines(logging.Formatter):
    """`warning: sweeps.x is not used (sweep angles, block 3, attempt 2)`."""

    def format(self, record: logging.LogRecord) -> str:
        known = ", ".join(f"{k} {v}" for k, v in _fields(record).items())
        return without_secrets(f"{record.levelname.lower()}: {record.getMessage()}{f' ({known})' if known else ''}")


class Objects(logging.Formatter):
    """One JSON object a line: time, level, logger and message, then the fields; an exception in one line."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {"time": when, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[1]:
            said["exception"] = in_one_line(record.exc_info[1])
        clean = {k: without_secrets(v) if isinstance(v, str) else v for k, v in {**said, **_fields(record)}.items()}
        return json.dumps(clean, default=str, ensure_ascii=False)


class _Handler(logging.StreamHandler):
    """Writes to what is standard output or error at the time."""

    def __init__(self, name: str) -> None:
        logging.Handler.__init__(self)
        self.place = name

    @property
    def stream(self) -> Any:  # type: ignore[override]
        return getattr(sys, self.place)
