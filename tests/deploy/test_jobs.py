"""Sweeps as Ray Jobs, on real clusters with a dashboard: submit and forget, from here and from another machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import psutil
import pytest
import requests

from actors.inline import Inline
from deploy import doctor, heads, jobs
from deploy.dashboard import Dashboard, connect
from deploy.doctor import Finding, Patient
from deploy.heads import Head
from storage.zarr_store import ZarrStore
from sweeps import logs
from sweeps.errors import RefusedError
from sweeps.run import run
from sweeps.sweep import Sweep
from tests.deploy.conftest import Said, faulty_spec, statuses
from tests.deploy.test_loopback import listeners

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_token", "mlflow_db"), pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
BLOCKS = 24
Run = Callable[..., Said]


def ended(session: str, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if all(head.session != session for head in heads.heads()):
            return True
        time.sleep(0.2)
    return False


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """Ray's sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="sw", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A cluster as `submit` starts one; what it was said to be ended with does end it."""
    with short_folder() as folder:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_metrics_report_interval_ms", "1000")
            here = heads._start(folder)
        yield here
        os.kill(here.parent, signal.SIGTERM)
        assert ended(here.session)


@pytest.fixture
def url(head: Head) -> str:
    return f"http://{head.dashboard}"


@pytest.fixture
def dashboard(url: str) -> Dashboard:
    return connect(url)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does other things starts drivers slowly."""
    monkeypatch.setattr(jobs, "START_SECONDS", 120.0)
    monkeypatch.setattr(jobs.await_start, "__defaults__", (120.0,))


def token() -> str:
    """As Ray's command line prints it."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "get-auth-token"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def elsewhere(folder: Path, **changes: str) -> dict[str, object]:
    """A process on another machine: another directory, another home, and nothing in its environment but `changes`."""
    folder.mkdir(exist_ok=True)
    known = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token"}
    return {"cwd": folder, "env": known | changes, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


SEVERAL = """
import sys
from deploy.cli import main
for arguments in sys.argv[1:]:
    try:
        main(arguments.split())
    except SystemExit as end:
        print(f"[{end.code or 0}]", flush=True)
"""


def wait_for_blocks(job: jobs.Job, number: int) -> None:
    store = ZarrStore.open(job.store)
    while store.done().sum() < number:
        assert not job.fresh().ended, "".join(job.log())
        time.sleep(0.1)


def undisturbed(spec: Path) -> str:
    store = ZarrStore.create("undisturbed.zarr", Sweep.from_toml(spec))
    list(run(store, Inline("cpu")))
    return store.content_hash()


def flag(head: Head, name: str) -> str:
    """What the raylet of a head was started with."""
    return next(
        part.removeprefix(f"--{name}=")
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "raylet" and head.session in " ".join(process.info["cmdline"])
        for part in process.info["cmdline"]
        if part.startswith(f"--{name}=")
    )


def counted(head: Head, submission_id: str) -> dict[str, float]:
    """The samples of a job on the node's Prometheus endpoint, as name -> value."""
    port = next(Path(flag(head, "session_dir")).glob("metrics_export_port_*")).read_text().strip()
    text = requests.get(f"http://{flag(head, 'node_ip_address')}:{port}/metrics", timeout=10).text
    found = re.findall(rf'^ray_(sweeps_\w+)\{{(.*submission_id="{submission_id}".*)\}} (\S+)$', text, re.MULTILINE)
    assert all("value=" not in tags and 'sweep="faulty"' in tags for _, tags, _ in found)
    return {name: float(value) for name, _, value in found}


def test_a_sweep_is_submitted_joined_stopped_and_resumed_to_the_same_bits(
    sweeps: Run, url: str, head: Head, dashboard: Dashboard, tmp_path: Path
) -> None:
    marker = tmp_path / "go"  # until it is there, the blocks of value 2 wait for it
    spec = faulty_spec(tmp_path / "slow.toml", bad=2, how="wait", marker=str(marker))
    store = tmp_path / "results" / "faulty.zarr"
    key = "sweep-" + hashlib.sha256(f"{Sweep.from_toml(spec).fingerprint}\n{store}".encode()).hexdigest()[:16]

    # submitted, and joined by whoever submits it again
    said = sweeps("submit", spec, "--address", url)
    assert (said.code, said.out) == (0, f"{key}\n"), said.err
    assert f"watch it with: sweeps watch {key} --address {url}" in said.err
    again = sweeps("submit", spec, "--address", url)
    assert (again.code, again.out) == (0, f"{key}\n")
    assert again.err.startswith("joined: it runs already")
    other = faulty_spec(tmp_path / "other.toml", seconds=0.1)
    assert f"{key} is writing another sweep, faulty, to {store}" in sweeps("submit", other, "--address", url).err

    # seen from another machine, with the address and the token only
    secret = token()
    far = [sys.executable, "-c", SEVERAL, "list", f"status {key}", f"logs {key}", "status sweep-0"]
    seen = subprocess.Popen(far, **elsewhere(tmp_path / "far", RAY_API_SERVER_ADDRESS=url, RAY_AUTH_TOKEN=secret))  # type: ignore[call-overload]
    job = jobs.find(dashboard, key)
    wait_for_blocks(job, 4)
    out, err = seen.communicate(timeout=120)
    listing, summary, log, nothing, _ = re.split(r"^\[\d]$", out, flags=re.MULTILINE)
    assert re.findall(r"^\[\d]$", out, re.MULTILINE) == ["[0]", "[0]", "[0]", "[2]"], (out, err)
    assert key in listing
    assert f"{key}: running, faulty" in summary
    assert re.search(rf"of 24 blocks are in {store}", summary)
    assert f"resume with: sweeps submit {spec} --address {url}" in log
    assert "@sweeps" not in log
    assert (nothing.strip(), err) == ("", f"error: unknown job 'sweep-0'; known: {key}\n")

    # stopped: whole, resumable, marked, within the 3 seconds that Ray gives
    stopped = sweeps("stop", key, "--address", url)
    assert stopped.code == 0
    before = {r.block: r for r in ZarrStore.open(str(store)).receipts()}
    assert 4 <= len(before) < BLOCKS
    assert stopped.out.splitlines()[0] == f"{key}: stopped, faulty"
    assert stopped.out.splitlines()[-1] == f"resume with: sweeps submit {spec} --address {url}"
    supervisor = dashboard.tail(str(job.details.driver_node_id), f"jobs/supervisor-{key}.log", -1)
    assert "terminated gracefully with SIGTERM" in supervisor
    assert statuses(tmp_path / "mlflow.db") == ["KILLED"]
    log = "".join(jobs.find(dashboard, key).log())
    assert f"stopped; what is committed is safe in {store}; resume with: sweeps submit {spec}" in log
    assert sweeps("watch", key, "--address", url).code == 130
    time.sleep(2.0)
    held = ZarrStore.open(str(store))
    assert held.done().sum() == len(before), "nobody holds a lease any more"
    assert [held.verify(held.plan[i], "cpu") for i in before] == [[]] * len(before)

    # resumed: the missing blocks, under the next id
    marker.touch()
    said = sweeps("submit", spec, "--address", url)
    assert said.out == f"{key}-2\n", said.err
    shown = sweeps("watch", key, "--address", url)
    assert shown.code == 0, shown.out
    assert f"{key}-2: succeeded, faulty" in shown.out
    assert f"24 of 24 blocks are in {store}" in shown.out
    after = {r.block: r for r in held.receipts()}
    assert len(after) == BLOCKS
    assert {k: after[k] for k in before} == before, "no committed block is measured twice"
    assert held.content_hash() == undisturbed(spec)
    assert statuses(tmp_path / "mlflow.db") == ["FINISHED"]
    assert held.attributes["made_by"]["ray_submission_id"] == key

    # counted, by sweep
    measured = BLOCKS - len(before)
    samples = counted(head, f"{key}-2")
    assert samples["sweeps_blocks_done_total"] == measured
    assert samples["sweeps_draws_total"] == measured
    seconds = sum(r.seconds + r.writing for k, r in after.items() if k not in before)
    assert samples["sweeps_worker_seconds_total"] == pytest.approx(seconds)

    # and the token is nowhere but where Ray keeps it
    places = [*Path(flag(head, "session_dir")).rglob("*"), *tmp_path.rglob("*")]
    read = [p for p in places if p.is_file() and p.stat().st_size]
    assert len(read) > 50
    assert [p for p in read if secret.encode() in p.read_bytes()] == []
    assert not any(secret in word for p in psutil.process_iter(["cmdline"]) for word in p.info["cmdline"] or ())
    assert secret not in "".join([said.out, said.err, shown.out, shown.err, out, err, stopped.out])


def test_other_versions_are_refused_with_both_shown(
    sweeps: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploy import payload

    here = payload.versions()
    monkeypatch.setattr(payload, "versions", lambda: {**here, "relu-sweeps": "9.9.9", "rule": "77"})
    said = sweeps("submit", faulty_spec(tmp_path / "a.toml"), "--address", url)
    assert said.code == 2
    assert said.err.splitlines()[-1] == (
        f"error: this client has relu-sweeps 9.9.9, rule 77, the cluster has relu-sweeps {here['relu-sweeps']}, "
        f"rule {here['rule']}; install the same on both, or send this one along with --ship"
    )
    assert not (tmp_path / "results").exists()


def test_nobody_there_no_token_and_a_wrong_one_are_one_line_and_exit_2(url: str, tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{heads.free_port()}"
    far = [sys.executable, "-c", SEVERAL, f"list --address {away}", f"list --address {url}"]
    without = subprocess.Popen(far, **elsewhere(tmp_path / "a"))  # type: ignore[call-overload]
    wrong = subprocess.Popen(far, **elsewhere(tmp_path / "b", RAY_AUTH_TOKEN="0" * 64))  # type: ignore[call-overload]
    (out, lines), (others, more) = without.communicate(timeout=200), wrong.communicate(timeout=200)
    assert out == others == "[2]\n[2]\n", lines + more
    nobody = f"error: no Ray dashboard at {away}: nobody listens there ([Errno 111] Connection refused)"
    how = "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or put the cluster's token into ~/.ray/auth_token"
    none = f"error: the Ray cluster at {url} asks for a token, and there is none here; {how}"
    unknown = f"error: the Ray cluster at {url} does not know this token; {how}"
    assert (lines.splitlines(), more.splitlines()) == ([nobody, none], [nobody, unknown])


def test_without_an_address_the_cluster_of_this_machine_is_found(
    head: Head, sweeps: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert head in heads.heads()
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(heads, "heads", lambda: [head])
    found = connect()
    assert (found.address, found.session, found.is_here) == (f"http://{head.dashboard}", head.session, True)
    assert heads.start(lambda text: pytest.fail(text)) == head
    monkeypatch.setattr(heads, "heads", list)
    assert not found.is_here
    said = sweeps("list")
    assert said.code == 2
    assert said.err.startswith("error: no Ray cluster with a dashboard runs on this machine; give the dashboard's")


def test_it_listens_on_loopback_alone_and_asks_everybody_for_the_token(head: Head, url: str) -> None:
    deadline = time.monotonic() + 60
    found = listeners(psutil.Process(head.parent))
    while not {"gcs_server", "raylet"} <= {name for name, _ in found}:  # a new cluster is not whole yet
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
        found = listeners(psutil.Process(head.parent))
    assert {address for _, address in found} == {"127.0.0.1"}, found
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {'0' * 64}"}, 403)):
        asked = requests.post(f"{url}/api/jobs/", json={"entrypoint": "id"}, headers=headers, timeout=30)
        assert asked.status_code == status
        assert requests.get(f"{url}/nodes?view=summary", headers=headers, timeout=30).status_code == status


def test_the_doctor_asks_a_real_cluster(url: str) -> None:
    deadline = time.monotonic() + 60  # a new cluster has no node yet, or one without an agent
    while (well := next(doctor.examine(Patient(address=url), ["cluster"]))).state != "ok":
        assert time.monotonic() < deadline, well
        time.sleep(0.2)
    said = f"Ray {metadata.version('ray')} at {url} knows the token; 1 nodes, and the head's agent answers"
    assert well == Finding("cluster", "ok", said)
    (clock,) = doctor.examine(Patient(address=url), ["clock"])
    assert clock == Finding("clock", "ok", "agrees with the Ray dashboard")


def test_the_doctor_finds_a_token_that_is_wrong_or_missing(url: str, tmp_path: Path) -> None:
    code = f"""
from deploy import doctor
(found,) = doctor.examine(doctor.Patient(address={url!r}), ["cluster"])
print(found.state, found.text)
"""
    far = [sys.executable, "-c", code]
    wrong = subprocess.Popen(far, **elsewhere(tmp_path / "a", RAY_AUTH_TOKEN="0" * 64))  # type: ignore[call-overload]
    without = subprocess.Popen(far, **elsewhere(tmp_path / "b"))  # type: ignore[call-overload]
    (said, _), (other, _) = wrong.communicate(timeout=120), without.communicate(timeout=120)
    assert said.startswith(f"fault the Ray cluster at {url} does not know this token; set RAY_AUTH_TOKEN")
    assert other.startswith(f"fault the Ray cluster at {url} asks for a token, and there is none here")


def test_a_job_logs_as_json_where_it_was_submitted_so_and_is_watched_all_the_same(
    sweeps: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(logs.FORMAT, "json")
    said = sweeps("submit", faulty_spec(tmp_path / "json.toml", bad=3, how="raise"), "--address", url)
    assert said.code == 0, said.err
    name = said.out.strip()
    monkeypatch.setenv(logs.FORMAT, "plain")
    shown = sweeps("watch", name, "--address", url)
    assert shown.code == 3, shown.out
    assert "20 of 24 blocks are in" in shown.out
    told = sweeps("logs", name, "--address", url).out.splitlines()
    ours = [json.loads(line) for line in told if line.startswith("{")]
    assert len(ours) >= BLOCKS
    assert all("job_manager" in line or line.startswith("Running entrypoint") for line in told if line[0] != "{")
    assert {(line["submission_id"], line["sweep"]) for line in ours} == {(name, "faulty")}
    assert len({line["block"] for line in ours if line["message"] == "block done"}) == 20


SESSION = """
import functools, ray, sys, time
from ray._private.parameter import RayParams  # another cluster here may hold the port that ray.init wants
RayParams.__init__ = functools.partialmethod(RayParams.__init__, dashboard_agent_listen_port=0)
ray.init(address="local", include_dashboard=True, dashboard_port=int(sys.argv[1]), num_cpus=1, log_to_driver=False,
         _temp_dir=sys.argv[2])
time.sleep(600)
"""


@pytest.fixture
def bare() -> Iterator[str]:
    """The cluster of a Python session, `ray.init()` with a dashboard, whose Python has all but this package."""
    with short_folder() as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        packages = next((folder / "venv" / "lib").glob("python*")) / "site-packages"
        (packages / "all.pth").write_text(os.path.dirname(os.path.dirname(pytest.__file__)))
        python, port = folder / "venv" / "bin" / "python", heads.free_port()
        plugin = os.pathsep.join(p for p in os.environ["PYTHONPATH"].split(os.pathsep) if Path(p) != ROOT)
        known = os.environ | {"PYTHONPATH": plugin, "RAY_AUTH_MODE": "token"}
        lacks = subprocess.run([python, "-c", "import deploy"], env=known, capture_output=True, text=True, cwd=folder)
        assert "No module named 'deploy'" in lacks.stderr
        process = subprocess.Popen([python, "-c", SESSION, str(port), str(folder)], env=known, cwd=folder)
        try:
            deadline = time.monotonic() + 120
            while all(head.dashboard != f"127.0.0.1:{port}" for head in heads.heads()) and time.monotonic() < deadline:
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def test_a_cluster_that_lacks_the_package_gets_it_shipped(sweeps: Run, bare: str, tmp_path: Path) -> None:
    spec = faulty_spec(tmp_path / "failing.toml", bad=3)
    said = sweeps("submit", spec, "--address", bare)
    assert said.code == 2
    assert said.err.splitlines()[-1] == (
        "error: the cluster has no relu-sweeps; install it there, or send this one along with --ship"
    )
    shipped = sweeps("submit", spec, "--address", bare, "--ship")
    assert shipped.code == 0, shipped.err
    name = shipped.out.strip()
    assert name.endswith("-2")
    shown = sweeps("watch", name, "--address", bare)
    assert shown.code == 3, "".join(jobs.find(connect(bare), name).log())
    assert "20 of 24 blocks are in" in shown.out
    assert ", 4 failed" in shown.out
    assert shown.out.splitlines()[-1] == f"resume with: sweeps submit {spec} --address {bare} --ship"
    log = "".join(jobs.find(connect(bare), name).follow())
    assert "ArithmeticError: no answer at value 3" in log
    assert f"4 blocks failed, 20 are in {tmp_path}/results/faulty.zarr" in log
    store = ZarrStore.open("results/faulty.zarr")
    assert [store.verify(store.plan[int(i)], "cpu") for i in store.done().nonzero()[0]] == [[]] * 20
    assert store.attributes["made_by"]["ray_submission_id"] == name


def test_a_relative_store_is_refused_on_another_machine(
    dashboard: Dashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "heads", list)
    with pytest.raises(RefusedError, match=r"store.url 'results/faulty.zarr' is relative, and the cluster is not on"):
        jobs.place(dashboard, faulty_spec(tmp_path / "a.toml"))
