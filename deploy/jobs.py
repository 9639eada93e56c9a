"""Sweeps as Ray Jobs: submit and forget, find again, follow, stop. Everything goes through the dashboard's HTTP.

A job's id is made of the sweep's fingerprint and its store, so that it says whether two submissions mean the same.
Ray takes an id only once: the second attempt at a sweep is `<id>-2`, and so on. At most one attempt runs at a time.
"""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import chain
from pathlib import Path

from ray.job_submission import JobDetails, JobStatus

from deploy import payload as travel
from deploy import wheel
from deploy.board import PREFIX, Board, last
from deploy.dashboard import Dashboard, EarlyError, TakenError, connect, in_one_line
from deploy.payload import Payload
from storage.slices import public
from storage.zarr_store import ZarrStore
from sweeps import logs
from sweeps.errors import RefusedError, unknown
from sweeps.sweep import Sweep

ID = re.compile(r"^(sweep-[0-9a-f]{16})(?:-(\d+))?$")
START_SECONDS = 20.0  # a submission waits for its driver's first word
STOP_SECONDS = 20.0
AGENT_SECONDS = 60.0  # a new cluster may take no jobs yet
PAUSE = 0.3
TAIL = 400  # lines of a log in which the last board is looked for
NAME, STORE, AGAIN = "job_name", "sweeps.store", "sweeps.again"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A sweep's job on a cluster."""

    dashboard: Dashboard
    details: JobDetails

    @property
    def id(self) -> str:
        return str(self.details.submission_id)

    @property
    def status(self) -> JobStatus:
        return self.details.status

    @property
    def ended(self) -> bool:
        return self.status.is_terminal()

    @property
    def name(self) -> str:
        return self._about(NAME)

    @property
    def store(self) -> str:
        return self._about(STORE)

    @property
    def again(self) -> str:
        """The command that runs the sweep again, from where it is."""
        return self._about(AGAIN)

    def _about(self, key: str) -> str:
        return (self.details.metadata or {}).get(key, "")

    @property
    def order(self) -> tuple[str, int]:
        key, attempt = _parts(self.id)
        return key, attempt

    @property
    def exit(self) -> int | None:
        """The sweep's exit status, as that of `sweeps run`; None while it runs."""
        if not self.ended:
            return None
        if self.status == JobStatus.STOPPED:
            return 130
        code = self.details.driver_exit_code
        if code is None or code < 0:  # killed by a signal
            return int(self.status != JobStatus.SUCCEEDED)
        return int(code)

    def fresh(self) -> Job:
        return replace(self, details=self.dashboard.get_job_info(self.id))

    def tail(self, lines: int = TAIL) -> str:
        """The end of the job's log; empty before it has one."""
        node = self.details.driver_node_id
        return self.dashboard.tail(node, f"job-driver-{self.id}.log", lines) if node else ""

    def board(self) -> Board | None:
        """The last board that the driver wrote, if it is near the end of its log."""
        return last(self.tail())

    def log(self) -> Iterator[str]:
        """The lines of the job's log, less its boards; of a job that ended without one, what Ray says."""
        node = self.details.driver_node_id
        return self._or_why(self.dashboard.read(node, f"job-driver-{self.id}.log", -1) if node else iter(()))

    def follow(self) -> Iterator[str]:
        """The same from the beginning, and on until the job ends."""
        return self._or_why(self._followed())

    def _followed(self) -> Iterator[str]:
        pieces = self.dashboard.tail_job_logs(self.id)
        with in_one_line(self.dashboard.address), asyncio.Runner() as runner:
            yield from _lines(lambda: runner.run(anext(pieces, None)))  # type: ignore[arg-type]

    def _or_why(self, lines: Iterator[str]) -> Iterator[str]:
        first = next(lines, None)
        if first is not None:
            yield from _spoken(chain([first], lines))
        elif (now := self.fresh()).ended and now.details.message:
            yield now.details.message.rstrip() + "\n"


def jobs(dashboard: Dashboard) -> list[Job]:
    """All sweeps that the cluster remembers, in the order of their submission."""
    found = [Job(dashboard, d) for d in dashboard.list_jobs() if d.submission_id and ID.match(d.submission_id)]
    return sorted(found, key=lambda job: job.details.start_time or 0)


def find(dashboard: Dashboard, name: str) -> Job:
    """The job of an id; without a number, its last attempt (`-1` names the first).

    Raises:
        UnknownNameError: no such job.
    """
    there = jobs(dashboard)
    matching = attempts(there, name) or [j for j in there if j.order == _parts(name)]
    if not matching:
        raise unknown("job", name, {j.order[0] for j in there})
    return matching[-1]


def attempts(there: list[Job], key: str) -> list[Job]:
    return sorted((j for j in there if j.order[0] == key), key=lambda job: job.order)


def submit(
    spec: Sweep | ZarrStore | str | Path,
    address: str | None = None,
    ship: bool = False,
    *,
    workers: int | None = None,
    say: Callable[[str], None] = log.warning,
) -> str:
    """Run a sweep on a cluster and leave; the id of its job. One that runs already is joined.

    Args:
        spec: a sweep, its TOML file or catalog name; or a store or its URL, to resume what it holds.
        address: the dashboard's, such as http://host:8265; by default as `deploy.dashboard.connect` finds it, and
            where there is none a cluster is started on this machine.
        ship: send this package along, for a cluster that lacks it.
        workers: by default one per GPU, else per CPU core.
        say: told of a cluster that was started here, and of a tracking URI that does not travel.

    Raises:
        RefusedError: nobody there, no token, versions differ, or the driver ended at once with an error.
        SweepsError: the spec is wrong.
    """
    dashboard = connect(address, start=True, say=say)
    job, _ = place(dashboard, spec, ship=ship, workers=workers, say=say)
    await_start(job)
    return job.id


def place(
    dashboard: Dashboard,
    spec: Sweep | ZarrStore | str | Path,
    *,
    ship: bool = False,
    workers: int | None = None,
    say: Callable[[str], None] = log.warning,
) -> tuple[Job, bool]:
    """Give a sweep to a cluster, or find it running there: its job, and whether it was joined."""
    differing = travel.differing_ray(metadata.version("ray"), dashboard.ray)
    if differing:
        raise RefusedError(f"{differing}; install the same on both")
    bag = _payload(dashboard, spec, ship, workers, say)
    key, deadline = bag.id, time.monotonic() + AGENT_SECONDS
    while True:
        there = jobs(dashboard)
        before = attempts(there, key)
        if before and not before[-1].ended:
            return before[-1], True
        _refuse_other(there, bag.store)
        bag = replace(bag, id=f"{key}-{before[-1].order[1] + 1}" if before else key)
        try:
            _send(dashboard, bag)
        except TakenError:
            continue  # somebody was faster: join that one
        except EarlyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE)
            continue
        return find(dashboard, bag.id), False


def _payload(
    dashboard: Dashboard,
    spec: Sweep | ZarrStore | str | Path,
    ship: bool,
    workers: int | None,
    say: Callable[[str], None] = log.warning,
) -> Payload:
    again = ["--address", dashboard.address, *["--ship"] * ship]
    return travel.made(spec, here=dashboard.is_here, again=again, workers=workers, shipped=ship, say=say)


def _refuse_other(there: list[Job], store: str) -> None:
    """Two sweeps in one store cannot both be right; the driver would say so too, later."""
    other = next((j for j in there if not j.ended and j.store == public(store)), None)
    if other is not None:
        raise RefusedError(
            f"{other.id} is writing another sweep, {other.name}, to {other.store}; give another store.url"
        )


def _send(dashboard: Dashboard, bag: Payload) -> None:
    with tempfile.TemporaryDirectory(prefix="sweeps-") as scratch:
        folder = Path(scratch, "job")
        folder.mkdir()
        bag.write(folder)
        environment: dict[str, object] = {"working_dir": str(folder)}
        if bag.shipped:
            environment["py_modules"] = [str(wheel.build(Path(scratch)))]
        dashboard.submit_job(
            entrypoint=travel.ENTRYPOINT,
            submission_id=bag.id,
            runtime_env=environment,
            metadata=about(bag),
        )


def about(bag: Payload) -> dict[str, str]:
    """A job's metadata: what a client reads of it without its payload."""
    return {
        NAME: bag.name,
        STORE: public(bag.store),
        AGAIN: bag.again,
        "sweeps.key": _parts(bag.id)[0],
        "sweeps.version": bag.versions[travel.PACKAGE],
    }


def await_start(job: Job, seconds: float = START_SECONDS) -> Job:
    """Wait until the driver has said its first word, but not for longer than `seconds`: it may queue for hours.

    Raises:
        RefusedError: it has ended with an error.
    """
    deadline = time.monotonic() + seconds
    while True:
        job = job.fresh()
        if job.ended and job.exit not in (0, 3, 4):
            raise RefusedError(_why(job))
        if job.ended or time.monotonic() > deadline or job.board() is not None:
            return job
        time.sleep(PAUSE)


def _why(job: Job) -> str:
    """Why a driver ended, in one line."""
    text = "\n".join(map(logs.message, job.tail().splitlines()))
    told = [line.removeprefix("error: ") for line in text.splitlines() if line.startswith("error: ")]
    if told:
        return told[-1]
    missing = re.findall(r"No module named '?([\w.]+)'?", text)
    if missing and missing[-1].split(".")[0] in wheel.ROOMS:
        return f"the cluster has no {travel.PACKAGE}; install it there, or send this one along with --ship"
    if missing:
        return f"the cluster has no Python package {missing[-1]!r}; install what {travel.PACKAGE} depends on there"
    last_words = [line for line in (text or job.details.message or "").splitlines() if line.strip()]
    return f"{job.id} ended as {job.status}: {last_words[-1][:300] if last_words else 'no word from it'}"


def stop(job: Job, seconds: float = STOP_SECONDS) -> Job:
    """Ask a job to stop, and wait until it has: what is committed stays, and what was leased is given up.

    Raises:
        RefusedError: it has not ended after `seconds`.
    """
    job.dashboard.stop_job(job.id)
    deadline = time.monotonic() + seconds
    while not (job := job.fresh()).ended:
        if time.monotonic() > deadline:
            raise RefusedError(f"{job.id} was asked to stop {seconds:.0f} s ago and is still {job.status}; ask again")
        time.sleep(PAUSE)
    return job


def _parts(name: str) -> tuple[str, int]:
    """(key, attempt) of an id."""
    found = ID.match(name)
    return (found[1], int(found[2] or 1)) if found else (name, 1)


def _spoken(lines: Iterator[str]) -> Iterator[str]:
    return (line for line in lines if not line.startswith(PREFIX))


def _lines(more: Callable[[], str | None]) -> Iterator[str]:
    """Whole lines of a text that comes in pieces."""
    rest = ""
    while (piece := more()) is not None:
        *whole, rest = (rest + piece).split("\n")
        yield from (line + "\n" for line in whole)
    if rest:
        yield rest
