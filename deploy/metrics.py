"""Counters of a running sweep for Ray's metrics: on each node's Prometheus endpoint, and in deploy/grafana.

Tagged by sweep and job, never by point: a sweep of a million points is as many time series as one of ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from storage.zarr_store import ZarrStore
from sweeps.events import BlockDone, BlockFailed, Event, MoreWanted, SweepStarted

TAGS = ("sweep", "submission_id")
PREFIX = "ray_"  # what Ray puts before a name


@dataclass(frozen=True)
class Metric:
    name: str
    kind: str  # counter or gauge
    description: str

    @property
    def exported(self) -> str:
        """The name that Prometheus sees."""
        return f"{PREFIX}{self.name}{'_total' * (self.kind == 'counter')}"


DONE = Metric("sweeps_blocks_done", "counter", "blocks committed by this driver's workers")
FAILED = Metric("sweeps_blocks_failed", "counter", "blocks given up")
DRAWS = Metric("sweeps_draws", "counter", "random networks measured")
SECONDS = Metric("sweeps_worker_seconds", "counter", "seconds that workers spent measuring and storing blocks")
NEEDED = Metric("sweeps_blocks_needed", "gauge", "blocks of the sweep, done or not")
COMMITTED = Metric("sweeps_blocks_committed", "gauge", "blocks in the store")
METRICS = (DONE, FAILED, DRAWS, SECONDS, NEEDED, COMMITTED)


def meter(events: Iterable[Event], store: ZarrStore, submission_id: str) -> Iterator[Event]:
    """Count events in Ray's metrics and pass them on; without Ray they are just passed on."""
    meters: _Meters | None = None
    for event in events:
        if isinstance(event, SweepStarted):
            meters = _Meters.of(store, submission_id, event)
        elif meters is not None:
            meters.see(event)
        yield event


class _Meters:
    def __init__(self, store: ZarrStore, submission_id: str, started: SweepStarted) -> None:
        from ray.util.metrics import Counter, Gauge

        self.cut, self.draws = store.plan, store.sweep.draws_per_batch
        tags = {"sweep": store.sweep.name, "submission_id": submission_id}
        kinds = {"counter": Counter, "gauge": Gauge}
        self.by = {m: kinds[m.kind](m.name, m.description, tag_keys=TAGS) for m in METRICS}
        for instrument in self.by.values():
            instrument.set_default_tags(tags)
        self.needed, self.committed = started.blocks, started.done
        self._gauge()

    @classmethod
    def of(cls, store: ZarrStore, submission_id: str, started: SweepStarted) -> _Meters | None:
        import ray

        return cls(store, submission_id, started) if ray.is_initialized() else None

    def see(self, event: Event) -> None:
        if isinstance(event, BlockDone):
            receipt = event.receipt
            self.by[DONE].inc(1)
            self.by[DRAWS].inc(self.cut[receipt.block].points * self.draws)
            self.by[SECONDS].inc(max(receipt.seconds + receipt.writing, 1e-9))
            self.committed += 1
        elif isinstance(event, BlockFailed):
            self.by[FAILED].inc(1)
        elif isinstance(event, MoreWanted):
            self.needed = event.blocks
        self._gauge()

    def _gauge(self) -> None:
        """Again and again: Ray forgets a gauge that is not set for a while."""
        self.by[NEEDED].set(self.needed)
        self.by[COMMITTED].set(self.committed)
