"""Commands for sweeps as Ray Jobs: submit, list, status, watch, logs, stop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.exits import INTERRUPTED
from sweeps.errors import SpecError

if TYPE_CHECKING:
    from deploy.jobs import Job

Spec = Annotated[
    str, typer.Argument(metavar="SPEC", help="a TOML file, a name from `sweeps catalog`, or a store, to resume it")
]
Id = Annotated[
    str, typer.Argument(metavar="ID", help="as `sweeps submit` printed it; without a number, the last attempt")
]
Address = Annotated[
    str | None,
    typer.Option(
        help="the dashboard's, such as http://host:8265; default: RAY_API_SERVER_ADDRESS, else one running here"
    ),
]


def register(app: typer.Typer) -> None:
    for command in (submit, list_jobs, status, watch, logs, stop):
        app.command("list" if command is list_jobs else None)(command)


def submit(
    spec: Spec,
    address: Address = None,
    ship: Annotated[bool, typer.Option("--ship", help="send this package along, for a cluster that lacks it")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="by default one per GPU, else per CPU core")] = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="as a Slurm batch job that brings its own Ray cluster")
    ] = False,
    kuberay: Annotated[bool, typer.Option("--kuberay", help="as a RayJob of KubeRay, on Kubernetes")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the script or the manifests, and do nothing")
    ] = False,
    nodes: Annotated[int | None, typer.Option(help="of the Slurm allocation")] = None,
    gpus_per_node: Annotated[int | None, typer.Option(help="of the Slurm allocation")] = None,
    time: Annotated[str | None, typer.Option(help="limit of the Slurm allocation, such as 12:00:00")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="any other setting of the place, such as slurm.partition=gpu")
    ] = None,
) -> None:
    """Run a sweep on a Ray cluster and leave; without an address, one on this machine, started if need be."""
    of_slurm = {"nodes": nodes, "gpus_per_node": gpus_per_node, "time": time}
    refuse_mixed(address, ship, slurm, kuberay, dry_run, [*(v for v in of_slurm.values() if v is not None)], settings)
    if slurm:
        from deploy.slurm.submit import submit as submit_to_slurm

        submit_to_slurm(spec, of_slurm, settings or [], workers=workers, dry_run=dry_run)
        return
    if kuberay:
        from deploy.kuberay.submit import submit as submit_to_kuberay

        submit_to_kuberay(spec, settings or [], workers=workers, dry_run=dry_run)
        return
    from deploy import jobs
    from deploy.dashboard import connect

    say = partial(typer.echo, err=True)
    dashboard = connect(address, start=True, say=say)
    job, joined = jobs.place(dashboard, spec, ship=ship, workers=workers, say=say)
    typer.echo(job.id)
    if joined:
        typer.echo(f"joined: it runs already, {job.status}", err=True)
    elif not jobs.await_start(job).board():
        typer.echo("it has not started yet", err=True)
    there = f" --address {dashboard.address}" if address else ""
    typer.echo(f"watch it with: sweeps watch {job.id}{there}", err=True)


def refuse_mixed(
    address: str | None,
    ship: bool,
    slurm: bool,
    kuberay: bool,
    dry_run: bool,
    of_slurm: list[object],
    settings: list[str] | None,
) -> None:
    """Options of one place do not go with another.

    Raises:
        SpecError: they do not go together; the message says which.
    """
    if slurm and kuberay:
        raise SpecError("--slurm and --kuberay are two places; give one")
    place = "--slurm" if slurm else "--kuberay" if kuberay else ""
    if place and (address or ship):
        raise SpecError(
            f"{'--address' if address else '--ship'} is of a cluster that runs already; {place} makes its own"
        )
    if not place and (dry_run or settings):
        raise SpecError(f"{'--dry-run' if dry_run else '--set'} goes with --slurm or --kuberay")
    if of_slurm and not slurm:
        raise SpecError("--nodes, --gpus-per-node and --time go with --slurm")


def list_jobs(address: Address = None) -> None:
    """List the sweeps that a cluster remembers."""
    from deploy import jobs, watching
    from deploy.dashboard import connect
    from deploy.screen import make_console

    make_console().print(watching.table(jobs.jobs(connect(address))))


def status(job_id: Id, address: Address = None) -> None:
    """Say how far a sweep is, and how to resume it if it has ended early."""
    from deploy import watching

    job = _find(job_id, address)
    for line in watching.summary(job, job.board()):
        typer.echo(line)


def watch(
    job_id: Id,
    address: Address = None,
    outcome: Annotated[str | None, typer.Option("--outcome", "-o", help="by default the first one")] = None,
) -> None:
    """Follow a sweep until it ends, with the exit status of the sweep. Ctrl-C leaves; the sweep goes on."""
    from deploy import watching
    from deploy.screen import make_console

    job = _find(job_id, address)
    try:
        code = watching.watch(job, outcome, make_console())
    except KeyboardInterrupt:
        typer.echo(f"left; {job.id} goes on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(code)


def logs(
    job_id: Id,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the sweep ends")] = False,
) -> None:
    """Print what a sweep's driver said."""
    job = _find(job_id, address)
    for line in job.follow() if follow else job.log():
        typer.echo(line, nl=False)


def stop(job_id: Id, address: Address = None) -> None:
    """Stop a sweep. What is committed stays, and submitting it again resumes."""
    from deploy import jobs, watching

    job = _find(job_id, address)
    if not job.ended:
        job = jobs.stop(job)
    for line in watching.summary(job, job.board()):
        typer.echo(line)


def _find(job_id: str, address: str | None) -> Job:
    from deploy import jobs
    from deploy.dashboard import connect

    return jobs.find(connect(address), job_id)
