"""Composition root: a sweep, a store, an executor and a tracker joined into one run."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from actors.inline import Inline
from storage.tracking import track
from storage.zarr_store import ZarrStore
from sweeps.events import Event
from sweeps.run import Executor, run
from sweeps.sweep import Sweep


@dataclass(frozen=True)
class Where:
    """Where a sweep is computed: in this process, or by Ray actors, here or on a cluster."""

    inline: bool = False
    address: str | None = None
    workers: int | None = None


def store_url(sweep: Sweep) -> str:
    """Where the spec says, else `results/<name>.zarr`."""
    return sweep.store.url if sweep.store else f"results/{sweep.name}.zarr"


@contextmanager
def executor(sweep: Sweep, where: Where) -> Iterator[Executor]:
    """The executor that `where` names, for as long as it is needed."""
    if where.inline:
        with terminated_like_interrupted():
            yield Inline(sweep.device)
        return
    from actors.ray_pool import RayPool  # Ray takes seconds to import
    from deploy.cluster import cluster

    with cluster(where.address), terminated_like_interrupted():
        yield RayPool(where.workers, sweep.device)


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a lost terminal, end a sweep as Ctrl-C does. Ray installs a handler of its own, so this
    comes after `ray.init`."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_sweep(
    sweep: Sweep, where: Where | None = None, *, sent_by: Mapping[str, str] | None = None, tracked: bool = True
) -> Generator[Event, None, None]:
    """Measure what the sweep's store lacks, tracking as it goes. Calling it again resumes.

    `sent_by` is kept in a new store beside `made_by()`, such as the id of the Ray job that made it.

    Raises:
        SweepsError: the store holds something else, or the cluster lacks what is asked for; nothing is lost.
    """
    store = ZarrStore.create(store_url(sweep), sweep, made_by={**made_by(), **(sent_by or {})})
    with ExitStack() as stack:
        if store.done().all():
            worker: Executor = Inline("cpu")  # all is done; nobody needs to be started
        else:
            worker = stack.enter_context(executor(sweep, where or Where()))
        events = run(store, worker)
        yield from track(events, store, sweep.track) if tracked else events


def made_by() -> dict[str, str]:
    """The git commit of this package, marked `-dirty` if changed since, where it runs from its own checkout."""
    here = Path(__file__)
    try:
        _git("ls-files", "--error-unmatch", here.name, cwd=here.parent)
        return {"git_commit": _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*", cwd=here.parent)}
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(*arguments: str, cwd: Path) -> str:
    ran = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, timeout=10, check=True)
    return ran.stdout.strip()
