"""Composition root: a sweep, a store, an executor and a tracker joined into one run."""

from __future__ import annotations

import itertools
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType

from actors.inline import Inline
from storage.tracking import track
from storage.zarr_store import ZarrStore
from sweeps.blocks import Block
from sweeps.budget import Budget
from sweeps.events import Event
from sweeps.inputs import files
from sweeps.run import Executor, Store, run
from sweeps.sweep import Sweep, TrackSettings


@dataclass(frozen=True)
class Where:
    """Where a sweep is computed: in this process, or by Ray actors, here or on a cluster, once so many nodes of it
    can work. `grows_to`: what a cluster that grows on demand will have at most, such as {"GPU": 8}."""

    inline: bool = False
    address: str | None = None
    workers: int | None = None
    nodes: int = 0
    grows_to: Mapping[str, float] | None = None


def store_url(sweep: Sweep) -> str:
    """Where the spec says, else `results/<name>.zarr`."""
    return sweep.store.url if sweep.store else f"results/{sweep.name}.zarr"


@contextmanager
def executor(device: str, where: Where) -> Iterator[Executor]:
    """The executor that `where` names, for as long as it is needed."""
    if where.inline:
        with terminated_like_interrupted():
            yield Inline(device)
        return
    from actors.ray_pool import RayPool  # Ray takes seconds to import
    from deploy.cluster import await_nodes, cluster

    with cluster(where.address), terminated_like_interrupted():
        await_nodes(where.nodes)
        yield RayPool(where.workers, device, grows_to=where.grows_to)


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


class _WhenNeeded:
    """An executor that is started once there is work, and ends with the stack."""

    def __init__(self, sweep: Sweep, device: str, where: Where, stack: ExitStack) -> None:
        self.sweep, self.device, self.where, self.stack = sweep, device, where, stack

    @cached_property
    def _executor(self) -> Executor:
        _check_files(self.sweep)
        return self.stack.enter_context(executor(self.device, self.where))

    @property
    def workers(self) -> str:
        return self._executor.workers

    def run(self, blocks: Iterator[Block | None], store: Store) -> Generator[Event, None, None]:
        return self._executor.run(blocks, store)


def run_sweep(sweep: Sweep, where: Where | None = None) -> Iterator[Event]:
    """Measure what the sweep's store lacks, tracking as it goes. Calling it again resumes.

    Raises:
        SweepsError: the store holds something else, or the cluster lacks what is asked for; nothing is lost.
    """
    url = store_url(sweep)
    try:
        ZarrStore.open(url)
    except FileNotFoundError:
        _check_files(sweep)  # before there is a store that nothing can be measured for
    store = ZarrStore.create(url, sweep, made_by=made_by())
    yield from run_store(store, where, sweep.budget, sweep.track, device=sweep.device)


def run_store(
    store: ZarrStore,
    where: Where | None = None,
    budget: Budget | None = None,
    tracking: TrackSettings | None = None,
    *,
    device: str | None = None,
    tracked: bool = True,
) -> Generator[Event, None, None]:
    """Measure what a store lacks. Budget, tracking and device are those of its spec unless given.

    Raises:
        SpecError: a user's file that the sweep needs is not there, or has changed.
    """
    store.prepare()
    with ExitStack() as stack:
        worker = _WhenNeeded(store.sweep, device or store.sweep.device, where or Where(), stack)
        events = run(store, worker, budget or store.sweep.budget)
        yield from track(events, store, tracking or store.sweep.track) if tracked else events


def extend(url: str, change: Callable[[Sweep], Sweep]) -> ZarrStore:
    """Make the sweep of a store larger by what `change` makes of it; nothing is measured yet.

    Raises:
        SweepsError: it is no extension (with the difference), or the store cannot be written.
    """

    def checked(now: Sweep) -> Sweep:
        larger = change(now)
        _check_files(larger)
        return larger

    return ZarrStore.extend(url, checked, made_by=made_by())


def _check_files(sweep: Sweep) -> None:
    """Refuse a sweep whose user's files are not there, or have changed."""
    files.check([*sweep.fixed.values(), *itertools.chain(*sweep.axes.values())])


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
