"""Sweeps on a real Slurm of two nodes: whatever happens to the job, the bits are those of an undisturbed run.

What takes minutes is marked `slow` and has `make test-slow`; the rest is among the others.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from storage.zarr_store import ZarrStore
from sweeps.sweep import Sweep
from tests.conftest import measured_at_once
from tests.deploy.conftest import Said, statuses, write_toml
from tests.deploy.slurm_cluster import Slurm, missing, started

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("mlflow_db"),
    pytest.mark.skipif(bool(missing()), reason=missing() or "all is here"),
]
BLOCKS = 24
ALL = 9  # above every value, for a gate
Run = Callable[..., Said]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    with started() as cluster:
        yield cluster


@pytest.fixture
def slurm(cluster: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.clear()


class Gated:
    """A sweep of 24 blocks that comes as far as it is let: the blocks of a value wait until the gate is above it."""

    def __init__(self, folder: Path, name: str = "gated", **changes: object) -> None:
        self.gate, self.path = folder / f"{name}.gate", folder / f"{name}.toml"
        self.open(4)
        fixed = {"how": "gate", "marker": str(self.gate)}
        spec = {"name": name, "statistic": "faulty", "device": "cpu", "draws": 4, "draws_per_batch": 1}
        write_toml(self.path, {**spec, "axes": {"value": {"range": [0, 5]}}, "fixed": fixed, **changes})

    def open(self, height: int) -> None:
        beside = self.gate.with_suffix(".new")
        beside.write_text(str(height))
        beside.replace(self.gate)

    @property
    def store(self) -> ZarrStore:
        return ZarrStore.open(f"results/{self.path.stem}.zarr")

    def await_blocks(self, number: int, seconds: float = 240) -> dict[int, object]:
        deadline = time.monotonic() + seconds
        while not Path(f"results/{self.path.stem}.zarr/zarr.json").exists() or self.store.done().sum() < number:
            assert time.monotonic() < deadline, said_by_jobs()
            time.sleep(0.2)
        return self.receipts()

    def receipts(self) -> dict[int, object]:
        return {r.block: r for r in self.store.receipts()}

    def is_as_undisturbed(self) -> bool:
        self.open(ALL)
        alone = ZarrStore.create(f"undisturbed-{self.path.stem}.zarr", Sweep.from_toml(self.path))
        measured_at_once(alone)
        return len(self.receipts()) == BLOCKS and self.store.content_hash() == alone.content_hash()


def said_by_jobs() -> str:
    return "\n".join(f"{path}:\n{path.read_text()}" for path in Path().glob(".sweeps/slurm/*/*.log"))


def submit(sweeps: Run, gated: Gated, *options: object) -> str:
    said = sweeps("submit", gated.path, "--slurm", *options)
    assert said.code == 0, said.err
    return said.out.strip()


def completed(slurm: Slurm, job: str) -> bool:
    return slurm.await_job(job, JobState="COMPLETED")["ExitCode"] == "0:0"


def log(job: str) -> str:
    return next(Path().glob(f".sweeps/slurm/*/{job}.log")).read_text()


def running(name: str, folder: Path) -> list[psutil.Process]:
    """The processes of this name that work in the folder; any of them may end while one looks."""
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.info["name"] == name and process.cwd() == str(folder):
                found.append(process)
    return found


def contents(*folders: Path) -> dict[Path, bytes]:
    """Of all files below them, but those that vanish while one looks."""
    read = {}
    for path in (p for folder in folders for p in folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                read[path] = path.read_bytes()
    return read


def token_of(folder: Path) -> str:
    """Where it has to be: in the environment of Ray's processes, which their owner alone can read."""
    [server] = running("gcs_server", folder)
    return server.environ()["RAY_AUTH_TOKEN"]


def test_a_sweep_goes_into_the_queue_again_when_its_time_is_up_and_its_token_is_nowhere(
    sweeps: Run, slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = Gated(tmp_path)
    options = ("--nodes", 2, "--gpus-per-node", 1, "--time", "30:00", "--set", "slurm.cpus_per_node=1")
    options += ("--set", "slurm.partition=all")
    (tmp_path / "deploy").mkdir()  # a user's own, which has nothing to do with this
    (tmp_path / "deploy" / "__init__.py").write_text("raise RuntimeError('not this one')\n")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")

    # refused, printed, submitted, joined
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")
    refused = sweeps("submit", gated.path, "--slurm")
    assert refused.code == 2
    assert refused.err.splitlines()[-1] == (
        "error: sbatch refuses: Batch job submission failed: Invalid partition name specified"
    )
    monkeypatch.setenv("SQUEUE_STATES", "failed")
    said = sweeps("submit", gated.path, "--slurm", *options)
    job, key = said.out.strip(), next(Path(".sweeps/slurm").iterdir()).name
    assert said.code == 0, said.err
    assert f"tail -F .sweeps/slurm/{key}/{job}.log" in said.err
    again = sweeps("submit", gated.path, "--slurm", *options)
    assert (again.code, again.out.strip()) == (0, job)
    assert again.err.startswith("joined: it is in the queue already, ")
    folder = Path(".sweeps/slurm", key)
    assert [(folder / name).stat().st_mode & 0o777 for name in ("", "job.json", "job.sh")] == [0o700, 0o600, 0o600]

    # both nodes work, and the token is where Ray keeps it
    before = gated.await_blocks(4)
    assert '"workers":"2 Ray actors, one per CPU core"' in log(job)
    secret = token_of(tmp_path)
    assert re.fullmatch("[0-9a-f]{64}", secret)
    rays = list(Path("/tmp").glob(f"sw{job}.*"))
    assert [(p.stat().st_mode & 0o777, p.stat().st_uid) for p in rays] == [(0o700, os.getuid())] * 3
    places = contents(tmp_path, slurm.folder, *rays)
    assert {"job.json", "job.sh", "mlflow.db", f"{job}.log", "slurmctld.log", "raylet.out"} <= {p.name for p in places}
    assert [path for path, content in places.items() if secret.encode() in content] == []
    assert not any(secret in word for p in psutil.process_iter(["cmdline"]) for word in p.info["cmdline"] or ())
    assert secret not in slurm.run("scontrol", "show", "--details", "job", job)

    # its time is nearly up: Slurm signals the batch script alone, as it does here
    slurm.run("scancel", "--batch", "--signal=TERM", job)
    slurm.await_job(job, JobState="RUNNING", Restarts="1")
    assert "stopped; what is committed is safe in" in log(job)
    assert "its time is nearly up: requeued, to go on from what is committed" in log(job)
    assert statuses(tmp_path / "mlflow.db") == ["KILLED"]
    gated.open(ALL)
    assert completed(slurm, job), log(job)
    after = gated.receipts()
    assert {k: after[k] for k in before} == before, "no committed block is measured twice"
    assert gated.is_as_undisturbed()
    assert statuses(tmp_path / "mlflow.db") == ["FINISHED"]
    assert not list(Path("/tmp").glob(f"sw{job}.*")), "Ray's folders are gone"
    assert running("raylet", tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("requeue", "{job}"), ("update", "nodename=n2", "state=down", "reason=lost")], ids=["requeue", "down"]
)
def test_a_job_that_is_requeued_goes_on(sweeps: Run, slurm: Slurm, tmp_path: Path, command: tuple[str, ...]) -> None:
    gated = Gated(tmp_path)
    job = submit(sweeps, gated, "--nodes", 2)
    before = gated.await_blocks(4)
    assert slurm.run("scontrol", *(word.format(job=job) for word in command)) == ""
    assert submit(sweeps, gated, "--nodes", 2) == job, "joined while it ends, to start again"
    slurm.await_job(job, JobState="PENDING", Restarts="1")
    if "nodename=n2" in command:
        slurm.run("scontrol", "update", "nodename=n2", "state=resume")
    gated.open(ALL)
    assert completed(slurm, job), log(job)
    after = gated.receipts()
    assert {k: after[k] for k in before} == before
    assert gated.is_as_undisturbed()


@pytest.mark.slow
def test_a_node_that_is_drained_works_to_the_end_of_the_job(sweeps: Run, slurm: Slurm, tmp_path: Path) -> None:
    gated = Gated(tmp_path)
    job = submit(sweeps, gated, "--nodes", 2)
    gated.await_blocks(4)
    slurm.run("scontrol", "update", "nodename=n2", "state=drain", "reason=test")
    gated.open(ALL)
    assert completed(slurm, job), log(job)
    assert gated.is_as_undisturbed()
    waiting = submit(sweeps, Gated(tmp_path, "later"), "--nodes", 2)
    deadline = time.monotonic() + 60
    while (reason := slurm.job(waiting)["Reason"]) in ("None", "Priority"):
        assert time.monotonic() < deadline, reason
        time.sleep(0.2)
    assert "DRAINED" in reason or "UnavailableNodes:n2" in reason  # Slurm says the one, and soon the other


@pytest.mark.slow
def test_two_jobs_on_the_same_nodes_do_not_meet(sweeps: Run, slurm: Slurm, tmp_path: Path) -> None:
    both = [Gated(tmp_path, "one", seed=1), Gated(tmp_path, "two", seed=2)]
    options = ("--nodes", 2, "--set", "slurm.cpus_per_node=1")
    jobs = []
    for gated in both:
        jobs.append(submit(sweeps, gated, *options))
        gated.await_blocks(4)
    assert [slurm.job(job)["JobState"] for job in jobs] == ["RUNNING"] * 2
    assert [slurm.job(job)["NodeList"] for job in jobs] == ["n[1-2]"] * 2
    assert all('"workers":"2 Ray actors, one per CPU core"' in log(job) for job in jobs)
    both[0].open(ALL)
    assert completed(slurm, jobs[0]), log(jobs[0])
    assert slurm.job(jobs[1])["JobState"] == "RUNNING", "what the first one ended was its own"
    both[1].open(ALL)
    assert completed(slurm, jobs[1]), log(jobs[1])
    assert both[0].is_as_undisturbed()
    assert both[1].is_as_undisturbed()
    assert both[0].store.content_hash() != both[1].store.content_hash()


@pytest.mark.slow
def test_the_time_limit_is_reached(sweeps: Run, slurm: Slurm, tmp_path: Path) -> None:
    """Slurm signals up to a minute early: 30 seconds before the end of 2 minutes, or soon after the first."""
    gated = Gated(tmp_path)
    job = submit(sweeps, gated, "--nodes", 2, "--time", 2, "--set", "slurm.grace=30", "--set", "slurm.requeues=1")
    before = gated.await_blocks(4)
    slurm.await_job(job, JobState="RUNNING", Restarts="1")
    assert "its time is nearly up: requeued" in log(job)
    gated.open(5)
    assert slurm.await_job(job, JobState="FAILED")["ExitCode"] == "130:0", log(job)
    assert "its time is nearly up, and it was requeued 1 times: submit it again to go on" in log(job).splitlines()
    middle = gated.receipts()
    assert len(before) <= len(middle) < BLOCKS
    gated.open(ALL)
    last = submit(sweeps, gated, "--nodes", 2)
    assert completed(slurm, last), log(last)
    after = gated.receipts()
    assert {k: after[k] for k in middle} == middle
    assert gated.is_as_undisturbed()


@pytest.mark.slow
def test_a_job_that_is_cancelled_stays_so_and_the_exit_status_is_the_sweeps(
    sweeps: Run, slurm: Slurm, tmp_path: Path
) -> None:
    gated = Gated(tmp_path)
    job = submit(sweeps, gated, "--nodes", 2)
    gated.await_blocks(4)
    slurm.run("scancel", job)
    slurm.await_job(job, JobState="CANCELLED", Restarts="0")
    slurm.await_no_jobs()
    assert "stopped; what is committed is safe in" in log(job)
    assert slurm.job(job)["JobState"] == "CANCELLED"
    write_toml(
        tmp_path / "failing.toml",
        {
            **{"name": "failing", "statistic": "faulty", "draws": 1, "draws_per_batch": 1},
            **{"axes": {"value": {"range": [0, 2]}}, "fixed": {"bad": 1}},
        },
    )
    said = sweeps("submit", "failing.toml", "--slurm")
    assert slurm.await_job(said.out.strip(), JobState="FAILED")["ExitCode"] == "3:0", said_by_jobs()
