"""A Ray cluster to work on: one of our own on this machine, or one that is there already."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import ray

from sweeps.errors import RefusedError


@contextlib.contextmanager
def cluster(address: str | None = None, workers: int | None = None) -> Iterator[None]:
    """Connect this process to Ray, and let go at the end. No address: a cluster of our own, on loopback, token on.

    Raises:
        RefusedError: nothing answers at the address.
    """
    try:
        if address is None:
            ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RefusedError(f"no Ray cluster at {address or 'local'!r}: {reason}") from None
    try:
        yield
    finally:
        ray.shutdown()
