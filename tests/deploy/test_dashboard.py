"""The way to a cluster, without one: which address counts, and what becomes of answers that help nobody."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from deploy import dashboard as module
from deploy import heads, jobs
from deploy.dashboard import EarlyError, TakenError, connect
from deploy.heads import Head
from storage.zarr_store import ZarrStore
from sweeps.errors import RefusedError, UnknownNameError
from tests.conftest import SpecMaker

VERSION = {"version": "4", "ray_version": "2.60.0", "session_name": "session_x"}
Answers = Callable[..., str]
A, B = "sweep-" + "a" * 16, "sweep-" + "b" * 16


@pytest.fixture
def server() -> Iterator[Answers]:
    """A server on the loopback that says one thing to everybody."""
    running: list[HTTPServer] = []

    def start(
        status: int = 200, text: str = json.dumps(VERSION), elsewhere: int | None = None, said: str | None = None
    ) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                at_home = self.path == "/api/version"
                self.send_response(status if at_home or elsewhere is None else elsewhere)
                self.end_headers()
                self.wfile.write((text if at_home or said is None else said).encode())

            def log_message(self, *_: Any) -> None:
                pass

        running.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=running[-1].serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{running[-1].server_port}"

    yield start
    for each in running:
        each.shutdown()
        each.server_close()


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(heads, "heads", list)


def test_the_address_given_counts_before_the_environment_and_this_machine(
    server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, said, usual, here = (server() for _ in range(4))
    monkeypatch.setattr(
        heads, "heads", lambda: [Head("a", "", 1, 9.0), Head("b", here.removeprefix("http://"), 1, 8.0)]
    )
    assert connect().address == here
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.2:6379")
    assert connect().address == here, "that is no dashboard's"
    monkeypatch.setenv("RAY_ADDRESS", usual)
    assert connect().address == usual
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", said)
    assert connect().address == said
    assert connect(given + "/").address == given
    assert connect("auto").address == here
    assert module.os.environ["RAY_API_SERVER_ADDRESS"] == said


@pytest.mark.parametrize(
    "address",
    [
        *("host:8265", "ray://host:10001", "http://", "nonsense", "http://host:99999"),
        *("http://[::1:8265", "http://[x]:8265", "http://.:80", "http://a..b:80", f"http://{'a' * 64}:80"),
    ],
)
def test_an_address_that_is_none_is_refused_with_how_it_looks(address: str) -> None:
    with pytest.raises(RefusedError, match=r"give the dashboard's address, such as http://host:8265, got"):
        connect(address)


@pytest.mark.parametrize(
    "address", ["http://me:hush@host:8265", "http://me:hush/a@h:8265", "me:hush@h:1", "http://me:hush#a@h", "[hush@"]
)
def test_an_address_with_a_password_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(RefusedError, match="carries a user or a password") as refused:
        connect(address)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (401, "Unauthorized", "asks for a token, and there is none here; set RAY_AUTH_TOKEN"),
        (403, "Forbidden", "does not know this token; set RAY_AUTH_TOKEN"),
        (404, "", "is no Ray dashboard, or of another age"),
        (500, "oh", "no answer from the Ray dashboard"),
        (200, "<html>hello</html>", "no answer from the Ray dashboard|is no Ray dashboard"),
        (200, "{}", "is no Ray dashboard, or of another age"),
    ],
)
def test_an_answer_that_helps_nobody_is_one_line(server: Answers, status: int, text: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message) as refused:
        connect(server(status, text))
    assert len(str(refused.value).splitlines()) == 1


def test_a_refusal_of_the_server_is_its_last_line_and_a_taken_id_is_told_apart(server: Answers) -> None:
    there = connect(server(elsewhere=500))
    with pytest.raises(RefusedError, match=f"the Ray cluster at {there.address} says: "):
        there.list_jobs()
    answer = SimpleNamespace(
        text="Traceback\n  File x\nValueError: Job with submission_id a already exists. Use\n", status_code=400
    )
    with pytest.raises(TakenError):
        there._raise_error(answer)  # type: ignore[arg-type]
    answer.text = "No available agent to submit job, please try again later."
    with pytest.raises(EarlyError):
        there._raise_error(answer)  # type: ignore[arg-type]


# --- logs ---


def details(name: str | None, status: JobStatus, start: int = 0, **metadata: str) -> Any:
    return SimpleNamespace(
        submission_id=name,
        status=status,
        start_time=start,
        metadata=metadata,
        driver_node_id=None,
        driver_exit_code=None,
        message="Job supervisor actor failed to start.",
    )


class Words:
    """As much of a dashboard as a job's log needs."""

    def __init__(self, status: JobStatus, *lines: str) -> None:
        self.address, self.status, self.lines = "http://x", status, lines

    def read(self, *_: Any) -> Iterator[str]:
        return iter(self.lines)

    async def tail_job_logs(self, _: str) -> Any:
        for line in self.lines:
            yield line

    def get_job_info(self, name: str) -> Any:
        return details(name, self.status)


def job_of(dashboard: Any, status: JobStatus = JobStatus.RUNNING, **changes: Any) -> jobs.Job:
    return jobs.Job(dashboard, SimpleNamespace(**{**vars(details(A, status)), **changes}))  # type: ignore[arg-type]


def test_a_log_that_is_not_there_yet_is_empty(server: Answers) -> None:
    there = connect(server(elsewhere=500, said="A file is not found at: /tmp/ray/session_x/logs/job-driver-a.log"))
    job = job_of(there, driver_node_id="node")
    assert (job.tail(), job.board(), list(there.read("node", "a.log", -1))) == ("", None, [])
    broken = job_of(connect(server(elsewhere=500, said="no such node")), driver_node_id="node")
    with pytest.raises(RefusedError, match="says: no such node"):
        broken.tail()


@pytest.mark.parametrize("node", [None, "node"])
def test_the_log_of_a_job_that_ended_without_a_word_is_why(node: str | None) -> None:
    for status, expected in ((JobStatus.FAILED, ["Job supervisor actor failed to start.\n"]), (JobStatus.PENDING, [])):
        job = job_of(Words(status), driver_node_id=node)
        assert list(job.log()) == list(job.follow()) == expected
    spoken = job_of(Words(JobStatus.FAILED, "hello\n", "@sweeps {}\n", "bye\n"), driver_node_id="node")
    assert list(spoken.log()) == list(spoken.follow()) == ["hello\n", "bye\n"]


def test_a_log_that_cannot_be_followed_is_one_line(server: Answers) -> None:
    there = connect(server(elsewhere=403))
    with pytest.raises(
        RefusedError, match=r"^no answer from the Ray dashboard at \S+: WSServerHandshakeError"
    ) as refused:
        list(job_of(there).follow())
    there._address = f"http://127.0.0.1:{heads.free_port()}"
    with pytest.raises(RefusedError, match=r"^no answer from the Ray dashboard at \S+: ClientConnectorError") as gone:
        list(job_of(there).follow())
    assert all(len(str(error.value).splitlines()) == 1 for error in (refused, gone))


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (JobStatus.RUNNING, None, None),
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 4, 4),
        (JobStatus.FAILED, -9, 1),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, -15, 130),
    ],
)
def test_a_job_ends_with_the_status_of_its_driver(status: JobStatus, code: int | None, expected: int | None) -> None:
    assert job_of(None, status, driver_exit_code=code).exit == expected


# --- attempts ---


class Cluster:
    """As much of a dashboard as finding and placing need."""

    address, ray, is_here = "http://x", "2.60.0", True

    def __init__(self, *there: Any) -> None:
        self.there, self.sent = list(there), []

    def list_jobs(self) -> list[Any]:
        return list(self.there)

    def submit_job(self, **options: Any) -> None:
        self.sent.append(options)
        self.there.append(details(options["submission_id"], JobStatus.PENDING, 99, **options["metadata"]))


def test_an_id_without_a_number_is_its_last_attempt() -> None:
    ends = [(f"{A}-{i}", JobStatus.FAILED) for i in (10, 2)]
    there = Cluster(
        *(
            details(*e)
            for e in [
                *ends,
                (A, JobStatus.STOPPED),
                (B, JobStatus.RUNNING),
                ("raysubmit_x", JobStatus.RUNNING),
                (None, JobStatus.RUNNING),
            ]
        )
    )
    assert jobs.find(there, A).id == f"{A}-10"  # type: ignore[arg-type]
    assert jobs.find(there, f"{A}-2").id == f"{A}-2"  # type: ignore[arg-type]
    assert jobs.find(there, f"{A}-1").id == A  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match=f"did you mean '{B}'"):
        jobs.find(there, "sweep-" + "b" * 15)  # type: ignore[arg-type]


def test_a_submission_takes_the_next_number_and_joins_whoever_was_faster(toy: SpecMaker) -> None:
    there = Cluster()
    sweep = toy(store={"url": "/x/toy.zarr"})
    first, joined = jobs.place(there, sweep)  # type: ignore[arg-type]
    assert not joined
    assert there.sent[0]["metadata"]["sweeps.store"] == "/x/toy.zarr"
    assert jobs.place(there, sweep) == (first, True)  # type: ignore[arg-type]
    there.there[0].status = JobStatus.FAILED
    second, joined = jobs.place(there, sweep)  # type: ignore[arg-type]
    assert (second.id, joined) == (f"{first.id}-2", False)

    there.there[1].status = JobStatus.STOPPED
    taken: list[str] = []

    def faster(**options: Any) -> None:
        taken.append(options["submission_id"])
        there.there.append(details(options["submission_id"], JobStatus.PENDING))
        raise TakenError("already exists")

    there.submit_job = faster  # type: ignore[method-assign]
    third, joined = jobs.place(there, sweep)  # type: ignore[arg-type]
    later = iter([EarlyError("No available agent"), None])

    def early(**options: Any) -> None:
        if error := next(later):
            raise error
        Cluster.submit_job(there, **options)

    there.there[2].status = JobStatus.STOPPED
    there.submit_job = early  # type: ignore[method-assign]
    assert jobs.place(there, sweep)[0].id == f"{first.id}-4"  # type: ignore[arg-type]
    assert (third.id, joined, taken) == (f"{first.id}-3", True, [f"{first.id}-3"])


def test_a_store_is_resumed_as_what_it_holds_and_tracked_to_the_server_of_this_machine(
    toy: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    sweep = toy(store={"url": "a.zarr"}, track={"by": "size"})
    store = ZarrStore.create("a.zarr", sweep)
    there = Cluster()
    bags = [jobs._payload(there, spec, False, None) for spec in (store, sweep)]  # type: ignore[arg-type]
    assert bags[0].id == bags[1].id
    assert (bags[0].sweep, bags[0].store) == (None, os.path.abspath("a.zarr"))
    expected = {"experiment": "sweeps", "by": "size", "uri": "http://127.0.0.1:5000"}
    assert [bag.track for bag in bags] == [expected, expected]


def test_a_submission_says_that_a_secret_stays_here(toy: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush@host")
    said: list[str] = []
    jobs.place(Cluster(), toy(store={"url": "/x/toy.zarr"}), say=said.append)  # type: ignore[arg-type]
    assert [text.split(" has ")[0] for text in said] == ["MLFLOW_TRACKING_URI 'http://host'"]


def test_another_minor_version_of_ray_is_refused(toy: SpecMaker) -> None:
    there = Cluster()
    there.ray = "1.99.0"
    with pytest.raises(RefusedError, match=r"this client has Ray 2.*, the cluster has Ray 1.99.0; install the same"):
        jobs.place(there, toy())  # type: ignore[arg-type]


def test_pieces_of_a_log_become_lines_less_the_boards() -> None:
    pieces = iter(["hel", "lo\n@sweeps {", "}\nwor", "ld\nend", None])
    assert list(jobs._spoken(jobs._lines(lambda: next(pieces)))) == ["hello\n", "world\n", "end"]
