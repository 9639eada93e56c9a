"""A sweep as a Slurm batch job: written to a folder below the working directory, and given to `sbatch` once."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from deploy import payload as travel
from deploy.payload import Payload
from deploy.settings import resolve
from deploy.slurm.script import FOLDER, script
from deploy.slurm.settings import Slurm
from sweeps.errors import RefusedError

SCRIPT = "job.sh"
WAITING = "pending,configuring,running,suspended"
# What `sbatch` reads from the environment counts more for it than the script: these are the sweep's own, and settings.
OURS = ("SBATCH_ARRAY_INX", "SBATCH_JOB_NAME", "SBATCH_NO_REQUEUE", "SBATCH_OPEN_MODE", "SBATCH_SIGNAL")
SETTINGS = {
    "account": "SBATCH_ACCOUNT",
    "memory": "SBATCH_MEM_PER_NODE",
    "partition": "SBATCH_PARTITION",
    "qos": "SBATCH_QOS",
    "time": "SBATCH_TIMELIMIT",
}


def submit(
    spec: str, of_slurm: Mapping[str, Any], settings: Sequence[str], *, workers: int | None, dry_run: bool
) -> None:
    """Submit a sweep, or find it queued or running; or only print the script.

    Raises:
        SweepsError: a setting or the spec is wrong, there is no Slurm here, or it refuses.
    """
    held = resolve("slurm", of_slurm, settings)
    assert isinstance(held, Slurm)
    bag = _payload(spec, of_slurm, settings, held, workers)
    text = script(held, bag.id, sys.executable)
    if dry_run:
        typer.echo(text, nl=False)
        return
    waiting = _run("squeue", "--noheader", f"--name={bag.id}", f"--states={WAITING}", "--format=%i %T").split()
    if waiting:
        job, state = waiting[:2]
        typer.echo(job)
        typer.echo(f"joined: it is in the queue already, {state}", err=True)
    else:
        job = _send(bag, text, held)
        typer.echo(job)
    _say_how(job, Path(FOLDER, bag.id, f"{job}.log"))


def _payload(
    spec: str, of_slurm: Mapping[str, Any], settings: Sequence[str], held: Slurm, workers: int | None
) -> Payload:
    """Slurm gives a job the environment that it was submitted with, so a tracking URI needs no word of ours."""
    options = [("--" + name.replace("_", "-"), str(value)) for name, value in of_slurm.items() if value is not None]
    again = ["--slurm", *(word for option in options for word in option)]
    again += [word for text in settings for word in ("--set", text)]
    return travel.made(spec, here=True, again=again, workers=workers, nodes=held.nodes, say=lambda text: None)


def _send(bag: Payload, text: str, held: Slurm) -> str:
    folder = Path(FOLDER, bag.id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / travel.FILE).write_text(bag.text())
    (folder / SCRIPT).write_text(text)
    given = [variable for name, variable in SETTINGS.items() if getattr(held, name) is not None]
    return _run("sbatch", "--parsable", str(folder / SCRIPT), without=[*OURS, *given]).strip().partition(";")[0]


def _say_how(job: str, log: Path) -> None:
    typer.echo(f"its state: squeue --jobs={job}", err=True)
    typer.echo(f"its log: tail -F {shlex.quote(str(log))}", err=True)
    typer.echo(f"stop it with: scancel {job}", err=True)


def _run(name: str, *arguments: str, without: Sequence[str] = ()) -> str:
    """What one of Slurm's commands says.

    Raises:
        RefusedError: it is not here, or says no.
    """
    if shutil.which(name) is None:
        raise RefusedError(f"no {name} here; submit from a login node of the cluster, or look with --dry-run")
    known = {k: v for k, v in os.environ.items() if k not in without}
    ran = subprocess.run([name, *arguments], env=known, capture_output=True, text=True)
    if ran.returncode:
        lines = [line for line in ran.stderr.splitlines() if line.strip()]
        raise RefusedError(f"{name} refuses: {lines[-1].removeprefix(f'{name}: error: ') if lines else ran.returncode}")
    return ran.stdout
