"""What `sweeps doctor` asks of servers: a Ray cluster, MLflow, and all of them for the time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from importlib import metadata
from typing import TYPE_CHECKING

from deploy.doctor import FAULT, OK, WARNING, Finding, Patient
from storage.urls import is_local
from sweeps.errors import RefusedError

if TYPE_CHECKING:
    from deploy.dashboard import Dashboard

SECONDS = 5.0
SKEW, MUCH = 5.0, 300.0  # seconds; S3 refuses 900
SYNC = "set it: chronyc makestep, or timedatectl set-ntp true"


def cluster(patient: Patient) -> Iterator[Finding]:
    """The cluster that `sweeps submit` would use: it answers, knows the token, has our Ray and takes jobs."""
    from deploy import heads
    from deploy.dashboard import ADDRESS, connect, given
    from deploy.payload import differing_ray

    address = given(patient.address)
    if address is None and not any(head.dashboard for head in heads.heads()):
        yield Finding("cluster", OK, f"none is named ({ADDRESS}) and none runs here; `sweeps submit` would start one")
        return
    try:
        there = connect(address)
        differing = differing_ray(metadata.version("ray"), there.ray)
        if differing:
            yield Finding("cluster", FAULT, f"{there.address}: {differing}", "install the same Ray on both")
            return
        yield from _agents(there)
    except RefusedError as error:
        yield Finding("cluster", FAULT, str(error), "a head must run there, and its token be here")


def _agents(there: Dashboard) -> Iterator[Finding]:
    """A job is started by the agent of the head's node; it is asked for the names of its logs."""
    nodes = there.nodes()
    head = next((node for node, is_head in nodes if is_head), None)
    if head is None:
        text = f"{there.address} answers, but its head node is not alive"
        yield Finding("cluster", FAULT, text, "wait until it has come up, or start it anew")
        return
    there.logs_of(head)
    text = f"Ray {there.ray} at {there.address} knows the token; {len(nodes)} nodes, and the head's agent answers"
    yield Finding("cluster", OK, text)


def tracker(_: Patient) -> Iterator[Finding]:
    """MLflow as a sweep would use it whose spec does not say: reached, let in, of a version that fits."""
    from storage import runs

    uri = runs.resolve(None)
    shown = runs.shown(uri)
    try:
        with runs.quiet():
            _asked(uri)
        differing = _version(uri) if uri.startswith("http") else ""
    except Exception as error:
        yield Finding("tracker", FAULT, f"{shown} {runs.reason(error, uri)}", _mend(error))
        return
    if differing:
        yield Finding("tracker", WARNING, f"{shown} {differing}", "install the same MLflow on both")
    else:
        yield Finding("tracker", OK, f"{shown} answers")


def _asked(uri: str) -> None:
    """One question to the server; of a database in a file, whether it can be written."""
    import sqlite3

    from storage import runs

    path = runs.database(uri)
    if path is None:
        runs.connect(uri).search_experiments(max_results=1)
    elif path.exists():
        runs.probe(path)
        with sqlite3.connect(path, timeout=SECONDS) as found:
            found.execute("begin immediate")
            found.rollback()
        found.close()
    elif not os.access(next(p for p in path.parents if p.exists()), os.W_OK):
        raise PermissionError(f"{path.parent} is not writable")


def _mend(error: Exception) -> str:
    text = str(error)
    if "password authentication" in text:
        return "give the right password in MLFLOW_TRACKING_URI, or in PGPASSWORD; `sweeps track STORE` catches up"
    if "401" in text or "403" in text:
        return "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; `sweeps track STORE` catches up"
    return "sweeps go on without, and `sweeps track STORE` catches up; see MLFLOW_TRACKING_URI"


def _version(uri: str) -> str:
    import requests

    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    login = (user, password) if user else None
    answer = requests.get(f"{uri.rstrip('/')}/version", timeout=SECONDS, auth=login)
    theirs, ours = answer.text.strip()[:20], metadata.version("mlflow")
    if answer.status_code != 200 or theirs.split(".")[:1] == ours.split(".")[:1]:
        return ""
    return f"has MLflow {theirs}, this machine {ours}"


def clock(patient: Patient) -> Iterator[Finding]:
    """This machine's time against the Date of every server there is: of ledger, runs and signatures."""
    compared = []
    for name, url in _servers(patient).items():
        skew = _skew(url)
        if skew is None:
            continue
        compared.append(name)
        if abs(skew) > SKEW:
            text = f"this machine is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} {name}"
            more = "; S3 refuses requests from 900 s on" if abs(skew) > MUCH else ""
            yield Finding("clock", FAULT if abs(skew) > MUCH else WARNING, f"{text}{more}", SYNC)
            return
    yield Finding("clock", OK, f"agrees with {' and '.join(compared)}" if compared else "no server to compare it with")


def _servers(patient: Patient) -> dict[str, str]:
    """What can be asked for the time, by name."""
    from deploy import heads
    from deploy.dashboard import given
    from storage import objects, runs

    here = [f"http://{head.dashboard}" for head in heads.heads() if head.dashboard]
    uri = runs.resolve(None)
    endpoint = next((os.environ[n] for n in objects.ENDPOINTS if os.environ.get(n)), "https://s3.amazonaws.com")
    found = {
        "the Ray dashboard": given(patient.address) or next(iter(here), ""),
        "the tracking server": uri if uri.startswith(("http://", "https://")) else "",
        "the object store": "" if is_local(patient.store) or not patient.store.startswith("s3://") else endpoint,
    }
    return {name: url for name, url in found.items() if url}


def _skew(url: str) -> float | None:
    """Seconds by which a server is ahead; None where it does not say."""
    import requests

    before = time.time()
    try:
        with requests.get(url, timeout=SECONDS, stream=True) as answer:
            said = answer.headers.get("Date", "")
        return parsedate_to_datetime(said).timestamp() + 0.5 - (before + time.time()) / 2
    except (requests.RequestException, ValueError):
        return None
