"""Ray clusters that are started here listen on 127.0.0.1 alone.

On Linux Ray takes the machine's address, and half of its servers all addresses. What makes it keep to loopback is what
it does on a Mac by itself: `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0`. Other machines cannot join such a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE, CONSTANT = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "ENABLE_RAY_CLUSTER"
ON_LOOPBACK = {VARIABLE: "0"}


@contextmanager
def on_loopback() -> Iterator[None]:
    """For a cluster of this process, whose Ray has read the variable already; its children read it again."""
    from ray._private import ray_constants

    constant, before = getattr(ray_constants, CONSTANT), os.environ.get(VARIABLE)
    os.environ.update(ON_LOOPBACK)
    setattr(ray_constants, CONSTANT, False)
    try:
        yield
    finally:
        setattr(ray_constants, CONSTANT, constant)
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
