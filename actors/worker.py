"""The actor: one device, one thread. It measures the blocks it is leased, writes them, and returns receipts."""

from __future__ import annotations

import os
from typing import Any

from sweeps.blocks import Block
from sweeps.devices import describe, resolve
from sweeps.events import Receipt
from sweeps.run import Store, perform

THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}


class Worker:
    """Made a Ray actor by the pool. A block leased twice gives the same bytes twice."""

    def __init__(self, store: Store, device: str) -> None:
        self.store, self.device = store, device

    def lease(self, block: Block) -> Receipt:
        return perform(block, self.store, resolve(self.device))

    def ping(self) -> str:
        """What this worker is, once it is up; also how a lost one is known to be back."""
        return describe(resolve(self.device))

    def facts(self) -> dict[str, Any]:
        """Where this worker runs and what it sees."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        threads = {name: os.environ.get(name) for name in THREADS}
        return {"pid": os.getpid(), "device": self.device, "visible": visible, "threads": threads}
