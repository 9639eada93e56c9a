"""The actor: one device, one thread. It measures the blocks it is leased, writes them, and returns a report.

A second thread does nothing but answer how far the block under way is.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps import logs
from sweeps.blocks import Block, points_of
from sweeps.devices import describe, resolve
from sweeps.errors import LaunchMemoryError, StoreError, in_one_line
from sweeps.events import BlockProgress, Receipt
from sweeps.progress import told
from sweeps.run import Store, perform
from sweeps.sweep import Sweep

log = logging.getLogger(__name__)

BESIDE = "beside"  # Ray's concurrency group of what is answered while a block is measured
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}


@dataclass(frozen=True)
class Raised:
    """What a block raised, in one line; `final` where trying again cannot help."""

    error: str
    final: bool = False


@dataclass(frozen=True)
class Report:
    """What became of a lease: `results` of its first blocks, in order; the others were not begun.

    `seconds` is what they took together, `ratio` the greatest of measured to modelled seconds of a block, `resident`
    the worker's memory in bytes (0: unknown), `store_error` why the store ended it, if it did.
    """

    results: list[Receipt | Raised]
    seconds: float
    ratio: float
    resident: int
    store_error: str = ""


class Worker:
    """Made a Ray actor by the pool. A block leased twice gives the same bytes twice."""

    def __init__(self, store: Store, device: str) -> None:
        logs.inherit()
        self.store, self.device = store, device
        self.under_way: BlockProgress | None = None

    def lease(
        self,
        blocks: Sequence[Block],
        seconds: float,
        doubtful: Collection[int] = (),
        attempts: Mapping[int, int] | None = None,
    ) -> Report:
        """Measure blocks in order until `seconds` are over, at least one. Those whose index is among the `doubtful`
        may be in the store already, and are then not measured again. `attempts` numbers those that are no first ones,
        for the log."""
        start, results, store_error = time.perf_counter(), [], ""
        for block in blocks:
            try:
                with logs.context(block=block.index, attempt=(attempts or {}).get(block.index, 1)):
                    results.append(self._result(block, block.index in doubtful))
            except StoreError as error:
                store_error = str(error)
                break
            if time.perf_counter() - start >= seconds:
                break
        pairs = [(block, r) for block, r in zip(blocks, results, strict=False) if isinstance(r, Receipt)]
        ratio = max(((r.seconds + r.writing) / modelled(self.store.sweep, block) for block, r in pairs), default=0.0)
        return Report(results, time.perf_counter() - start, ratio, resident(), store_error)

    def _result(self, block: Block, doubtful: bool) -> Receipt | Raised:
        self.under_way = None
        try:
            found = self.store.receipt(block) if doubtful else None
            with told(self._hear):
                receipt = found or perform(block, self.store, resolve(self.device))
            log.info("block done", extra={"fields": {"seconds": round(receipt.seconds, 4)}})
            return receipt
        except StoreError as error:
            log.error("the store ends it: %s", error)
            raise
        except Exception as error:
            log.info("block raised %s", in_one_line(error))
            return Raised(in_one_line(error), final=isinstance(error, LaunchMemoryError))

    def _hear(self, progress: BlockProgress) -> None:
        self.under_way = progress

    def progress(self) -> BlockProgress | None:
        """How far the block under way is, as far as it tells."""
        return self.under_way

    def ping(self) -> str:
        """What this worker is, once it is up; also how a lost one is known to be back."""
        return describe(resolve(self.device))

    def facts(self) -> dict[str, Any]:
        """Where this worker runs and what it sees."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        threads = {name: os.environ.get(name) for name in THREADS}
        return {"pid": os.getpid(), "device": self.device, "visible": visible, "threads": threads}


def modelled(sweep: Sweep, block: Block) -> float:
    """Seconds of a block by the statistic's cost model, all its points taken to be as dear as the dearer end."""
    points, statistic = points_of(sweep, block), sweep.definition
    cost = max(statistic.cost(statistic.parameters(**points.point(i))) for i in (0, -1))
    return max(cost, 1e-12) * len(points) * sweep.draws_per_batch


def resident() -> int:
    """Resident memory of this process in bytes; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0
