"""`sweeps chaos`: run a sweep while killing what it runs on, and compare the result with an undisturbed run.

A cluster of several raylets, a driver and an MLflow server are started here. At random times a worker, a raylet,
the driver or the server is killed, or the next write to the store fails; what a supervisor would restart is
restarted. Rounds are run until there were as many disturbances as asked for. The times and kinds are a function
of the seed; what they hit depends on the machine.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from actors.inline import Inline
from deploy.chaos_world import World
from deploy.flaky_store import FlakyStore
from deploy.screen import duration
from storage import open_sweep
from storage.zarr_store import ZarrStore
from sweeps.errors import RefusedError, SweepsError
from sweeps.events import BlockFailed
from sweeps.run import run
from sweeps.sweep import Sweep

KINDS = ("worker", "raylet", "driver", "server", "write")
MEAN_SECONDS = 1.0  # between disturbances, at least
RECOVERED = 0.8  # share of them that wait until a block was committed since the last one
STUCK = 30.0  # seconds after which none waits
TICK = 0.2
IN_VAIN = 10  # drivers in a row that end without a block committed
Say = Callable[[str], None]


@dataclass
class Verdict:
    """What was disturbed, and what became of it: `lost`, `duplicated` and `differing` must be 0.

    lost: blocks that the undisturbed store has and this one lacks. duplicated: points that count more or fewer draws
    than undisturbed, and MLflow runs or metric values that are there twice. differing: blocks whose bytes are others.
    `again` counts blocks that were measured although they were committed: work done twice, to no effect.
    """

    disturbances: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    blocks: int = 0
    lost: int = 0
    duplicated: int = 0
    differing: int = 0
    again: int = 0
    restarts: int = 0
    begun: float = field(default_factory=time.monotonic)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicated or self.differing)

    def __str__(self) -> str:
        kinds = ", ".join(f"{self.disturbances[k]} {k}" for k in KINDS)
        return (
            f"{self.disturbances.total()} disturbances ({kinds}) in {self.rounds} rounds of {self.blocks} blocks: "
            f"{self.lost} lost, {self.duplicated} duplicated, {self.differing} differing; "
            f"{self.again} measured twice without effect, {self.restarts} restarts of the driver"
        )


def chaos(sweep: Sweep, kills: int, seed: int, folder: Path, say: Say, raylets: int = 2) -> Verdict:
    """Disturb a sweep until there were `kills` disturbances, in rounds; stores and logs go to `folder`.

    Raises:
        RefusedError: a block fails without being disturbed.
        SweepsError: driver after driver ends with nothing measured.
    """
    say("measuring it undisturbed, for comparison")
    calm = _undisturbed(sweep, str(folder / "undisturbed.zarr"))
    verdict, coming = Verdict(blocks=int(calm.done().sum())), _Next(seed)
    with World(folder, raylets, seed) as world:
        while verdict.disturbances.total() < kills:
            verdict.rounds += 1
            url = str(folder / f"round-{verdict.rounds}.zarr")
            say(f"round {verdict.rounds}")
            store = FlakyStore.create(url, sweep)
            _round(store, world, verdict, kills, coming, say)
            judge(calm, store, verdict)
            verdict.duplicated += world.published_twice(store)
            verdict.again += store.again()
            if verdict.clean and verdict.disturbances.total() < kills:
                shutil.rmtree(url)
    return verdict


def _undisturbed(sweep: Sweep, url: str) -> ZarrStore:
    store = ZarrStore.create(url, sweep)
    for event in run(store, Inline(sweep.device)):
        if isinstance(event, BlockFailed):
            raise RefusedError(f"block {event.block} fails without being disturbed: {event.error}; take another sweep")
    return store


class _Driver:
    """The driver of a round, started again whenever it ends before the sweep does."""

    def __init__(self, world: World, store: FlakyStore) -> None:
        self.world, self.store, self.process = world, store, world.driver(store)
        self.restarts = self._committed = self._in_vain = 0

    def finished(self) -> bool:
        """Whether the sweep is, a moment from now.

        Raises:
            SweepsError: driver after driver ends with nothing measured.
        """
        status = self.process.wait(TICK)
        if status:
            committed = int(self.store.done().sum())
            self._in_vain = 0 if committed > self._committed else self._in_vain + 1
            if self._in_vain == IN_VAIN:
                raise SweepsError(f"{IN_VAIN} drivers ended with nothing measured; the last: {self.world.last_word()}")
            self._committed, self.restarts = committed, self.restarts + 1
            self.process = self.world.driver(self.store)
        return status == 0


class _Next:
    """The next disturbance: its kind, and when it is due, after a random rest and mostly not before a block is
    committed again."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.draw(0)

    def draw(self, committed: int) -> None:
        self.kind = self.dice.choice(KINDS)
        self.rested = time.monotonic() + self.dice.expovariate(1 / MEAN_SECONDS)
        self.waits_for = committed + 1 if self.dice.random() < RECOVERED else 0

    def is_due(self, committed: int) -> bool:
        late = time.monotonic() - self.rested
        return late > 0 and (committed >= self.waits_for or late > STUCK)


def _round(store: FlakyStore, world: World, verdict: Verdict, kills: int, coming: _Next, say: Say) -> None:
    """One sweep from its beginning to its end, disturbed while it lasts."""
    driver, coming.waits_for = _Driver(world, store), 1
    while not driver.finished():
        committed, struck = int(store.done().sum()), verdict.disturbances.total()
        if struck >= kills or committed == verdict.blocks or not coming.is_due(committed):
            continue
        if world.disturb(coming.kind, driver.process, store):
            verdict.disturbances[coming.kind] += 1
            left = duration((time.monotonic() - verdict.begun) / (struck + 1) * (kills - struck - 1))
            say(f"{struck + 1}/{kills}: {coming.kind}; {committed}/{verdict.blocks} blocks are committed; {left} left")
            coming.draw(committed)
    verdict.restarts += driver.restarts


def judge(calm: ZarrStore, store: ZarrStore, verdict: Verdict) -> None:
    """Compare a finished round with the undisturbed store, block by block and as readers see it."""
    done, wanted = store.done(), calm.done()
    verdict.lost += int((wanted & ~done).sum())
    verdict.differing += sum(_differs(calm, store, int(index)) for index in np.flatnonzero(wanted & done))
    verdict.duplicated += miscounted(calm.url, store.url)
    if verdict.clean and store.content_hash() != calm.content_hash():
        verdict.differing += 1  # something that the undisturbed one does not have


def _differs(calm: ZarrStore, store: ZarrStore, index: int) -> bool:
    here, there = store.read(store.plan[index]), calm.read(calm.plan[index])
    return any(here[name].tobytes() != there[name].tobytes() for name in there)


def miscounted(calm: str, disturbed: str) -> int:
    """Points whose outcomes count more or fewer draws."""
    a, b = open_sweep(calm), open_sweep(disturbed)
    names = [name for name in a.data_vars if str(name).endswith(("_n", "_undefined"))]
    return sum(int((a[name].values != b[name].values).sum()) for name in names)
