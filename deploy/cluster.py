"""A Ray cluster to work on: one of our own on this machine, or one that is there already."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import ray

from deploy import heads
from deploy.loopback import on_loopback
from sweeps.errors import RefusedError

ANSWER_SECONDS = 5.0
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


@contextlib.contextmanager
def cluster(address: str | None = None) -> Iterator[None]:
    """Connect this process to Ray, and let go at the end. No address: a cluster of our own, its token on, on loopback,
    and its files where nobody else can write: Ray's own /tmp/ray is open to all.

    Raises:
        RefusedError: nothing answers at the address.
    """
    try:
        if address is None:
            heads.ensure_token(os.environ)
            folder = None if os.environ.get("RAY_TMPDIR") else str(heads.own_folder() / heads.SESSIONS)
            with on_loopback():
                ray.init("local", _temp_dir=folder, include_dashboard=False, **QUIET)
        else:
            _knock(address)
            with on_loopback() if _is_on_loopback(address) else contextlib.nullcontext():
                ray.init(address, **QUIET)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RefusedError(f"no Ray cluster at {'local' if address is None else address!r}: {reason}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _is_on_loopback(address: str) -> bool:
    """Whether it is of a cluster on this machine's loopback, which Ray looks for elsewhere unless told."""
    there = [head.address for head in heads.heads()]
    wanted = os.environ.get("RAY_ADDRESS") or next(iter(there), "") if address == "auto" else address
    return wanted.startswith("127.0.0.1:") and wanted in there


def _knock(address: str) -> None:
    """Ray tries a silent address for minutes; see first whether anybody listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise ConnectionError(f"nobody listens there ({error})") from None
    elif address != "auto":
        raise ValueError("give host:port, ray://host:port, or auto")
