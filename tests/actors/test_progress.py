"""How far a block is, asked of a real worker while it measures: heard of, good for a longer life, and good for nothing
else."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from actors import limits
from actors.limits import GLANCE, Limits, Pace
from actors.ray_pool import RayPool
from actors.worker import Worker
from storage.zarr_store import ZarrStore
from sweeps import progress
from sweeps.events import BlockDone, BlockProgress, Event, Notice, NoWorker, SweepDone
from sweeps.run import run
from sweeps.sweep import Sweep
from tests.actors.conftest import faulty, undisturbed


def long(seconds: float, values: int = 1) -> Sweep:
    """Blocks of one draw that take so long."""
    return Sweep.of({"name": "long", "statistic": "faulty", "draws": 1, "draws_per_batch": 1,
                     "axes": {"value": list(range(values))}, "fixed": {"seconds": seconds}})  # fmt: skip


@pytest.fixture
def curious(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that asks soon and often."""
    monkeypatch.setattr(limits, "GLANCE", 0.5)


def shares(events: list[Event]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for event in events:
        if isinstance(event, BlockProgress):
            found.setdefault(event.block, []).append(event.share)
    return found


class TestWorker:
    def test_it_knows_how_far_its_block_is(self, new_store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(progress, "PAUSE", 0.0)
        store = new_store(long(0.15, values=2))
        worker, seen = Worker(store, "cpu"), []
        monkeypatch.setattr(progress.time, "sleep", lambda _: seen.append(worker.progress()))
        worker.lease(list(store.plan), 60.0)
        assert {p.block for p in seen} == {0, 1}
        for block in (0, 1):
            told = [p.share for p in seen if p.block == block]
            assert told == sorted(told)
            assert 0 <= told[0] < told[-1] < 1

    def test_nothing_is_known_of_a_block_that_has_not_told_yet(self, new_store) -> None:
        store = new_store(faulty())
        worker = Worker(store, "cpu")
        worker.under_way = BlockProgress(0, 0.5)
        worker.lease(list(store.plan)[1:2], 60.0)
        assert worker.progress() is None


def test_larger_pools_are_asked_more_seldom() -> None:
    assert [Pace(n).glance for n in (1, 50, 200)] == [GLANCE, 5.0, 20.0]


class SignedWorker(Worker):
    """Leaves its pid beside the store, unless one was killed."""

    def ping(self) -> str:
        there = Path(self.store.url).with_name  # type: ignore[attr-defined]
        if not there("killed").exists():
            there("pid").write_text(str(os.getpid()))
        return super().ping()


class SignedPool(RayPool):
    kind = SignedWorker


@pytest.mark.cluster
class TestPool:
    def test_blocks_that_take_long_are_heard_of_and_short_ones_are_not(
        self, three_raylets: Cluster, new_store, tmp_path: Path, curious: None
    ) -> None:
        sweep = long(3.0, values=2)
        store = new_store(sweep)
        events = list(run(store, RayPool(2, "cpu")))
        told = shares(events)
        assert set(told) == {0, 1}
        for each in told.values():
            assert each == sorted(each)
            assert 0 < each[-1] < 1
        ends = {e.receipt.block: i for i, e in enumerate(events) if isinstance(e, BlockDone)}
        assert all(i < ends[e.block] for i, e in enumerate(events) if isinstance(e, BlockProgress))
        assert events[-1] == SweepDone(2)
        assert store.content_hash() == undisturbed(sweep, tmp_path)
        assert shares(list(run(ZarrStore.create(str(tmp_path / "b.zarr"), faulty()), RayPool(2, "cpu")))) == {}

    def test_a_worker_that_gets_on_is_not_fenced(self, three_raylets: Cluster, new_store, curious: None) -> None:
        store = new_store(long(9.0))
        events = list(run(store, RayPool(1, "cpu", Limits(quiet=3.0, starting=3.0))))
        assert [e.text for e in events if isinstance(e, Notice) and not isinstance(e, NoWorker)] == []
        assert len(store.lines()) == 1
        assert events[-1] == SweepDone(1)

    def test_a_lost_block_begins_again(self, three_raylets: Cluster, new_store, tmp_path: Path, curious: None) -> None:
        """Its worker is killed where half of it is done."""
        sweep = long(3.0)
        store, seen, pid = new_store(sweep), [], tmp_path / "pid"
        for event in run(store, SignedPool(1, "cpu")):
            seen.append(event)
            if isinstance(event, BlockProgress) and event.share > 0.4 and pid.exists():
                os.kill(int(pid.rename(tmp_path / "killed").read_text()), signal.SIGKILL)
        [told] = shares(seen).values()
        lost = told.index(0.0)
        assert told[lost - 1] > 0.4
        assert told[:lost] == sorted(told[:lost])
        assert told[lost:] == sorted(told[lost:])
        assert seen[-1] == SweepDone(1)
        assert store.content_hash() == undisturbed(sweep, tmp_path)
