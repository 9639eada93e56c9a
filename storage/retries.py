"""Patience with a remote store: what is tried again, for how long, and with which pauses.

obstore repeats by itself, inside one call, what it knows to be harmless: reads and whole-object puts that were
refused, reset, cut or timed out, and whatever was answered 5xx, 408 or 429. Creating, deleting, a list cut in the
middle and the ends of a multipart upload it does not repeat; `patiently` does. Both give up PATIENCE seconds after the
first failure. Nothing here applies to a local path: what fails there will fail again.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread
from typing import Any, TypeVar

from obstore.exceptions import BaseError

PATIENCE = 240.0  # seconds; S3 takes a signature for 15 minutes, obstore advises less than 5
TIMEOUT = 60.0  # seconds of one request, body and answer
CONNECT = 5.0  # seconds
FIRST, LONGEST = 0.1, 15.0  # seconds of pause
GROWTH = 4  # obstore draws a pause from [FIRST, GROWTH x the last one]; at its default of 2 they do not grow at all

T = TypeVar("T")


@contextmanager
def impatient(seconds: float) -> Iterator[None]:
    """Stores that are opened in here, and what is asked of them, give up after that; for a process that only looks."""
    global PATIENCE
    before, PATIENCE = PATIENCE, seconds
    try:
        yield
    finally:
        PATIENCE = before


class AgainError(OSError):
    """Raised by an attempt that should be made again."""


def options() -> dict[str, Any]:
    """What every remote store is opened with."""
    backoff = {"init_backoff": timedelta(seconds=FIRST), "max_backoff": timedelta(seconds=LONGEST), "base": GROWTH}
    return {
        "client_options": {"timeout": timedelta(seconds=TIMEOUT), "connect_timeout": timedelta(seconds=CONNECT)},
        "retry_config": {"max_retries": 10**6, "retry_timeout": timedelta(seconds=PATIENCE), "backoff": backoff},
    }


def transient(error: Exception) -> bool:
    """Whether trying again may help; obstore says what happened in its text alone."""
    if isinstance(error, AgainError):
        return True
    text = str(error)
    if "NoSuchUpload" in text:  # its end was done, and the answer lost: upload again
        return isinstance(error, BaseError | FileNotFoundError)
    if not isinstance(error, BaseError):
        return False
    status = re.search(r"status code: (\d{3})", text)
    if status is None:
        return "HTTP error: " in text and "builder error" not in text
    return status[1][0] == "5" or status[1] in ("408", "409", "429") or "<Code>RequestTimeout</Code>" in text


class Patience:
    """How long to wait after each failure of one thing; at the end of it, the failure itself."""

    def __init__(self) -> None:
        self.end, self.pause = time.monotonic() + PATIENCE, FIRST

    def after(self, error: Exception) -> float:
        """Seconds to wait before trying again.

        Raises:
            Exception: `error`, if trying again cannot help, or has been tried for long enough.
        """
        if not transient(error) or time.monotonic() >= self.end:
            raise error
        self.pause = min(2 * self.pause, LONGEST)
        return random.uniform(self.pause / 2, self.pause)


def patiently(call: Callable[[], T]) -> T:
    """Call until it succeeds, cannot succeed, or PATIENCE is over."""
    patience = Patience()
    while True:
        try:
            return call()
        except Exception as error:
            time.sleep(patience.after(error))


def aside(call: Callable[[], T]) -> Future[T]:
    """Call in a thread that nobody waits for at exit: Ctrl-C ends a sweep whose store does not answer."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=work, daemon=True).start()
    return future
