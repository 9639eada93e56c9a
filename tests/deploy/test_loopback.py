"""What listens where: a cluster that a command starts for itself keeps to loopback, as the one of `submit` does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

LOCAL = """
import psutil, ray
from deploy.cluster import cluster
from tests.deploy.test_loopback import listeners

@ray.remote(num_cpus=0)
class Actor:
    def ping(self):
        return 1

with cluster():
    actor = Actor.remote()
    ray.get(actor.ping.remote())
    for name, address in listeners(psutil.Process()):
        print(address, name)
"""


def listeners(root: psutil.Process) -> list[tuple[str, str]]:
    """(name, address) of every TCP socket on which a process, or one below it, listens."""
    found = []
    for process in (root, *root.children(recursive=True)):
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                found.append((process.name(), connection.laddr.ip.removeprefix("::ffff:")))
    return found


@pytest.mark.cluster
def test_a_cluster_of_ones_own_listens_on_loopback_alone() -> None:
    command = [sys.executable, "-c", LOCAL]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert {address for address, *_ in lines} == {"127.0.0.1"}, ran.stdout + ran.stderr
    assert {"gcs_server", "raylet"} <= {name for _, name, *_ in lines}
    assert len(lines) > 6
