"""`sweeps chaos`: a short seeded run of it, and that it sees what it looks for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from actors.inline import Inline
from deploy.chaos import IN_VAIN, KINDS, Verdict, _Driver, judge, miscounted
from deploy.chaos_world import Process, Server, published_twice
from deploy.flaky_store import FlakyStore
from storage.tracking import rebuild
from storage.zarr_store import ZarrStore
from sweeps.errors import StoreError, SweepsError
from sweeps.run import run
from tests.conftest import SpecMaker
from tests.deploy.conftest import faulty_spec, start


def measured(url: str, sweep, kind: type[ZarrStore] = ZarrStore) -> ZarrStore:
    store = kind.create(url, sweep)
    list(run(store, Inline("cpu")))
    return store


def judged(calm: ZarrStore, store: ZarrStore) -> Verdict:
    verdict = Verdict()
    judge(calm, store, verdict)
    return verdict


@pytest.mark.cluster
def test_a_sweep_survives_every_kind_of_disturbance(tmp_path: Path) -> None:
    spec = faulty_spec(tmp_path / "spec.toml", seconds=0.3)
    new_machine = os.environ | {"HOME": str(tmp_path)}  # without a token
    process = start("chaos", spec, "--kills", 5, "--seed", 9, "--keep", tmp_path / "kept", env=new_machine)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, (out, err)
    verdict = out.splitlines()[-1]
    said = re.search(r"5 disturbances \((.*)\) in \d+ rounds? of 24 blocks: 0 lost, 0 duplicated, 0 differing", verdict)
    assert said, out
    assert sorted(part.split()[1] for part in said[1].split(", ")) == sorted(KINDS)
    assert "0 " not in said[1], "every kind struck"
    assert "5/5: " in out
    assert "failed on purpose" in (tmp_path / "kept" / "driver.log").read_text()


def test_equal_stores_are_clean(tmp_path: Path, toy: SpecMaker) -> None:
    verdict = judged(measured("a.zarr", toy()), measured("b.zarr", toy()))
    assert verdict.clean
    assert "0 lost, 0 duplicated, 0 differing" in str(verdict)


def test_a_lost_block_is_seen(toy: SpecMaker) -> None:
    calm, store = measured("a.zarr", toy()), measured("b.zarr", toy())
    mark = next(p for p in sorted(Path("b.zarr/piece-0/commit/c").rglob("*")) if p.is_file())
    mark.unlink()
    verdict = judged(calm, store)
    assert (verdict.lost, verdict.differing) == (1, 0)
    assert verdict.duplicated > 0, "its points lack draws"


def test_a_differing_byte_is_seen(toy: SpecMaker) -> None:
    calm, store = measured("a.zarr", toy()), measured("b.zarr", toy())
    level = store.array(0, "level")
    values = level[:]
    values[0, 0, 0, 0, 2] = np.nextafter(values[0, 0, 0, 0, 2], np.inf)
    level[:] = values
    verdict = judged(calm, store)
    assert (verdict.lost, verdict.duplicated, verdict.differing) == (0, 0, 1)


def test_a_block_too_many_is_seen(toy: SpecMaker) -> None:
    calm, store = ZarrStore.create("a.zarr", toy()), measured("b.zarr", toy())
    verdict = judged(calm, store)
    assert (verdict.lost, verdict.clean) == (0, False)


def test_draws_that_count_twice_are_seen(toy: SpecMaker) -> None:
    measured("a.zarr", toy(draws=16)), measured("b.zarr", toy(draws=24))
    assert miscounted("a.zarr", "a.zarr") == 0
    assert miscounted("a.zarr", "b.zarr") >= 20 * (1 + 1 + 3), "every point, in each of its outcomes"


@pytest.mark.usefixtures("mlflow_db", "no_figures")
def test_what_mlflow_has_twice_is_seen(toy: SpecMaker) -> None:
    from mlflow import MlflowClient

    store, uri = measured("a.zarr", toy(), FlakyStore), "sqlite:///mlflow.db"
    told = rebuild(store, uri)
    assert published_twice(store, uri) == 0
    client = MlflowClient(uri)
    found = client.get_run(told.run)
    key = next(iter(found.data.metrics))
    client.log_metric(told.run, key, 1.0, step=client.get_metric_history(told.run, key)[0].step)
    assert published_twice(store, uri) == 1
    client.create_run(found.info.experiment_id, tags={k: found.data.tags[k] for k in ("sweeps.store", "sweeps.slice")})
    assert published_twice(store, uri) == 2


@pytest.mark.parametrize("stage", ["chunk", "mark"])
def test_an_ordered_failure_befalls_one_write(toy: SpecMaker, stage: str) -> None:
    store = FlakyStore.create("a.zarr", toy())
    store.order_failure(stage)
    with pytest.raises(StoreError, match="failed on purpose"):
        list(run(store, Inline("cpu")))
    assert not store.done().any()
    assert Path("a.zarr/piece-0/level/c").exists() == (stage == "mark")
    list(run(store, Inline("cpu")))
    assert store.done().all()
    assert store.again() == 0


def test_drivers_that_get_nowhere_end_it(tmp_path: Path, toy: SpecMaker) -> None:
    class Barren:
        def driver(self, store: FlakyStore) -> Process:
            return Process([sys.executable, "-c", "exit(2)"], tmp_path / "driver.log")

        def last_word(self) -> str:
            return "no room"

    driver = _Driver(Barren(), FlakyStore.create("a.zarr", toy()))  # type: ignore[arg-type]
    with pytest.raises(SweepsError, match=f"{IN_VAIN} drivers ended with nothing measured; the last: no room"):
        list(iter(driver.finished, True))


BROKEN = """
import sys
from pathlib import Path
import psutil
from ray.cluster_utils import Cluster
from deploy.chaos_world import Server, World

def fail(*_):
    raise OSError("no room")

def add(cluster, **options):
    started.append(cluster)
    return fail() if sys.argv[1] == "raylet" and len(started) == 3 else add_node(cluster, **options)

started, add_node, Cluster.add_node = [], Cluster.add_node, add
if sys.argv[1] == "server":
    Server.until_answering = fail
try:
    World(Path(), 2, 0).__enter__()
except OSError as error:
    print(error, len(started), [p.name() for p in psutil.Process().children()])
"""


@pytest.mark.cluster
@pytest.mark.parametrize("fails", ["raylet", "server"])
def test_a_world_that_does_not_start_leaves_nothing_behind(fails: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run([sys.executable, "-c", BROKEN, fails], env=environment, capture_output=True, text=True)
    assert ran.stdout == "no room 3 []\n", ran.stderr


def test_a_server_survives_its_first_kill(tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        server.until_answering()  # without this, the kill would fall into the making of its tables
        server.kill()
        server.start()
        server.until_answering()
    finally:
        server.kill()
    assert "OperationalError" not in (tmp_path / "server.log").read_text()


def test_a_sweep_that_fails_by_itself_is_refused(tmp_path: Path, sweeps) -> None:
    said = sweeps("chaos", faulty_spec(tmp_path / "spec.toml", bad=3))
    assert said.code == 2
    assert said.err == (
        "error: block 3 fails without being disturbed: ArithmeticError: no answer at value 3; take another sweep\n"
    )


def test_a_folder_that_exists_is_refused(tmp_path: Path, sweeps) -> None:
    said = sweeps("chaos", faulty_spec(tmp_path / "spec.toml"), "--keep", tmp_path)
    assert (said.code, said.err) == (2, f"error: --keep {str(tmp_path)!r} exists already; give a new folder\n")
