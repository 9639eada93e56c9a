"""Pools on a cluster that grows on demand: those for whom there is no room yet wait, and nobody waits for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from actors.ray_pool import RayPool
from sweeps.errors import RefusedError
from sweeps.events import BlockDone
from sweeps.run import run
from tests.actors.conftest import undisturbed
from tests.conftest import SpecMaker

pytestmark = pytest.mark.cluster


@ray.remote(num_cpus=1)
class Tenant:
    def ready(self) -> None: ...


@pytest.fixture
def tenants(three_raylets: Cluster) -> Iterator[list]:
    """Somebody else has all the cores that there are."""
    actors = [Tenant.remote() for _ in range(3)]
    ray.get([actor.ready.remote() for actor in actors])
    yield actors
    for actor in actors:
        ray.kill(actor)


def test_more_workers_than_there_are_cores_are_for_a_cluster_that_grows(three_raylets: Cluster) -> None:
    with pytest.raises(RefusedError, match="workers must be between 1 and the cluster's 3, got 4"):
        RayPool(4, "cpu")
    with pytest.raises(RefusedError, match="workers must be between 1 and the cluster's 5, got 6"):
        RayPool(6, "cpu", grows_to={"CPU": 5})
    with pytest.raises(RefusedError, match="the Ray cluster has no GPU"):
        RayPool(device="cuda", grows_to={"CPU": 5})
    grown = RayPool(grows_to={"CPU": 5, "GPU": 2})
    assert (grown.device, grown.size) == ("cuda", 2)
    assert RayPool(device="cpu", grows_to={"CPU": 5}).size == 5
    assert RayPool(device="cpu", grows_to={"CPU": 1}).size == 3


def test_a_worker_may_take_its_share_of_the_nodes_that_work(
    three_raylets: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head without work has memory too."""
    nodes = [{"Alive": True, "Resources": resources} for resources in (
        {"memory": 64e9, "node:__internal_head__": 1.0}, {"memory": 30e9, "CPU": 2.0}, {"memory": 30e9, "CPU": 1.0},
    )]  # fmt: skip
    nodes.append({"Alive": False, "Resources": {"memory": 8e9, "CPU": 1.0}})
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert RayPool(2, "cpu").limits.resident == 20_000_000_000


def test_those_that_are_there_do_not_wait_for_those_that_never_come(
    three_raylets: Cluster, toy: SpecMaker, new_store, tmp_path: Path
) -> None:
    store = new_store(toy())
    done = [e for e in run(store, RayPool(device="cpu", grows_to={"CPU": 9})) if isinstance(e, BlockDone)]
    assert len(done) == len(store.plan)
    assert store.content_hash() == undisturbed(toy(), tmp_path)


def test_one_that_waits_works_once_there_is_room(
    three_raylets: Cluster, tenants: list, toy: SpecMaker, new_store, tmp_path: Path
) -> None:
    store = new_store(toy())
    pool = RayPool(4, "cpu", grows_to={"CPU": 4})
    leaves = threading.Timer(1.0, lambda: ray.kill(tenants[0]))
    leaves.start()
    list(run(store, pool))
    leaves.join()
    assert store.content_hash() == undisturbed(toy(), tmp_path)
