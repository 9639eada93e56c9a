"""A team's servers on this machine, from packages: what `deploy/compose` runs in containers, to try or to test it.

`python -m deploy.servers FOLDER` starts PostgreSQL, S3, MLflow and Prometheus on 127.0.0.1, says what listens where,
and ends them all on Ctrl-C. Secrets, databases and logs stay in FOLDER. The settings are those of the containers:
`serve_mlflow.py`, `databases.sql`, `prometheus.yml` and `make_secrets.py` serve both. Two things are not: S3 is moto's
server, which keeps objects in its memory and asks for no password, and Grafana is missing, for want of a package.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deploy.compose import make_secrets
from deploy.heads import SESSIONS, free_port, own_folder
from sweeps.errors import RefusedError, SweepsError

COMPOSE = Path(__file__).parent / "compose"
HERE = "127.0.0.1"
START_SECONDS = 180.0
NOBODY = {"user": "nobody", "group": "nogroup", "extra_groups": []}
BARE = ("PATH", "LANG", "LC_ALL", "TZ")
CLIENTS = ("AWS_", "MLFLOW_", "PG")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, eq=False)
class Server:
    """What runs, on which port, and how it is seen to be there."""

    name: str
    port: int
    command: list[str | Path]
    ready: Callable[[Server], bool]
    shown: str
    """Who may use it, in words."""
    environment: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    bare: bool = False
    """Of our environment it has what BARE names, no more: other processes of its user can read it."""

    @property
    def address(self) -> str:
        return f"{HERE}:{self.port}"

    @property
    def url(self) -> str:
        return self.address if self.name == "PostgreSQL" else f"http://{self.address}"


@dataclass(frozen=True)
class Place:
    """The folder, and the names in it."""

    folder: Path

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text()

    def log(self, server: Server) -> Path:
        return self.folder / f"{server.name.lower()}.log"


def binaries() -> Path | None:
    """The folder of PostgreSQL's server programs: Debian keeps them off the PATH, one folder a version."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    found = debian[-1] if debian else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def postgres(place: Place) -> Server:
    programs = binaries()
    if programs is None:
        raise RefusedError("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    who: dict[str, Any] = NOBODY if os.geteuid() == 0 else {}  # PostgreSQL refuses root
    data = place.folder / "postgres" / "data"
    if not data.exists():
        _initialise(programs, place, data, who)
    port = free_port(5432)
    where = ["-D", data, "-p", str(port), "-h", HERE, "-c", "unix_socket_directories="]
    ask = [programs / "pg_isready", "-q", "-h", HERE, "-p", str(port)]
    return Server(
        "PostgreSQL",
        port,
        [programs / "postgres", *where],
        lambda _: subprocess.run(ask).returncode == 0,
        f"behind MLflow; its user's password is in {place.secrets / 'mlflow_pgpass'}",
        options={**who, "cwd": "/"},
        bare=True,
    )


def _initialise(programs: Path, place: Place, data: Path, who: dict[str, Any]) -> None:
    data.parent.mkdir(mode=0o700, exist_ok=True)
    key = data.parent / "key"
    key.touch(0o600)
    key.write_text(place.secret("postgres_password"))
    for path in (data.parent, key) if who else ():
        shutil.chown(path, NOBODY["user"], NOBODY["group"])
    how = ["--auth=scram-sha-256", f"--pwfile={key}", "--username=postgres", "--encoding=UTF8", "--locale=C"]
    command, options = [programs / "initdb", *how, "-D", data], {**who, "cwd": "/", "env": _bare()}
    made = subprocess.run(command, **options, capture_output=True, text=True)
    key.unlink()
    if made.returncode:
        raise RefusedError(f"PostgreSQL does not start in {data}: {made.stderr.strip().splitlines()[-1]}")


def make_databases(place: Place, server: Server) -> None:
    """MLflow's user and its two databases, at the first start."""
    done = place.folder / "postgres" / "made"
    if done.exists():
        return
    programs = Path(server.command[0]).parent
    where = ["-h", HERE, "-p", str(server.port), "-U", "postgres", "-v", "ON_ERROR_STOP=1", "--no-psqlrc", "-q"]
    known = {"PGPASSWORD": place.secret("postgres_password"), "SWEEPS_SECRETS": str(place.secrets)}
    command = [programs / "psql", *where, "-f", COMPOSE / "databases.sql"]
    made = subprocess.run(command, env=os.environ | known, capture_output=True, text=True)
    if made.returncode:
        raise RefusedError(f"MLflow's databases cannot be made: {made.stderr.strip()}")
    done.touch()


def s3(place: Place) -> Server:
    if find_spec("moto") is None:
        raise RefusedError("moto, which stands in for S3, is not installed (pip install 'moto[server]')")
    port = free_port(9000)
    command: list[str | Path] = [sys.executable, "-m", "moto.server", "-H", HERE, "-p", str(port)]
    shown = "moto, a stand-in: objects are in its memory, and any key will do; for trying, not for keeping"
    return Server("S3", port, command, _answers("/moto-api/"), shown)


def mlflow(place: Place, database: Server, objects: Server) -> Server:
    scratch = place.folder / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    port = free_port(5000)
    known = {
        "SWEEPS_SECRETS": str(place.secrets),
        "SWEEPS_DATABASE": database.address,
        "SWEEPS_S3": objects.url,
        "SWEEPS_MLFLOW_LISTEN": f"{HERE}:{port}",
        "TMPDIR": str(scratch),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), HERE),
    }
    shown = f"user {make_secrets.ADMIN}, password in {place.secrets / 'mlflow_admin_password'}"
    command: list[str | Path] = [sys.executable, COMPOSE / "serve_mlflow.py"]
    return Server("MLflow", port, command, _answers("/health"), shown, known, {"cwd": place.folder})


def prometheus(place: Place) -> Server | None:
    """The configuration of the containers, beside the folder that it reads: that of Ray's head."""
    program = shutil.which("prometheus")
    if program is None:
        return None
    folder = place.folder / "prometheus"
    folder.mkdir(exist_ok=True)
    shutil.copy(COMPOSE / "prometheus.yml", folder)
    link, ray = folder / "ray", os.environ.get("SWEEPS_RAY_FOLDER") or own_folder() / SESSIONS
    link.unlink(missing_ok=True)
    link.symlink_to(ray)
    port = free_port(9090)
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command: list[str | Path] = [program, *options, f"--web.listen-address={HERE}:{port}"]
    shown = f"no password; asks the nodes of the Ray cluster of {ray}, or of $SWEEPS_RAY_FOLDER"
    return Server("Prometheus", port, command, _answers("/-/ready"), shown)


def _answers(path: str) -> Callable[[Server], bool]:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ready(server: Server) -> bool:
        with contextlib.suppress(OSError), direct.open(f"{server.url}{path}", timeout=5):
            return True
        return False

    return ready


def start(place: Place, server: Server) -> subprocess.Popen[Any]:
    """Started, and there."""
    with place.log(server).open("ab") as log:
        process = subprocess.Popen(
            server.command,
            env=(_bare() if server.bare else _inherited()) | server.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **server.options,
        )
    try:
        _await(place, server, process)
    except BaseException:
        end(process)
        raise
    return process


def _bare() -> dict[str, str]:
    return {name: os.environ[name] for name in BARE if name in os.environ}


def _inherited() -> dict[str, str]:
    """Without settings of clients: they are not for servers."""
    return {k: v for k, v in os.environ.items() if not k.startswith(CLIENTS)}


def _await(place: Place, server: Server, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.ready(server):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RefusedError(f"{server.name} does not start; see {place.log(server)}")
        time.sleep(0.1)


def end(process: subprocess.Popen[Any]) -> None:
    """With all that it started. Nobody cuts it short, since whatever is not ended then is left."""
    _hear(signal.SIG_IGN)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)  # PostgreSQL: cut connections, then end in order
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def running(place: Place) -> Iterator[dict[Server, subprocess.Popen[Any]]]:
    """All servers, each after those that it needs; ended in the reverse order."""
    make_secrets.make(place.secrets)
    with contextlib.ExitStack() as stack:
        up: dict[Server, subprocess.Popen[Any]] = {}

        def begin(server: Server) -> Server:
            up[server] = start(place, server)
            stack.callback(end, up[server])
            return server

        database, objects = begin(postgres(place)), begin(s3(place))
        make_databases(place, database)
        begin(mlflow(place, database, objects))
        if monitor := prometheus(place):
            begin(monitor)
        yield up


def settings(place: Place, up: dict[Server, Any]) -> str:
    """What those who run sweeps set, as a shell reads it; secrets by the names of their files."""
    at = {server.name: server.url for server in up}

    def read(name: str) -> str:
        return f'"$(cat {shlex.quote(str(place.secrets / name))})"'

    return f"""\
export MLFLOW_TRACKING_URI={at["MLflow"]}
export MLFLOW_TRACKING_USERNAME={make_secrets.ADMIN}
export MLFLOW_TRACKING_PASSWORD={read("mlflow_admin_password")}
export AWS_ENDPOINT_URL={at["S3"]} AWS_REGION=us-east-1
export AWS_ACCESS_KEY_ID={read("s3_user")}
export AWS_SECRET_ACCESS_KEY={read("s3_password")}
"""


def describe(place: Place, up: dict[Server, Any]) -> str:
    lines = [f"{server.name:<11} {server.url:<21}  {server.shown}" for server in up]
    if not any(server.name == "Prometheus" for server in up):
        lines.append("Prometheus  is not installed (Debian: apt-get install prometheus)")
    lines.append("Grafana     is not here: Debian has no package; deploy/compose has it")
    lines.append(f"\nin the shells that run sweeps, and where Ray's nodes are started: . {place.folder / 'team.sh'}")
    return "\n".join([*lines, "stores go to s3://sweeps/..., Ctrl-C ends all"])


def _hear(how: Any) -> None:
    """What asks us to end is handled so, unless it was to be ignored from the start, as with `nohup`."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, how)


def _stop(*_: Any) -> None:
    _hear(signal.SIG_IGN)
    raise KeyboardInterrupt


def serve(folder: Path) -> None:
    """Until Ctrl-C, SIGTERM or the terminal's end, or until a server is lost, which is an error."""
    place = Place(folder.resolve())
    place.folder.mkdir(parents=True, exist_ok=True)
    _hear(_stop)
    with contextlib.suppress(KeyboardInterrupt), running(place) as up:
        (place.folder / "team.sh").write_text(settings(place, up))
        print(describe(place, up), flush=True)
        while all(process.poll() is None for process in up.values()):
            time.sleep(0.5)
        lost = next(server for server, process in up.items() if process.poll() is not None)
        raise RefusedError(f"{lost.name} has ended; see {place.log(lost)}")


def main(arguments: list[str]) -> None:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise SystemExit("usage: python -m deploy.servers FOLDER")
    try:
        serve(Path(arguments[0]))
    except SweepsError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main(sys.argv[1:])
