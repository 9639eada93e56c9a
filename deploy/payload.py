"""What travels with a job: the sweep, where its numbers go, and who sends it. A small folder, as the job's working
directory, with `job.json` and the script that starts the driver.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import NonNegativeFloat, TypeAdapter, ValidationError

from deploy.session import made_by, store_url
from storage.layout import LAYOUT, may_be_secret
from storage.objects import connect, is_local, local_path
from storage.runs import shown
from storage.slices import public
from storage.urls import check
from storage.zarr_store import ZarrStore
from sweeps import logs, randomness
from sweeps.errors import RefusedError
from sweeps.sweep import StoreSettings, Sweep, TrackSettings

log = logging.getLogger(__name__)

PACKAGE = "relu-sweeps"
FILE, SCRIPT = "job.json", "start.sh"
ENTRYPOINT = f"exec sh {SCRIPT}"
GROWS_TO = "SWEEPS_GROWS_TO"  # of a cluster's head, if the cluster grows on demand: what it will have at most, as JSON

START = f"""\
# The Python and the address of the raylet that runs this job: PATH may lack the one, and Ray's own search
# takes another cluster's for the other where several run on a machine.
raylet=$(awk '/^PPid:/ {{print $2}}' "/proc/$PPID/status" 2>/dev/null)
flag() {{ tr '\\0' '\\n' <"/proc/$raylet/cmdline" 2>/dev/null | sed -n "s/^--$1=\\([^ ]*\\).*/\\1/p" | head -n 1; }}
python=$(flag python_worker_command)
address=$(flag gcs-address)
[ -x "$python" ] || python=python
[ -z "$address" ] || export RAY_ADDRESS="$address"
exec "$python" -m deploy.driver {FILE}
"""


@dataclass(frozen=True)
class Payload:
    """`sweep` is None to resume what the store says; `track` says where it is tracked in any case. `home` is where the
    job was sent from, if its cluster's head is on that machine: what is relative is meant from there. `again` is the
    command that sends it again. `nodes` with CPU cores or GPUs are waited for before the work begins."""

    id: str
    name: str
    store: str
    sweep: dict[str, Any] | None
    versions: dict[str, str]
    home: str | None = None
    again: str = ""
    workers: int | None = None
    made_by: dict[str, str] = dataclasses.field(default_factory=dict)
    shipped: bool = False
    track: dict[str, Any] = dataclasses.field(default_factory=dict)
    nodes: int = 0
    log: str = logs.PLAIN

    def text(self, indent: int | None = None) -> str:
        return json.dumps(dataclasses.asdict(self), indent=indent)

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(self.text())
        (folder / SCRIPT).write_text(START)

    @classmethod
    def read(cls, path: str | Path) -> Payload:
        return cls(**json.loads(Path(path).read_text()))


def made(
    spec: Sweep | ZarrStore | str | Path,
    *,
    here: bool,
    again: list[str],
    workers: int | None = None,
    shipped: bool = False,
    nodes: int = 0,
    say: Callable[[str], None] = log.warning,
) -> Payload:
    """The payload of a sweep, its TOML file or catalog name, or of a store or its URL, to resume what it holds.

    Args:
        here: whether paths mean the same where it runs.
        again: options of `sweeps submit` that send it to the same place.

    Raises:
        SweepsError: the spec is wrong, or the store cannot be reached from there.
    """
    words = [] if isinstance(spec, Sweep) else ["sweeps", "submit", _named(spec), *again]
    if isinstance(spec, str | Path) and _is_store(str(spec)):
        spec = ZarrStore.open(str(spec))
    if isinstance(spec, ZarrStore):
        sweep = spec.sweep.model_copy(update={"store": StoreSettings(url=spec.url)})
    else:
        sweep = spec if isinstance(spec, Sweep) else Sweep.from_toml(spec)
    sweep = placed(sweep, here, say)
    assert sweep.store is not None
    return Payload(
        id=key(sweep.fingerprint, sweep.store.url),
        name=sweep.name,
        store=sweep.store.url,
        sweep=None if isinstance(spec, ZarrStore) else sweep.model_dump(mode="json"),
        versions=versions(),
        home=str(Path.cwd()) if here else None,
        again=shlex.join(words + (["--workers", str(workers)] if words and workers else [])),
        workers=workers,
        made_by=made_by(),
        shipped=shipped,
        track=sweep.track.model_dump(mode="json"),
        nodes=nodes,
        log=logs.chosen(),
    )


def _is_store(text: str) -> bool:
    return not is_local(text) or Path(local_path(text), "zarr.json").exists()


def _named(spec: ZarrStore | str | Path) -> str:
    text = spec.url if isinstance(spec, ZarrStore) else str(spec)
    return local_path(text) if is_local(text) and Path(local_path(text)).exists() else text


def versions() -> dict[str, str]:
    """What must be equal for a client and a cluster to mean the same."""
    try:
        ours = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        raise RefusedError(f"{PACKAGE} is not installed here, so its version is unknown; pip install it") from None
    return {PACKAGE: ours, "rule": str(randomness.RULE), "layout": str(LAYOUT)}


def differing(client: Mapping[str, str], cluster: Mapping[str, str]) -> str:
    """In words, where versions differ; empty where they do not."""
    names = [n for n in client if client[n] != cluster.get(n)]
    here, there = ([f"{n} {v.get(n, 'unknown')}" for n in names] for v in (client, cluster))
    return f"this client has {', '.join(here)}, the cluster has {', '.join(there)}" if names else ""


def differing_ray(client: str, cluster: str) -> str:
    """The same for Ray, whose releases of one minor version go together."""
    if client.split(".")[:2] == cluster.split(".")[:2]:
        return ""
    return f"this client has Ray {client}, the cluster has Ray {cluster}"


def placed(sweep: Sweep, here: bool, say: Callable[[str], None] = log.warning) -> Sweep:
    """The sweep with a store that means the same on the cluster as it does here, and no secret in it. On a cluster of
    this machine MLFLOW_TRACKING_URI means the same too, and goes along; `say` is told of one with credentials, which
    does not.

    Raises:
        RefusedError: the store's path is relative and the cluster elsewhere, or the tracking URI has credentials.
        StoreError: the store's URL has credentials, or is not one that obstore takes.
    """
    url = store_url(sweep)
    if not is_local(url):
        connect(url) if here else check(url)  # elsewhere, who sends it may lack the credentials
    elif here:
        url = local_path(url)
    elif "://" not in url and not os.path.isabs(url):
        raise RefusedError(
            f"store.url {url!r} is relative, and the cluster is not on this machine: "
            "give a path from / that all its nodes share, or a bucket such as s3://bucket/path"
        )
    return sweep.model_copy(update={"store": StoreSettings(url=url), "track": _tracked(sweep.track, here, say)})


def _tracked(settings: TrackSettings, here: bool, say: Callable[[str], None]) -> TrackSettings:
    if settings.uri and may_be_secret(settings.uri):
        raise RefusedError(
            f"track.uri {shown(settings.uri)!r} was given with credentials or a query, which would travel with the "
            "job for all to read; set MLFLOW_TRACKING_URI on the cluster instead"
        )
    uri = os.environ.get("MLFLOW_TRACKING_URI") if here and not settings.uri else None
    if uri and may_be_secret(uri):
        say(
            f"MLFLOW_TRACKING_URI {shown(uri)!r} has credentials or a query and does not travel with the job, for all "
            f"to read; the runs go where the cluster's own says, else to {Path.cwd() / 'mlflow.db'}"
        )
        return settings
    return settings.model_copy(update={"uri": uri}) if uri else settings


def grows_to() -> dict[str, float] | None:
    """What a cluster that grows on demand will have at most, as its head's environment says.

    Raises:
        RefusedError: it says something else.
    """
    text = os.environ.get(GROWS_TO)
    if not text:
        return None
    try:
        return TypeAdapter(dict[str, NonNegativeFloat]).validate_json(text, strict=True)
    except ValidationError:
        raise RefusedError(f'{GROWS_TO} reads as JSON, such as {{"GPU": 4, "CPU": 16}}, got {text!r}') from None


def key(fingerprint: str, store: str) -> str:
    """The id of a sweep in a store, and so of its first job: who sends it twice means one."""
    return "sweep-" + hashlib.sha256(f"{fingerprint}\n{public(store)}".encode()).hexdigest()[:16]
