"""`sweeps chaos`: run a sweep while killing what it runs on, and compare the result with an undisturbed run.

A cluster of several raylets, a driver and an MLflow server are started here. At random times a worker, a raylet,
the driver or the server is killed, or the next write to the store fails; what a supervisor would restart is
restarted. Rounds are run until there were as many disturbances as asked for. The times and kinds are a function
of the seed; what they hit depends on the machine.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from actors.inline import Inline
from deploy.chaos_world import World
from deploy.flaky_store import FlakyStore
from storage import open_sweep
from storage.zarr_store import ZarrStore
from sweeps.run import run
from sweeps.sweep import Sweep

KINDS = ("worker", "raylet", "driver", "server", "write")
MEAN_SECONDS = 1.0  # between disturbances, at least
RECOVERED = 0.8  # share of them that wait until a block was committed since the last one
STUCK = 30.0  # seconds after which none waits
TICK = 0.2


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


def chaos(sweep: Sweep, kills: int, seed: int, folder: Path, say: Callable[[str], None], raylets: int = 2) -> Verdict:
    """Disturb a sweep until there were `kills` disturbances, in rounds; stores and logs go to `folder`."""
    verdict, dice = Verdict(), random.Random(seed)
    calm = ZarrStore.create(str(folder / "undisturbed.zarr"), sweep)
    say("measuring it undisturbed, for comparison")
    for _ in run(calm, Inline(sweep.device)):
        pass
    verdict.blocks = int(calm.done().sum())
    with World(folder, raylets) as world:
        while verdict.disturbances.total() < kills:
            verdict.rounds += 1
            url = str(folder / f"round-{verdict.rounds}.zarr")
            say(f"round {verdict.rounds}")
            store = FlakyStore.create(url, sweep)
            _round(store, world, verdict, kills, dice, say)
            _judge(calm, store, world, verdict)
            if verdict.clean and verdict.disturbances.total() < kills:
                shutil.rmtree(url)
    return verdict


def _round(
    store: FlakyStore, world: World, verdict: Verdict, kills: int, dice: random.Random, say: Callable[[str], None]
) -> None:
    """One sweep from its beginning to its end, disturbed while it lasts."""
    driver, rest = world.driver(store), _rest(dice)
    committed, patience = 0, next(rest)
    while (ended := driver.wait(TICK)) != 0:
        if ended is not None:
            verdict.restarts += 1
            driver = world.driver(store)
        patience -= TICK
        done = int(store.done().sum())
        recovered = done > committed or patience < -STUCK
        if verdict.disturbances.total() >= kills or patience > 0 or not recovered or done == verdict.blocks:
            continue
        kind = dice.choice(KINDS)
        if world.disturb(kind, driver, store, dice):
            verdict.disturbances[kind] += 1
            say(f"{verdict.disturbances.total()}/{kills}: {kind}; {done}/{verdict.blocks} blocks are committed")
            committed = done if dice.random() < RECOVERED else -1
            patience = next(rest)


def _rest(dice: random.Random) -> Iterator[float]:
    """Seconds between one disturbance and the next."""
    while True:
        yield dice.expovariate(1 / MEAN_SECONDS)


def _judge(calm: ZarrStore, store: FlakyStore, world: World, verdict: Verdict) -> None:
    """Compare a finished round with the undisturbed store, block by block."""
    done, wanted = store.done(), calm.done()
    verdict.lost += int((wanted & ~done).sum())
    for index in map(int, np.flatnonzero(wanted & done)):
        here, there = store.read(store.plan[index]), calm.read(calm.plan[index])
        verdict.differing += any(here[name].tobytes() != there[name].tobytes() for name in there)
    if done.tolist() == wanted.tolist() and store.content_hash() != calm.content_hash() and not verdict.differing:
        verdict.differing += 1
    verdict.duplicated += _miscounted(calm.url, store.url) + world.published_twice(store)
    verdict.again += store.again()


def _miscounted(calm: str, disturbed: str) -> int:
    """Points whose outcomes count more or fewer draws."""
    a, b = open_sweep(calm), open_sweep(disturbed)
    names = [name for name in a.data_vars if str(name).endswith(("_n", "_undefined"))]
    return sum(int((a[name].values != b[name].values).sum()) for name in names)
