"""A real S3 server on loopback, moto's, as a process of its own, and the environment that points to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "s3cr3t", "AWS_REGION": "us-east-1"}
ALONE = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "AWS_METADATA_ENDPOINT": "http://127.0.0.1:1"}
"""Loopback is asked directly, and nobody is asked for credentials."""


class Moto:
    """`python -m moto.server` on a free port; what it holds is in its memory."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port, self.url, self.log = port, f"http://127.0.0.1:{port}", folder / "moto.log"

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        environment = {**{k: v for k, v in os.environ.items() if not k.startswith("AWS_")}, **CREDENTIALS}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        for _ in range(600):
            with contextlib.suppress(OSError):
                return self.ask("GET", "moto-api/")
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, method: str, path: str) -> None:
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/{path}", method=method), timeout=60):
            return
