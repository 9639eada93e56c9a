"""Ray clusters on this machine: those that run here, found as Ray finds them, and one of our own to start."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.loopback import ON_LOOPBACK
from sweeps.errors import RefusedError

HEAD = "node:__internal_head__"
PORT = 8265  # where a dashboard is looked for by habit
START_SECONDS = 90.0
LOG = "head.log"
TEMPORARY = Path("/tmp")
SESSIONS = "ray"  # Ray makes its folder writable for all; the one above it keeps others out


@dataclass(frozen=True)
class Head:
    """The head of a cluster on this machine, of this user. `dashboard` is empty where there is none."""

    session: str
    dashboard: str
    parent: int  # the process that started it: a Python session, or `ray start --block`
    started: float
    address: str = ""  # of its control store, for `ray.init`


def heads() -> list[Head]:
    """The heads that run here, the newest first."""
    found = []
    for process in psutil.process_iter(["name", "cmdline", "uids", "ppid", "create_time"]):
        known = process.info
        if known["name"] == "raylet" and known["uids"] and known["uids"].real == os.getuid():
            command = " ".join(known["cmdline"] or ())
            if HEAD in command and (session := _flag("session-name", command)):
                dashboard = _flag("webui", command).removesuffix("None")  # Ray says either where there is none
                address = _flag("gcs-address", command)
                found.append(Head(session, dashboard, known["ppid"], known["create_time"], address))
    return sorted(found, key=lambda head: -head.started)


def _flag(name: str, command: str) -> str:
    found = re.search(rf"--{name}=(\S*)", command)
    return found[1] if found else ""


def start(say: Callable[[str], None]) -> Head:
    """The newest head with a dashboard; one is started if there is none, and said how to end.

    Raises:
        RefusedError: Ray does not come up.
    """
    folder = own_folder()
    with _alone(folder / "lock"):
        running = [head for head in heads() if head.dashboard]
        if running:
            return running[0]
        head = _start(folder)
    say(f"started a Ray cluster on this machine, http://{head.dashboard}; end it with: kill {head.parent}")
    return head


def _start(folder: Path) -> Head:
    dashboard, client = free_port(PORT), free_port()
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *(f"--temp-dir={folder / SESSIONS}", "--include-dashboard=true", "--dashboard-host=127.0.0.1"),
        *(f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}", "--port=0"),
        *("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"),
    ]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, **ON_LOOPBACK, "PATH": path}
    environment.pop("RAY_ADDRESS", None)
    ensure_token(environment)
    script = f'cd "$1"; shift; "$@" >{LOG} 2>&1 </dev/null & echo $!'
    started = subprocess.run(
        ["sh", "-c", script, "sh", str(folder), *command],
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    pid, deadline = int(started.stdout), time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and psutil.pid_exists(pid):
        ours = [head for head in heads() if head.parent == pid and head.dashboard]
        if ours and _answers(ours[0].dashboard):
            return ours[0]
        time.sleep(0.2)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    lines = [line for line in (folder / LOG).read_text(errors="replace").splitlines() if line.strip()]
    raise RefusedError(f"Ray does not start here: {lines[-1] if lines else 'no word from it'}; see {folder / LOG}")


def ensure_token(environment: Mapping[str, str]) -> None:
    """A new machine has none. Ray makes one, but for all on the machine to read; and prints it, here to nowhere."""
    given = any(environment.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if environment.get("RAY_AUTH_MODE") == "token" and not given and not (Path.home() / ".ray" / "auth_token").exists():
        command = [sys.executable, "-m", "ray.scripts.scripts", "get-auth-token", "--generate"]
        nowhere = subprocess.DEVNULL
        subprocess.run(command, env=environment, stdout=nowhere, stderr=nowhere, check=False, umask=0o077)


def own_folder() -> Path:
    """Short, because Ray's sockets lie below it, and ours alone."""
    folder = TEMPORARY / f"sweeps-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RefusedError(f"{folder} is not a folder of yours; start a cluster yourself and give its --address")
    folder.chmod(0o700)
    return folder


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_port(wanted: int = 0) -> int:
    """The wanted port of the loopback, or any where it is taken."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
        return probe.getsockname()[1]


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True
