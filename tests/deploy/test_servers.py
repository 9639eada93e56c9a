"""A team's servers as they are, and a sweep that goes all the way: submitted to a cluster of three raylets that shares
no disk with its driver's store, its numbers in S3, its runs on an MLflow server that asks who one is."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from ray.cluster_utils import Cluster

from actors.inline import Inline
from deploy import heads, jobs, servers
from deploy.heads import free_port
from storage.query import open_sweep
from storage.zarr_store import ZarrStore
from sweeps.run import run
from sweeps.sweep import Sweep
from tests.deploy.conftest import Said, write_toml

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_token"), pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
SPEC = {
    "name": "team",
    "statistic": "toy",  # no compiler before the first number
    "seed": 5,
    "draws": 64,
    "draws_per_batch": 16,
    "axes": {"size": [2, 8], "colour": ["red", "blue"]},
    "track": {"by": "size"},
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short, because Ray's sockets lie below it, and passable, because PostgreSQL may run as somebody else."""
    if servers.binaries() is None or shutil.which("prometheus") is None:
        absent = "PostgreSQL or Prometheus is not installed (Debian: apt-get install postgresql prometheus)"
        if os.environ.get("CI") == "true":
            pytest.fail(absent, pytrace=False)
        pytest.skip(absent)
    made = Path(tempfile.mkdtemp(prefix="sv", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@dataclass
class Team:
    """The servers, as whoever started them sees them, and the people."""

    folder: Path
    process: subprocess.Popen[str]
    said: str
    settings: dict[str, str]

    @property
    def uri(self) -> str:
        return self.settings["MLFLOW_TRACKING_URI"]

    @property
    def admin(self) -> tuple[str, str]:
        return self.settings["MLFLOW_TRACKING_USERNAME"], self.settings["MLFLOW_TRACKING_PASSWORD"]

    def address(self, name: str) -> str:
        found = re.search(rf"^{name} +(?:http://)?(\S+)", self.said, re.MULTILINE)
        assert found
        return found[1]


@pytest.fixture(scope="module")
def team(folder: Path) -> Iterator[Team]:
    """Started where a proxy is known, which nothing here may ask, and where other things have secrets."""
    place, nowhere = folder / "servers", f"http://127.0.0.1:{free_port()}"
    known = {"SWEEPS_RAY_FOLDER": str(folder / "ray"), "PYTHONPATH": str(ROOT), "SOME_TOKEN": "of something else"}
    environment = os.environ | known | dict.fromkeys(("http_proxy", "HTTP_PROXY"), nowhere)
    command = [sys.executable, "-m", "deploy.servers", str(place)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process, ended(process):
        said = until_ready(process)
        shell = subprocess.run(["sh", "-c", f". {place}/team.sh; env -0"], capture_output=True, text=True, check=True)
        known = dict(line.partition("=")[::2] for line in shell.stdout.split("\0") if line)
        yield Team(place, process, said, {k: v for k, v in known.items() if k.startswith(("MLFLOW_", "AWS_"))})


def until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    said = ""
    while "Ctrl-C ends all" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return said


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """As by a terminal that is closed, with somebody impatient at it: nothing is left all the same."""
    root, began = psutil.Process(process.pid), []
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            began = root.children(recursive=True)
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
        left = [p for p in began if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        for survivor in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                survivor.kill()
        process.kill()
    assert len(began) >= 4
    assert (process.returncode, left) == (0, [])


@pytest.fixture(scope="module")
def ada(team: Team) -> tuple[str, str]:
    """Somebody who is not the administrator."""
    name, password = "ada", secrets.token_urlsafe(16)
    create = f"{team.uri}/api/2.0/mlflow/users/create"
    requests.post(create, json={"username": name, "password": password}, auth=team.admin).raise_for_status()
    return name, password


@pytest.fixture(scope="module")
def cluster(folder: Path, team: Team, ada: tuple[str, str]) -> Iterator[str]:
    """Three raylets that know what team.sh says, as ada; the dashboard's address."""
    port = free_port()
    known = {**team.settings, "MLFLOW_TRACKING_USERNAME": ada[0], "MLFLOW_TRACKING_PASSWORD": ada[1]}
    cluster = Cluster()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**known, "RAY_metrics_report_interval_ms": "1000"}.items():
                patch.setenv(name, value)
            head = {"num_cpus": 1, "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": port}
            apart = {"dashboard_agent_listen_port": 0}
            cluster.add_node(**head, **apart, temp_dir=str(folder / "ray"))
            for _ in range(2):
                cluster.add_node(num_cpus=1, **apart)
        yield f"http://127.0.0.1:{port}"
    finally:
        cluster.shutdown()


def status(team: Team, path: str, method: str = "GET", **how: Any) -> int:
    return requests.request(method, f"{team.uri}{path}", timeout=30, **how).status_code


PATHS = [
    ("GET", "/"),
    ("GET", "/api/2.0/mlflow/experiments/search?max_results=1"),
    ("GET", "/ajax-api/2.0/mlflow/experiments/search?max_results=1"),
    ("POST", "/api/2.0/mlflow/runs/create"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/a/artifacts/x"),
    ("POST", "/graphql"),
    ("GET", "/signup"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_mlflow_turns_away_whoever_has_no_password_or_a_wrong_one(team: Team, method: str, path: str) -> None:
    assert status(team, path, method) == 401
    for login in (("admin", "password1234"), ("admin", ""), ("nobody", team.admin[1])):
        assert status(team, path, method, auth=login) == 401


def test_mlflow_refuses_other_names_and_pages_of_others(team: Team) -> None:
    path = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert status(team, path, auth=team.admin) == 200
    assert status(team, path, auth=team.admin, headers={"Host": "rebound.example.org"}) == 403
    create = {"method": "POST", "auth": team.admin, "json": {"name": "theirs"}}
    foreign = {"Origin": "https://elsewhere.example.org"}
    assert status(team, "/api/2.0/mlflow/experiments/create", headers=foreign, **create) == 403
    assert status(team, "/api/2.0/mlflow/experiments/create", **create) == 200


def test_users_log_to_shared_experiments_and_delete_only_their_own(team: Team, ada: tuple[str, str]) -> None:
    api = f"{team.uri}/api/2.0/mlflow"
    made = [
        requests.post(f"{api}/experiments/create", json={"name": f"of {who[0]}"}, auth=who) for who in (team.admin, ada)
    ]
    theirs, own = (answer.json()["experiment_id"] for answer in made)
    assert requests.post(f"{api}/runs/create", json={"experiment_id": theirs}, auth=ada).status_code == 200
    assert requests.post(f"{api}/experiments/delete", json={"experiment_id": theirs}, auth=ada).status_code == 403
    assert requests.post(f"{api}/experiments/delete", json={"experiment_id": own}, auth=ada).status_code == 200
    user = {"username": "eve", "password": "eve-has-no-business"}
    assert requests.post(f"{api}/users/create", json=user, auth=ada).status_code == 403


@pytest.fixture
def here(team: Team, ada: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell of ada's that has read team.sh."""
    for name, value in team.settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ada[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ada[1])
    monkeypatch.setattr(jobs.await_start, "__defaults__", (120.0,))


@pytest.mark.usefixtures("here")
def test_a_sweep_goes_from_a_spec_to_a_figure_and_leaves_no_secret_behind(
    team: Team, cluster: str, ada: tuple[str, str], folder: Path, sweeps: Callable[..., Said], tmp_path: Path
) -> None:
    url = "s3://sweeps/team.zarr"
    spec = write_toml(tmp_path / "team.toml", {**SPEC, "store": {"url": url}})
    submitted = sweeps("submit", spec, "--address", cluster)
    assert submitted.code == 0, submitted.err
    commands = all_commands()
    watched = sweeps("watch", submitted.out.strip(), "--address", cluster)
    assert watched.code == 0, watched.out

    # the numbers: in S3, and those of this process
    local = ZarrStore.create("local.zarr", Sweep.of(SPEC))
    list(run(local, Inline("cpu")))
    assert ZarrStore.open(url).content_hash() == local.content_hash()
    assert open_sweep(url).load().equals(open_sweep("local.zarr").load())
    drawn = sweeps("plot", url, "--out", "team.png")
    assert drawn.code == 0, drawn.err
    assert Path("team.png").read_bytes().startswith(b"\x89PNG")

    # the runs: on the server, ada's, their artifacts in S3
    from mlflow import MlflowClient

    client = MlflowClient()
    found = client.get_experiment_by_name("sweeps")
    assert found
    assert found.artifact_location.startswith("mlflow-artifacts:/")
    listed = client.search_runs([found.experiment_id])
    assert {r.data.tags["sweeps.slice"] for r in listed} == {"all", "size=2", "size=8"}
    assert {r.info.status for r in listed} == {"FINISHED"}
    assert {r.data.tags["sweeps.store"] for r in listed} == {url}
    objects = stored(team)
    assert any(key.startswith("mlflow/") and key.endswith("/spec.json") for key in objects)
    assert any(key.startswith("mlflow/") and key.endswith(".png") for key in objects)

    assert scraped(team, submitted.out.strip(), len(local.plan)) == len(local.plan)

    # and no secret is anywhere but in its file
    commands |= all_commands()
    hidden = {name: (team.folder / "secrets" / name).read_text() for name in os.listdir(team.folder / "secrets")}
    hidden["mlflow_pgpass"] = hidden["mlflow_pgpass"].rpartition(":")[2]
    del hidden["s3_user"]  # a name
    hidden |= {"ada": ada[1], "ray": token()}
    assert all(len(secret) > 16 for secret in hidden.values())
    files = contents(folder)
    assert {"mlflow.log", "postgresql.log", "s3.log", "prometheus.log", "team.sh"} <= {Path(p).name for p in files}
    held = files | objects
    held |= {"runs": repr([r.to_dictionary() for r in listed]).encode(), "commands": "\n".join(commands).encode()}
    held |= {"said": "".join([team.said, *map(repr, (submitted, watched, drawn))]).encode()}
    held |= {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert b"serve_mlflow.py" in held["commands"] or b"basic-auth" in held["commands"]
    assert b"raylet" in held["commands"]
    leaks = [(name, place) for name, secret in hidden.items() for place, b in held.items() if secret.encode() in b]
    assert leaks == []


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the secrets themselves; of those that come and go meanwhile, what was there."""
    found = {}
    for place, below, names in os.walk(folder):
        below[:] = [name for name in below if name != "secrets"]
        for path in (Path(place, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and not path.is_symlink():
                    found[str(path)] = path.read_bytes()
    return found


def all_commands() -> set[str]:
    """Every command line of this machine, as every user of it can read them."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.add((process / "cmdline").read_text(errors="replace").replace("\0", " "))
    return found


def token() -> str:
    return subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "get-auth-token"], capture_output=True, text=True, check=True
    ).stdout.strip()


def stored(team: Team) -> dict[str, bytes]:
    """Every object of every bucket."""
    import boto3

    s3 = boto3.client("s3")
    found = {}
    for bucket in (b["Name"] for b in s3.list_buckets()["Buckets"]):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", ()):
                found[f"{bucket}/{item['Key']}"] = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
    return found


def scraped(team: Team, submission: str, blocks: int) -> float:
    """The blocks that Prometheus counts, once it has asked the head after their end."""
    query = f'max_over_time(ray_sweeps_blocks_done_total{{submission_id="{submission}"}}[1h])'
    deadline, value = time.monotonic() + 90, 0.0
    while time.monotonic() < deadline and value < blocks:
        asked = requests.get(f"http://{team.address('Prometheus')}/api/v1/query", params={"query": query}, timeout=30)
        value = sum(float(found["value"][1]) for found in asked.json()["data"]["result"])
        time.sleep(0.5)
    return value


def test_postgresql_runs_without_what_is_in_our_environment(team: Team) -> None:
    began = psutil.Process(team.process.pid).children()
    known = next(p.environ() for p in began if p.name() == "postgres")
    assert known["PATH"] == os.environ["PATH"]
    assert known.keys() <= {"PATH", "LANG", "LC_ALL", "TZ"}


def test_prometheus_looks_where_our_own_cluster_says_which_nodes_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SWEEPS_RAY_FOLDER", raising=False)
    monkeypatch.setattr(heads, "TEMPORARY", tmp_path)
    monkeypatch.setattr(heads, "heads", list)
    monkeypatch.setattr(heads, "ensure_token", lambda environment: None)
    monkeypatch.setattr(servers.shutil, "which", lambda name: name)

    def stop(command: list[str], **_: Any) -> None:
        raise InterruptedError(*command)

    monkeypatch.setattr(heads.subprocess, "run", stop)
    with pytest.raises(InterruptedError) as started:
        heads.start(print)
    assert servers.prometheus(servers.Place(tmp_path))
    looked = os.readlink(tmp_path / "prometheus" / "ray")
    assert f"--temp-dir={looked}" in started.value.args


def test_the_configuration_of_prometheus_is_checked_by_its_own_tool(folder: Path) -> None:
    place = folder / "checked"
    shutil.copytree(ROOT / "deploy" / "compose", place)
    (place / "ray").mkdir()
    (place / "ray" / "prom_metrics_service_discovery.json").write_text('[{"targets": ["127.0.0.1:1"]}]')
    good = subprocess.run(["promtool", "check", "config", place / "prometheus.yml"], capture_output=True, text=True)
    assert (good.returncode, good.stderr) == (0, "")
    spoilt = (place / "prometheus.yml").read_text().replace("refresh_interval", "refresh_intervall")
    (place / "prometheus.yml").write_text(spoilt)
    bad = subprocess.run(["promtool", "check", "config", place / "prometheus.yml"], capture_output=True, text=True)
    assert bad.returncode == 1
    assert "refresh_intervall not found" in bad.stderr


def test_what_cannot_start_is_one_line_and_exit_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        servers.main([])
    monkeypatch.setattr(servers, "SIGNALS", ())  # they are this process's
    assert "usage" in str(end.value.code)
    monkeypatch.setattr(servers, "binaries", lambda: None)
    with pytest.raises(SystemExit) as end:
        servers.main([str(tmp_path / "a")])
    assert end.value.code == 2
    assert (
        capsys.readouterr().err == "error: PostgreSQL's server is not installed (Debian: apt-get install postgresql)\n"
    )
