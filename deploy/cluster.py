"""A Ray cluster to work on: one of our own on this machine, or one that is there already."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import ray

from deploy import heads
from deploy.loopback import on_loopback
from sweeps.errors import RefusedError

ANSWER_SECONDS = 5.0
NODES_SECONDS = 180.0  # nodes of an allocation start at once, but not all as fast
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}

log = logging.getLogger(__name__)


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


def await_nodes(number: int, seconds: float = NODES_SECONDS) -> None:
    """Wait for nodes that can work; after `seconds` with those that have come."""
    deadline = time.monotonic() + seconds
    while (come := sum(map(_can_work, ray.nodes()))) < number:
        if time.monotonic() > deadline:
            log.warning("only %d of %d nodes have come in %.0f s; going on without the others", come, number, seconds)
            return
        time.sleep(0.2)


def _can_work(node: dict[str, Any]) -> bool:
    return node["Alive"] and any(node["Resources"].get(name) for name in ("CPU", "GPU"))


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
