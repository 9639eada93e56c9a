"""Sweeps that are disturbed: lost, wedged and worn workers, stores that fail, two drivers. No block is lost, none is
counted twice, and the bits are those of an undisturbed sweep."""

from __future__ import annotations

import os
import pickle
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from relu_sweeps_logged import LoggedStore

from actors.leases import Leases, Seat
from actors.limits import Limits
from actors.ray_pool import RayPool
from actors.supply import Supply
from actors.worker import Worker
from storage.zarr_store import ZarrStore
from sweeps.errors import StoreError
from sweeps.events import BlockDone, BlockFailed, Event, Notice, NoWorker, SweepDone, SweepStarted
from sweeps.run import run
from tests.actors.conftest import faulty, make, undisturbed

pytestmark = pytest.mark.cluster
HASTY = Limits(quiet=4.0, starting=30.0)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def pid_of(event: BlockDone) -> int:
    return int(event.receipt.worker.split(":")[1])


def counted(events: list[Event]) -> list[int]:
    """The blocks of BlockDone events, once an event."""
    return sorted(e.receipt.block for e in events if isinstance(e, BlockDone))


def notices(events: list[Event]) -> list[str]:
    """What is told of workers; not that none is up yet, which is the machine's doing."""
    return [e.text for e in events if isinstance(e, Notice) and not isinstance(e, NoWorker)]


def disturbed(events: Iterator[Event], after: int, disturb: Callable[[BlockDone], None]) -> list[Event]:
    """All events, with a disturbance after so many blocks."""
    seen: list[Event] = []
    for event in events:
        seen.append(event)
        if isinstance(event, BlockDone) and sum(isinstance(e, BlockDone) for e in seen) == after:
            disturb(event)
    return seen


def test_a_killed_worker_costs_no_block_and_no_bit(three_raylets: Cluster, new_store, tmp_path: Path) -> None:
    sweep = faulty(seconds=0.1)
    store = new_store(sweep)
    events = disturbed(run(store, RayPool(2, "cpu")), 3, lambda e: kill(pid_of(e)))
    assert events[-1] == SweepDone(12)
    assert store.content_hash() == undisturbed(sweep, tmp_path)
    assert not any(committed for _, committed, _ in store.lines())


def test_a_block_that_kills_its_worker_once_is_measured_by_another(
    three_raylets: Cluster, new_store, tmp_path: Path
) -> None:
    sweep = faulty(bad=3, how="die", marker=str(tmp_path / "died"))
    store = new_store(sweep)
    assert list(run(store, RayPool(2, "cpu")))[-1] == SweepDone(12)
    assert (tmp_path / "died").exists()


def test_a_block_that_always_kills_its_worker_fails_alone(three_raylets: Cluster, new_store) -> None:
    sweep = faulty(bad=3, how="die")
    end = list(run(new_store(sweep), RayPool(2, "cpu")))[-1]
    assert isinstance(end, SweepDone)
    assert sorted(f.block for f in end.failed) == [3, 9]
    assert (end.done, end.missing) == (10, 0)


def test_a_killed_raylet_costs_no_block_and_no_bit(three_raylets: Cluster, new_store, tmp_path: Path) -> None:
    sweep = faulty(seconds=0.2)
    store = new_store(sweep)
    node = three_raylets.add_node(num_cpus=1)
    try:
        three_raylets.wait_for_nodes()
        pool = RayPool(4, "cpu")
        events = disturbed(run(store, pool), 2, lambda _: three_raylets.remove_node(node, allow_graceful=False))
    finally:
        if node in three_raylets.list_all_nodes():
            three_raylets.remove_node(node, allow_graceful=False)
    assert events[-1] == SweepDone(12)
    assert store.content_hash() == undisturbed(sweep, tmp_path)
    assert not any(committed for _, committed, _ in store.lines())


class HiringPool(RayPool):
    """Remembers its actors."""

    hired: list

    def actor(self, store):
        actor = super().actor(store)
        self.__dict__.setdefault("hired", []).append(actor)
        return actor


def test_an_actor_that_somebody_killed_for_good_is_replaced(three_raylets: Cluster, new_store) -> None:
    store, pool = new_store(faulty(seconds=0.2)), HiringPool(2, "cpu")
    events = disturbed(run(store, pool), 2, lambda _: [ray.kill(actor) for actor in pool.hired])
    assert counted(events) == list(range(12))
    assert len(pool.hired) == 4


class TestWedged:
    def test_a_wedged_worker_is_fenced_and_its_blocks_leased_again(
        self, three_raylets: Cluster, new_store, tmp_path: Path
    ) -> None:
        sweep = faulty(bad=3, how="hang", marker=str(tmp_path / "hung"))
        store = new_store(sweep)
        events = list(run(store, RayPool(2, "cpu", HASTY)))
        assert counted(events) == list(range(12))
        assert any("gave no report for" in text for text in notices(events))
        assert store.content_hash() == undisturbed(sweep, tmp_path)

    def test_what_it_writes_late_changes_nothing(self, three_raylets: Cluster, tmp_path: Path) -> None:
        sweep = faulty(seconds=0.1)
        store = LateStore.create(str(tmp_path / "late.zarr"), sweep)
        events = list(run(store, RayPool(2, "cpu", HASTY)))
        assert counted(events) == list(range(12))
        block, measured, device, seconds = pickle.loads(store.parcel.read_bytes())
        store.write(block, measured, device=device, seconds=seconds)
        assert [committed for index, committed, _ in store.lines() if index == 3] == [0, 1]
        assert store.content_hash() == undisturbed(sweep, tmp_path)
        assert [type(e) for e in run(store, make("inline"))] == [SweepStarted, SweepDone]


class LateStore(LoggedStore):
    """The first to write block 3 hangs before it does. What it would have written, `parcel` holds."""

    @property
    def parcel(self) -> Path:
        return Path(self.url + ".parcel")

    def write(self, block, measured, *, device, seconds):
        if block.index == 3 and not self.parcel.exists():
            self.parcel.write_bytes(pickle.dumps((block, measured, device, seconds)))
            time.sleep(3600)
        return super().write(block, measured, device=device, seconds=seconds)


class LateWorker(Worker):
    """The first is up at once, the others when all 12 blocks have raised on it."""

    def ping(self):
        beside = Path(self.store.url).with_name
        try:
            beside("first").touch(exist_ok=False)
        except FileExistsError:
            while not beside("sick.tally").exists() or beside("sick.tally").stat().st_size < 12:
                time.sleep(0.05)
        return super().ping()


class LatePool(RayPool):
    kind = LateWorker


class TestSick:
    """A worker on which everything raises is always free, and must not use up the tries of blocks that others could
    measure."""

    @pytest.mark.parametrize("pool", [RayPool, LatePool])
    def test_it_costs_no_block(self, three_raylets: Cluster, new_store, tmp_path: Path, pool: type[RayPool]) -> None:
        sweep = faulty(seconds=0.2, how="sicken", marker=str(tmp_path / "sick"))
        store = new_store(sweep)
        events = list(run(store, pool(2, "cpu")))
        sick = (tmp_path / "sick").read_text()
        assert events[-1] == SweepDone(12)
        assert counted(events) == list(range(12))
        assert all(pid_of(e) != int(sick) for e in events if isinstance(e, BlockDone))
        [told] = notices(events)
        assert re.match(
            r"on worker \d \d+ blocks in a row raised, the last ArithmeticError: the GPU is lost; its", told
        )
        assert store.content_hash() == undisturbed(sweep, tmp_path)

    def test_a_worker_that_does_not_come_is_not_waited_for(self, three_raylets: Cluster, new_store) -> None:
        store, limits = new_store(faulty(bad=3)), Limits()
        pool = RayPool(1, "cpu", limits)
        seats = [Seat(0, pool.actor(store)), Seat(1, pool._exported.options(num_cpus=2).remote(store, "cpu"))]
        seats[1].since -= limits.starting
        supply = Supply(iter(store.plan))
        events = list(Leases(seats, supply, store, limits, lambda: pool.actor(store)).events())
        for seat in seats:
            ray.kill(seat.actor)
        assert sorted((e.block, e.attempts) for e in events if isinstance(e, BlockFailed)) == [(3, 3), (9, 3)]
        assert len(counted(events)) == 10


class TestWorn:
    def test_a_worker_is_renewed_after_so_many_blocks(self, three_raylets: Cluster, new_store, tmp_path: Path) -> None:
        sweep = faulty(seconds=0.4)  # long enough to be leased one by one
        store = new_store(sweep)
        events = list(run(store, RayPool(2, "cpu", Limits(blocks=2))))
        pids = [pid_of(e) for e in events if isinstance(e, BlockDone)]
        assert len(pids) == 12
        assert max(map(pids.count, pids)) <= 3, "two, and the one that it held besides"
        assert notices(events) == []
        assert len(store.lines()) == 12, "nothing is measured twice"
        assert store.content_hash() == undisturbed(sweep, tmp_path)

    def test_a_worker_that_hoards_memory_is_renewed_and_it_is_said(self, three_raylets: Cluster, new_store) -> None:
        store = new_store(faulty(seconds=0.4, bad=3, how="hoard"))
        events = list(run(store, RayPool(1, "cpu", Limits(resident=1))))
        pids = [pid_of(e) for e in events if isinstance(e, BlockDone)]
        assert len(pids) == len(store.lines()) == 12
        assert pids[0] == pids[3] != pids[-1]
        assert "GB of memory, over its limit of 0.0 GB; its process is started anew" in notices(events)[0]


class TestClosed:
    def free(self) -> bool:
        return ray.available_resources().get("CPU") == 3

    def wait(self, condition: Callable[[], bool]) -> bool:
        end = time.monotonic() + 60
        while not condition() and time.monotonic() < end:
            time.sleep(0.1)
        return condition()

    def test_closing_kills_the_actors(self, three_raylets: Cluster, new_store) -> None:
        assert self.wait(self.free)
        events = run(new_store(faulty(seconds=1.0)), RayPool(3, "cpu"))
        assert any(isinstance(event, BlockDone) for event in events)
        assert not self.free()
        events.close()  # type: ignore[attr-defined]
        assert self.wait(self.free)

    def test_an_interrupt_while_they_start_kills_them_too(self, three_raylets: Cluster, new_store) -> None:
        assert self.wait(self.free)

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            with pytest.raises(KeyboardInterrupt):
                list(run(new_store(faulty(seconds=1.0)), RayPool(3, "cpu")))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert self.wait(self.free)


def test_a_second_driver_beside_a_first_that_still_writes(three_raylets: Cluster, new_store, tmp_path: Path) -> None:
    sweep = faulty(seconds=0.5)
    store = new_store(sweep)
    old = run(store, RayPool(1, "cpu"))
    assert any(isinstance(event, BlockDone) for event in old)
    new = list(run(ZarrStore.open(store.url), RayPool(2, "cpu")))  # while the old one's worker goes on with its leases
    assert isinstance(new[-1], SweepDone)
    assert (new[-1].done, new[-1].missing) == (12, 0)
    rest = list(old)
    assert rest[-1] == SweepDone(12)
    assert store.content_hash() == undisturbed(sweep, tmp_path)


class FullStore(LoggedStore):
    """Writes a few blocks, then has no room."""

    def write(self, block, measured, *, device, seconds):
        if block.index >= 3:
            raise StoreError("no space left")
        return super().write(block, measured, device=device, seconds=seconds)


@pytest.mark.parametrize("name", ["inline", "two actors"])
def test_a_store_that_cannot_be_written_ends_the_sweep(three_raylets: Cluster, tmp_path: Path, name: str) -> None:
    store = FullStore.create(str(tmp_path / "full.zarr"), faulty())
    with pytest.raises(StoreError, match="no space left"):
        list(run(store, make(name)))
    assert store.done().sum() <= 3


@pytest.mark.parametrize("name", ["inline", "two actors"])
def test_a_store_that_is_removed_ends_the_sweep(three_raylets: Cluster, new_store, name: str) -> None:
    store = new_store(faulty(seconds=0.2))
    with pytest.raises(StoreError, match=r"cannot be (written|read): it was removed"):
        disturbed(run(store, make(name)), 2, lambda _: os.rename(store.url, store.url + ".away"))
