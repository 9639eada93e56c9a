"""One real Ray cluster of three raylets, a core each, for all tests of this folder; stores that keep a log."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from relu_sweeps_logged import LoggedStore

from actors.inline import Inline
from actors.ray_pool import RayPool
from storage.zarr_store import ZarrStore
from sweeps.run import Executor
from sweeps.sweep import Sweep
from tests.conftest import measured_at_once

EXECUTORS = ["inline", "one actor", "two actors", "three raylets"]


@pytest.fixture(scope="session")
def three_raylets(ray_token: None) -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # Ray left a socket open, which would be told to whatever test runs when it is collected
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(params=["inline", "two actors"])
def executor(request: pytest.FixtureRequest, three_raylets: Cluster) -> Executor:
    return make(request.param)


def make(name: str) -> Executor:
    number = EXECUTORS.index(name)
    return RayPool(number, "cpu") if number else Inline("cpu")


@pytest.fixture
def new_store(tmp_path: Path) -> Callable[..., LoggedStore]:
    return lambda sweep: LoggedStore.create(str(tmp_path / "a.zarr"), sweep)  # type: ignore[return-value]


def faulty(**fixed: object) -> Sweep:
    """Six values x 2 batches of two draws; trouble where value == bad."""
    return Sweep.of({"name": "faulty", "statistic": "faulty", "draws": 4, "draws_per_batch": 2,
                     "axes": {"value": {"range": [0, 5]}}, "fixed": fixed})  # fmt: skip


def undisturbed(sweep: Sweep, tmp_path: Path) -> str:
    store = ZarrStore.create(str(tmp_path / "undisturbed.zarr"), sweep)
    measured_at_once(store)
    return store.content_hash()
