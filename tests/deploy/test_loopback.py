"""What listens where: clusters that are started here keep to loopback, and their jobs and chaos run there too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

LOCAL = """
import ray
from deploy.cluster import cluster
from tests.deploy.test_loopback import listeners

@ray.remote(num_cpus=0)
class Actor:
    def ping(self):
        import os
        return os.getpid()

with cluster():
    ray.get(Actor.remote().ping.remote())
    for line in listeners(*ray._private.worker.global_worker.node.all_processes["raylet"], me=True):
        print(line)
"""


def listeners(root: psutil.Process) -> dict[str, set[str]]:
    """The addresses on which a process and those below it listen, by the name of the process."""
    family = [root, *root.children(recursive=True)]
    found: dict[str, set[str]] = {}
    for process in family:
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                found.setdefault(process.name(), set()).add(connection.laddr.ip.removeprefix("::ffff:"))
    return found
