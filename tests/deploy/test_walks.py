"""From `git clone` to a figure, as a user walks: on a laptop what docs/start.md says, word by word; on a Slurm cluster
and with a team's servers, the same sweep there. Only the environment is not installed anew, but taken from this one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import servers
from tests.deploy.slurm_cluster import Slurm, missing, started

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_token"), pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "start.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
WORDS = {"toml": "cat >first.toml <<'END'\n{}END\n", "python": "python - <<'END'\n{}END\n", "sh": "{}"}
START = BLOCKS[0][1]
SPEC = WORDS["toml"].format(next(text for kind, text in BLOCKS if kind == "toml"))
LOOK = """\
sweeps show $store --select layer=10 --select width=64
sweeps plot $store --select layer=1,10 --out first-cosine.png
"""
ON_SLURM = """\
job=$(sweeps submit first.toml --slurm --nodes 2 --set slurm.cpus_per_node=1 --set slurm.temp_dir=/tmp)
while squeue --noheader --jobs=$job | grep -q .; do sleep 0.5; done
cat .sweeps/slurm/*/$job.log
store=results/first.zarr
"""
WITH_SERVERS = """\
python -m deploy.servers team >servers.log 2>&1 & servers=$!
trap 'kill $servers; wait $servers' EXIT
until grep -q 'Ctrl-C ends all' servers.log; do kill -0 $servers || { cat servers.log; exit 1; }; sleep 0.2; done
. team/team.sh
store=s3://sweeps/first.zarr
printf '\\n[store]\\nurl = "%s"\\n' $store >>first.toml
sweeps run first.toml
"""


def walk(folder: Path, text: str, **known: str) -> str:
    """What a shell says that stops at the first error; `make` gives it this environment."""
    ready = f'make() {{ [ "$*" = .venv/ready ] && ln -s {ROOT / ".venv"} .venv; }}\n'
    given = {"REPOSITORY": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(folder / "relu-sweeps")}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AWS_", "SWEEPS_"))}
    command = ["bash", "-eu", "-o", "pipefail", "-c", ready + text]
    ran = subprocess.run(command, cwd=folder, env=inherited | given | known, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def drawn(folder: Path) -> bytes:
    return (folder / "relu-sweeps" / "first-cosine.png").read_bytes()


@pytest.fixture(autouse=True)
def _environment() -> None:
    if not (ROOT / ".git").exists() or Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("this is no clone with its environment in .venv")


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder below which PostgreSQL may run as somebody else."""
    with tempfile.TemporaryDirectory(prefix="walk", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    if missing():
        pytest.skip(missing())
    with started() as cluster:
        yield cluster


def test_on_a_laptop(tmp_path: Path) -> None:
    said = walk(tmp_path, "".join(WORDS[kind].format(text) for kind, text in BLOCKS))
    assert "cosine_theory" in said
    assert "fault" not in said
    assert drawn(tmp_path).startswith(b"\x89PNG")


@pytest.mark.slow
def test_on_a_slurm_cluster(tmp_path: Path, slurm: Slurm) -> None:
    said = walk(tmp_path, START + SPEC + ON_SLURM + LOOK, **slurm.environment)
    assert "2 Ray actors, one per CPU core" in said
    assert drawn(tmp_path).startswith(b"\x89PNG")


@pytest.mark.slow
def test_with_a_teams_servers(passable: Path) -> None:
    if servers.binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    said = walk(passable, START + SPEC + WITH_SERVERS + LOOK)
    assert "done: s3://sweeps/first.zarr" in said
    assert drawn(passable).startswith(b"\x89PNG")
