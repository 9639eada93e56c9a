"""What listens where: a cluster that a command starts for itself keeps to loopback, as the one of `submit` does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deploy import heads
from sweeps.errors import RefusedError

LOCAL = """
import actors, psutil, ray
from deploy.cluster import cluster
from tests.deploy.test_loopback import listeners

@ray.remote(num_cpus=0)
class Actor:
    def ping(self):
        return 1

with cluster():
    actor = Actor.remote()
    ray.get(actor.ping.remote())
    print(ray._private.worker.global_worker.node.get_session_dir_path())
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
@pytest.mark.usefixtures("ray_token")
def test_a_cluster_of_ones_own_listens_on_loopback_alone_and_its_files_are_its_owners() -> None:
    command = [sys.executable, "-c", LOCAL]
    known = {k: v for k, v in os.environ.items() if k != "RAY_TMPDIR"}
    ran = subprocess.run(command, env=known, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    session, *rest = ran.stdout.splitlines() or [""]
    folder = Path(session).parent.parent
    assert folder == Path(f"/tmp/sweeps-{os.getuid()}"), ran.stdout + ran.stderr
    assert folder.stat().st_mode & 0o777 == 0o700, "others could put files of theirs in the place of Ray's"
    lines = [line.split() for line in rest]
    assert {address for address, *_ in lines} == {"127.0.0.1"}, ran.stdout + ran.stderr
    assert {"gcs_server", "raylet"} <= {name for _, name, *_ in lines}
    assert len(lines) > 6


@pytest.mark.parametrize("what", ["dangling link", "link", "file", "folder of another"])
def test_a_folder_that_somebody_else_put_there_is_refused(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "TEMPORARY", tmp_path)
    folder = tmp_path / f"sweeps-{os.getuid()}"
    if what == "file":
        folder.touch()
    elif what.endswith("link"):
        folder.symlink_to(tmp_path / "nowhere" if what.startswith("dangling") else tmp_path)
    elif os.getuid() == 0:
        folder.mkdir()
        shutil.chown(folder, "nobody")
    else:
        pytest.skip("root alone can give a folder away")
    with pytest.raises(RefusedError, match=f"{folder} is not a folder of yours"):
        heads.own_folder()


def test_a_folder_of_ones_own_is_made_once_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "TEMPORARY", tmp_path)
    heads.own_folder().chmod(0o755)
    assert heads.own_folder().stat().st_mode & 0o777 == 0o700
