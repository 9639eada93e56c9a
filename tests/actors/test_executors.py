"""The contract of an executor, met in process and on a real cluster: the same bits, each block once, failures told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from relu_sweeps_logged import LoggedStore

from actors.inline import Inline
from actors.ray_pool import RayPool
from storage.zarr_store import ZarrStore
from sweeps.blocks import plan
from sweeps.errors import RefusedError, StoreError
from sweeps.events import BlockDone, BlockFailed, Event, SweepDone, SweepStarted
from sweeps.run import Executor, run
from sweeps.sweep import Sweep
from tests.conftest import SpecMaker

pytestmark = pytest.mark.cluster
EXECUTORS = ["inline", "one actor", "two actors", "three raylets"]


@pytest.fixture(params=["inline", "two actors"])
def executor(request: pytest.FixtureRequest, three_raylets: Cluster) -> Executor:
    return make(request.param)


def make(name: str) -> Executor:
    number = EXECUTORS.index(name)
    return RayPool(number, "cpu") if number else Inline("cpu")


@pytest.fixture
def new_store(tmp_path: Path) -> Callable[..., LoggedStore]:
    def make(sweep: Sweep, name: str = "a") -> LoggedStore:
        return LoggedStore.create(str(tmp_path / f"{name}.zarr"), sweep)  # type: ignore[return-value]

    return make


def faulty(**fixed: object) -> Sweep:
    """Six values x 2 batches of two draws; trouble where value == bad."""
    return Sweep.of({"name": "faulty", "statistic": "faulty", "draws": 4, "draws_per_batch": 2,
                     "axes": {"value": {"range": [0, 5]}}, "fixed": fixed})  # fmt: skip


def undisturbed(sweep: Sweep, tmp_path: Path) -> str:
    store = ZarrStore.create(str(tmp_path / "undisturbed.zarr"), sweep)
    list(run(store, Inline("cpu")))
    return store.content_hash()


@pytest.mark.parametrize("name", EXECUTORS)
def test_bits_are_those_of_this_process(
    name: str, three_raylets: Cluster, toy: SpecMaker, new_store, tmp_path: Path
) -> None:
    store = new_store(toy(points_per_block=2))
    events = list(run(store, make(name)))
    assert isinstance(events[0], SweepStarted)
    assert events[-1] == SweepDone(len(plan(store.sweep)))
    assert store.content_hash() == undisturbed(store.sweep, tmp_path)


class TestContract:
    def test_every_block_is_measured_once(self, executor: Executor, toy: SpecMaker, new_store) -> None:
        store = new_store(toy())
        done = [e.receipt for e in run(store, executor) if isinstance(e, BlockDone)]
        assert sorted(r.block for r in done) == list(range(len(plan(store.sweep))))
        assert sorted(block for block, _, _ in store.lines()) == list(range(len(plan(store.sweep))))
        assert all(store.receipt(plan(store.sweep)[r.block]) == r for r in done)

    def test_a_block_that_raises_fails_and_the_sweep_goes_on(self, executor: Executor, new_store) -> None:
        store = new_store(faulty(bad=3))
        *_, end = events = list(run(store, executor))
        failed = [e for e in events if isinstance(e, BlockFailed)]
        assert sorted(e.block for e in failed) == [3, 9]
        assert all("ArithmeticError: no answer at value 3" in e.error for e in failed)
        assert isinstance(end, SweepDone)
        assert (end.done, len(end.failed), end.missing) == (10, 2, 0)

    def test_running_again_after_a_stop_measures_only_the_rest(
        self, executor: Executor, toy: SpecMaker, new_store
    ) -> None:
        store = new_store(toy(points_per_block=1))
        events = run(store, executor)
        for event in events:
            if isinstance(event, BlockDone):
                break
        events.close()  # type: ignore[attr-defined]
        time.sleep(0.5)
        held = int(store.done().sum())
        assert 1 <= held < len(plan(store.sweep))
        again = [e for e in run(store, executor) if isinstance(e, BlockDone)]
        assert len(again) == len(plan(store.sweep)) - held
        assert not any(committed for _, committed, _ in store.lines())

    def test_nothing_to_do_is_quick(self, executor: Executor, toy: SpecMaker, new_store) -> None:
        store = new_store(toy())
        list(run(store, executor))
        assert [type(e) for e in run(store, executor)] == [SweepStarted, SweepDone]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


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
    events = disturbed(run(store, RayPool(2, "cpu")), 3, lambda e: kill(int(e.receipt.worker.split(":")[1])))
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


def test_every_gpu_actor_sees_a_device_of_its_own(three_raylets: Cluster, toy: SpecMaker, new_store) -> None:
    node = three_raylets.add_node(num_cpus=0, num_gpus=3)
    try:
        three_raylets.wait_for_nodes()
        pool = RayPool(device="cuda")
        assert pool.size == 3
        actors = [pool.actor(new_store(toy())) for _ in range(3)]
        facts = ray.get([a.facts.remote() for a in actors])
        assert sorted(f["visible"] for f in facts) == ["0", "1", "2"]
        assert {f["device"] for f in facts} == {"cuda"}
        blind = RayPool(1, "cpu").actor(new_store(toy()))
        assert ray.get(blind.facts.remote())["visible"] == ""
        for actor in (*actors, blind):
            ray.kill(actor)
    finally:
        three_raylets.remove_node(node)


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


def test_a_cpu_worker_computes_on_one_thread(three_raylets: Cluster, toy: SpecMaker, new_store) -> None:
    actor = RayPool(1, "cpu").actor(new_store(toy()))
    threads = ray.get(actor.facts.remote())["threads"]
    ray.kill(actor)
    assert threads == {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }


@pytest.mark.parametrize(("workers", "device", "message"), [
    (99, "cpu", "workers must be between 1 and the cluster's 3, got 99"),
    (None, "cuda", "the Ray cluster has no GPU"),
])  # fmt: skip
def test_what_the_cluster_lacks_is_refused(three_raylets: Cluster, workers, device: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        RayPool(workers, device)
