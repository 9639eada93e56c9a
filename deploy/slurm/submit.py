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
WAITING = (
    "pending,configuring,running,completing,suspended,stopped,resizing,signaling,stage_out,"
    "requeued,requeue_hold,requeue_fed,special_exit,resv_del_hold"
)
# What `sbatch` reads from the environment counts more for it than the script. These are the sweep's own: the GPUs too,
# of which Ray is told as many as the setting says.
OURS = ("ARRAY_INX", "ERROR", "GPUS_PER_NODE", "JOB_NAME", "NO_REQUEUE", "OPEN_MODE", "OUTPUT", "SIGNAL", "WAIT")
SETTINGS = {
    "account": "ACCOUNT",
    "memory": "MEM_PER_NODE",
    "partition": "PARTITION",
    "qos": "QOS",
    "time": "TIMELIMIT",
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
    mine = ("--me", f"--name={bag.id}", f"--states={WAITING}")
    asked = {k: v for k, v in os.environ.items() if not k.startswith("SQUEUE_")}
    waiting = _run(asked, "squeue", "--noheader", *mine, "--format=%i %T").split()
    if waiting:
        job, state = waiting[:2]
        typer.echo(job)
        typer.echo(f"joined: it is in the queue already, {state}", err=True)
        if state == "COMPLETING":
            typer.echo("this run of it ends just now; unless it is requeued, submit it again then", err=True)
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
    folder.chmod(0o700)
    for name, content in ((travel.FILE, bag.text()), (SCRIPT, text)):
        (folder / name).touch(0o600)
        (folder / name).chmod(0o600)
        (folder / name).write_text(content)
    known = environment(held, os.environ)
    return _run(known, "sbatch", "--parsable", str(folder / SCRIPT)).strip().partition(";")[0]


def environment(held: Slurm, known: Mapping[str, str]) -> dict[str, str]:
    """For `sbatch`, without what would count more than what the script asks for."""
    without = {*OURS, *(variable for name, variable in SETTINGS.items() if getattr(held, name) is not None)}
    if held.memory is not None or held.cpus_per_node is None:  # --mem, which excludes these two
        without |= {"MEM_PER_CPU", "MEM_PER_GPU"}
    return {k: v for k, v in known.items() if k not in {f"SBATCH_{name}" for name in without}}


def _say_how(job: str, log: Path) -> None:
    typer.echo(f"its state: squeue --jobs={job}", err=True)
    typer.echo(f"its log: tail -F {shlex.quote(str(log))}", err=True)
    typer.echo(f"stop it with: scancel {job}", err=True)


def _run(known: Mapping[str, str], name: str, *arguments: str) -> str:
    """What one of Slurm's commands says in this environment.

    Raises:
        RefusedError: it is not here, or says no.
    """
    if shutil.which(name) is None:
        raise RefusedError(f"no {name} here; submit from a login node of the cluster, or look with --dry-run")
    ran = subprocess.run([name, *arguments], env=known, capture_output=True, text=True)
    if ran.returncode:
        lines = [line for line in ran.stderr.splitlines() if line.strip()]
        raise RefusedError(f"{name} refuses: {lines[-1].removeprefix(f'{name}: error: ') if lines else ran.returncode}")
    return ran.stdout
