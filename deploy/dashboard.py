"""The way to a cluster: its dashboard's HTTP address, Ray's token, and every failure in one line.

The token is Ray's own affair: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token. Ray's client reads it and
puts it into a header; nothing here ever holds it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from urllib.parse import urlsplit

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from deploy import heads
from sweeps.errors import RefusedError

ADDRESS = "RAY_API_SERVER_ADDRESS"
ANSWER_SECONDS = 30.0
KNOCK_SECONDS = 5.0
TAKEN, EARLY, NO_FILE = "already exists", "No available agent", "A file is not found at"
PLACES = "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or put the cluster's token into ~/.ray/auth_token"
HOW = "give the dashboard's address, such as http://host:8265"

QUIET = (
    "ray.dashboard.modules.dashboard_sdk",  # tells of uploads, as does the next
    "ray._private.runtime_env.packaging",
    "ray._private.authentication.http_token_authentication",  # tells of a missing token, and we do
)
for chatty in QUIET:
    logging.getLogger(chatty).setLevel(logging.ERROR)


class TakenError(RefusedError):
    """A job of that id is there already."""


class EarlyError(RefusedError):
    """The cluster takes no jobs: it has just come up, or another one on its machine holds the port of its agent."""


class Dashboard(JobSubmissionClient):
    """Ray's client of one cluster, but patient for ANSWER_SECONDS only, and its errors are ours."""

    def __init__(self, address: str) -> None:
        _knock(address)
        with _only(address), in_one_line(address):
            super().__init__(address)
            self._ssl_context = True  # the default; Ray gives aiohttp None, which it warns of
            found = self._do_request("GET", "/api/version").json()
            self.address, self.ray, self.session = address, str(found["ray_version"]), str(found["session_name"])

    @property
    def is_here(self) -> bool:
        """Whether the head of this cluster runs on this machine (an address alone may be a forwarded port)."""
        return self.session in {head.session for head in heads.heads()}

    def tail(self, node: str, file: str, lines: int) -> str:
        """The last lines of a log file on a node; -1 for all."""
        return "".join(self.read(node, file, lines))

    def read(self, node: str, file: str, lines: int) -> Iterator[str]:
        """A log file on a node, piece by piece; nothing before it is there."""
        wanted = {"node_id": node, "filename": file, "lines": str(lines), "timeout": "600"}
        answer = self._do_request("GET", "/api/v0/logs/file", params=wanted, stream=True)
        if answer.status_code != 200:
            if NO_FILE in answer.text:
                return
            self._raise_error(answer)
        with in_one_line(self.address):
            for piece in answer.iter_lines(chunk_size=2**16):
                yield piece.decode(errors="replace") + "\n"

    def nodes(self) -> list[tuple[str, bool]]:
        """(id, whether it is the head) of every node that is alive."""
        said = self._do_request("GET", "/nodes", params={"view": "summary"})
        if said.status_code != 200:
            self._raise_error(said)
        found = [node["raylet"] for node in said.json()["data"]["summary"]]
        return [(node["nodeId"], bool(node["isHeadNode"])) for node in found if node["state"] == "ALIVE"]

    def logs_of(self, node: str) -> None:
        """Ask a node's agent for the names of its logs.

        Raises:
            RefusedError: it does not answer.
        """
        answer = self._do_request("GET", "/api/v0/logs", params={"node_id": node, "glob": "*"})
        if answer.status_code != 200:
            self._raise_error(answer)

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:  # type: ignore[override]
        with in_one_line(getattr(self, "_address", "")):
            return super()._do_request(method, endpoint, **{"timeout": ANSWER_SECONDS, **options})

    def _raise_error(self, r: requests.Response) -> NoReturn:
        lines = [line.strip() for line in r.text.splitlines() if line.strip()]
        reason = lines[-1][:300] if lines else f"status {r.status_code}"
        if EARLY in reason:
            why = "its agent does not answer; several clusters on one machine must not share Ray's agent port, 52365"
            raise EarlyError(f"the Ray cluster at {self._address} takes no jobs: {why}")
        kind = TakenError if TAKEN in reason else RefusedError
        raise kind(f"the Ray cluster at {self._address} says: {reason}")


def connect(
    address: str | None = None, *, start: bool = False, say: Callable[[str], None] = lambda _: None
) -> Dashboard:
    """The cluster at an address; else at RAY_API_SERVER_ADDRESS, or RAY_ADDRESS if it is a dashboard's; else the
    newest that runs on this machine; else, with `start`, one that is started here.

    Raises:
        RefusedError: nobody is there, or the token is missing or wrong.
    """
    known = given(address)
    if known is not None:
        return Dashboard(_checked(known))
    running = [head for head in heads.heads() if head.dashboard]
    if not running and not start:
        raise RefusedError(
            f"no Ray cluster with a dashboard runs on this machine; {HOW} with --address, or in {ADDRESS}"
        )
    head = running[0] if running else heads.start(say)
    return Dashboard(f"http://{head.dashboard}")


def given(address: str | None) -> str | None:
    """The address that is given, here or in the environment; None where one is to be found."""
    if address is not None:
        return None if address == "auto" else address
    other = os.environ.get("RAY_ADDRESS", "")
    return os.environ.get(ADDRESS) or (other if other.startswith(("http://", "https://")) else None)


def _checked(address: str) -> str:
    if "@" in address:
        raise RefusedError(f"the address carries a user or a password, which would be shown to others; {HOW}")
    with contextlib.suppress(ValueError):  # of a port, or an IPv6 address, that is none
        parts = urlsplit(address)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0):
            return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    raise RefusedError(f"{HOW}, got {address!r}")


def _knock(address: str) -> None:
    """See first whether anybody listens: Ray's client would try for long."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=KNOCK_SECONDS).close()
    except UnicodeError:
        raise RefusedError(f"{HOW}, got {address!r}; no host is called {parts.hostname!r}") from None
    except OSError as error:
        raise RefusedError(f"no Ray dashboard at {address}: nobody listens there ({error})") from None


@contextlib.contextmanager
def _only(address: str) -> Iterator[None]:
    """Ray's client lets the environment overrule the address it is given."""
    before = os.environ.get(ADDRESS)
    os.environ[ADDRESS] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[ADDRESS]
        else:
            os.environ[ADDRESS] = before


@contextlib.contextmanager
def in_one_line(address: str) -> Iterator[None]:
    """What Ray's client and the network raise, as a RefusedError."""
    try:
        yield
    except RefusedError:
        raise
    except AuthenticationError as error:
        known = str(error).lstrip().startswith("Authentication failed")
        why = "does not know this token" if known else "asks for a token, and there is none here"
        raise RefusedError(f"the Ray cluster at {address} {why}; {PLACES}") from None
    except (requests.RequestException, aiohttp.ClientError, ConnectionError, TimeoutError) as error:
        raise RefusedError(f"no answer from the Ray dashboard at {address}: {_reason(error)}") from None
    except (RuntimeError, ValueError, KeyError) as error:
        raise RefusedError(f"{address} is no Ray dashboard, or of another age: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}".rstrip(": ")
