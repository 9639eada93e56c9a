"""`sweeps submit --kuberay`: a sweep's objects printed, or given to kubectl, which knows the cluster and its rights."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from typing import cast

import typer

from deploy import payload as travel
from deploy.kuberay import manifests
from deploy.kuberay.settings import Kuberay
from deploy.payload import Payload
from deploy.settings import resolve
from storage.objects import is_local, local_path
from sweeps.errors import RefusedError

ENDED = {"Complete", "Failed", "ValidationFailed"}


def submit(spec: str, settings: list[str], *, workers: int | None, dry_run: bool) -> None:
    """Give a sweep to KubeRay, or with `dry_run` print what would be given. One that runs already is joined; one that
    has ended is resumed.

    Raises:
        SpecError: the spec or a setting is wrong.
        RefusedError: the pods could not reach the store, or kubectl refuses.
    """
    held = cast(Kuberay, resolve("kuberay", more=settings))
    bag = packed(spec, held, settings, workers)
    text = manifests.text(manifests.job(bag, held))
    if dry_run:
        typer.echo(text, nl=False)
        return
    state = _state(bag.id, held.namespace)
    if state is None or state in ENDED:
        if state in ENDED:
            _kubectl("delete", "rayjob", bag.id, "--namespace", held.namespace)
        _kubectl("apply", "--server-side", "--filename", "-", given=text)
    else:
        typer.echo(f"joined: it runs already, {state or 'New'}", err=True)
    typer.echo(bag.id)
    typer.echo(f"see it with: kubectl get rayjob {bag.id} --namespace {held.namespace}", err=True)


def packed(spec: str, held: Kuberay, settings: list[str], workers: int | None) -> Payload:
    """What the driver reads.

    Raises:
        RefusedError: the store is a path that the pods do not share.
    """
    words = ["--kuberay", *(word for setting in settings for word in ("--set", setting))]
    bag = travel.made(spec, here=False, again=words, workers=workers, say=partial(typer.echo, err=True))
    if is_local(bag.store) and not (held.claim and local_path(bag.store).startswith(f"{held.mount}/")):
        there = f"below {held.mount}, which is {held.claim}," if held.claim else "on a claim (--set kuberay.claim=...)"
        raise RefusedError(
            f"store.url {bag.store!r} is a path that the pods do not share: give one {there} or a bucket such as "
            "s3://bucket/path"
        )
    return bag


def _state(name: str, namespace: str) -> str | None:
    """Of a RayJob, as KubeRay says it, empty before it does; None where there is none."""
    found = _kubectl("get", "rayjob", name, "--namespace", namespace, "--ignore-not-found", "--output", "json")
    return json.loads(found).get("status", {}).get("jobDeploymentStatus", "") if found.strip() else None


def _kubectl(*arguments: str, given: str | None = None) -> str:
    try:
        ran = subprocess.run(["kubectl", *arguments], input=given, capture_output=True, text=True)
    except FileNotFoundError:
        raise RefusedError(
            "kubectl is not installed here; install it, or give the output of --dry-run to whoever has it"
        ) from None
    if ran.returncode:
        said = [line for line in ran.stderr.splitlines() if line.strip()]
        raise RefusedError(f"kubectl {arguments[0]}: {said[-1] if said else f'exit status {ran.returncode}'}")
    return ran.stdout
