"""The contract of an executor, met in process and on a real cluster: the same bits, each block once, failures told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from actors.ray_pool import RayPool
from sweeps.blocks import plan
from sweeps.errors import RefusedError
from sweeps.events import BlockDone, BlockFailed, SweepDone, SweepStarted
from sweeps.run import Executor, run
from tests.actors.conftest import EXECUTORS, faulty, make, undisturbed
from tests.conftest import SpecMaker

pytestmark = pytest.mark.cluster


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

    def test_a_block_that_finds_no_memory_twice_fails_once_another_worker_has_none_either(
        self, executor: Executor, new_store
    ) -> None:
        events = list(run(new_store(faulty(bad=3, how="oom", seconds=0.1)), executor))
        failed = [e for e in events if isinstance(e, BlockFailed)]
        assert sorted(e.block for e in failed) == [3, 9]
        assert {e.attempts for e in failed} <= ({1, 2} if isinstance(executor, RayPool) else {1})
        assert all("LaunchMemoryError: a launch of 2 networks of 'faulty'" in e.error for e in failed)

    def test_a_block_that_finds_no_memory_once_is_measured(self, executor: Executor, new_store, tmp_path: Path) -> None:
        store = new_store(faulty(bad=3, how="oom", marker=str(tmp_path / "once")))
        assert list(run(store, executor))[-1] == SweepDone(12)
        assert (tmp_path / "once").exists()
        assert store.content_hash() == undisturbed(store.sweep, tmp_path)

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
