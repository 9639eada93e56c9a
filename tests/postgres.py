"""PostgreSQL as it is: a cluster of its own on loopback, behind a password made for the run."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

USER, ADMIN = "sweeps", "postgres"
QUICK = ["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=60", "-c", "timezone=UTC"]


class PostgreSQL:
    """A server on a port that stays the same over restarts. As root it runs as `nobody`: PostgreSQL refuses root."""

    def __init__(self, programs: Path, port: int) -> None:
        self.programs, self.port = programs, port
        self.password, self.key = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        self.folder = Path(tempfile.mkdtemp(prefix="sweeps-postgres-", dir="/tmp"))  # sockets have short names
        self.who: dict[str, Any] = {}
        if os.geteuid() == 0:
            self.who = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self.folder, "nobody", "nogroup")
        self._initialise()

    def _initialise(self) -> None:
        key = self.folder / "key"
        key.write_text(self.key)
        key.chmod(0o644)  # the folder is the owner's alone
        how = ["--auth=scram-sha-256", f"--pwfile={key}", f"--username={ADMIN}"]
        command = [self.programs / "initdb", "--no-sync", "--encoding=UTF8", "--locale=C", "-D", self.folder / "data"]
        made = subprocess.run([*command, *how], **self.who, cwd="/", capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        key.unlink()

    def uri(self, database: str, password: str | None = None) -> str:
        return f"postgresql+psycopg://{USER}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        where = ["-D", self.folder / "data", "-p", str(self.port), "-h", "127.0.0.1", "-k", self.folder]
        with (self.folder / "log").open("a") as log:
            command = [self.programs / "postgres", *where, *QUICK]
            self.process = subprocess.Popen(command, **self.who, cwd="/", stdout=log, stderr=log)
        for _ in range(3000):
            if (
                subprocess.run([self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode
                == 0
            ):
                return
            time.sleep(0.1)
        raise TimeoutError((self.folder / "log").read_text())

    def create(self, database: str) -> None:
        """As a team would: an ordinary user, who owns the database and nothing else."""
        self.query(f"create role {USER} login password '{self.password}'")
        self.query(f"create database {database} owner {USER}")

    def query(self, statement: str, database: str = "postgres") -> list[tuple]:
        import psycopg

        place = {"host": "127.0.0.1", "port": self.port, "user": ADMIN, "password": self.key, "dbname": database}
        with psycopg.connect(**place, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    @property
    def is_up(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """Stop as a crash would: connections are cut, and the next start recovers from the log."""
        if self.is_up:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)
