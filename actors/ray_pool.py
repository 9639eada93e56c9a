"""The executor on Ray: a bounded pool of long-lived actors, one per GPU, or per CPU core where there is none.

Ray's own retries are at-least-once and repeat calls that had not failed, so they are off; a lost block is leased
again here, after asking the store whether it was committed before its worker was lost. Only receipts travel
through the object store. Every actor holds two leases, so that it never waits for the driver.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from actors.worker import THREADS, Worker
from sweeps.blocks import Block
from sweeps.errors import RefusedError, StoreError, in_one_line
from sweeps.events import BlockDone, BlockFailed, Event, Notice
from sweeps.run import Store

LEASES = 2  # in flight an actor
ERRORS = 3  # times a block may raise
LOSSES = 5  # times a block may be under way when its worker is lost
POLL = 1.0  # seconds
PATIENCE = 30.0  # seconds without any worker before it is said
REST = 0.5  # seconds between asking a lost worker whether it is back


@dataclass
class Seat:
    """A place in the pool: an actor, which Ray restarts if it dies, and the leases it holds, oldest first."""

    number: int
    actor: Any
    leases: deque[Lease] = field(default_factory=deque)
    away: bool = True  # until it answers a ping
    ask_at: float = 0.0


@dataclass(frozen=True)
class Lease:
    block: Block
    seat: Seat = field(repr=False, compare=False)


class RayPool:
    """Actors on the Ray cluster this process is connected to.

    Args:
        workers: how many; by default one per GPU of the cluster, else one per CPU core. A sweep with
            `device = "cpu"` takes cores even where there are GPUs.

    Raises:
        RefusedError: the cluster lacks what is asked for.
    """

    def __init__(self, workers: int | None = None, device: str = "auto") -> None:
        have = ray.cluster_resources()
        gpus, cores = int(have.get("GPU", 0)), int(have.get("CPU", 0))
        self.device = "cpu" if device == "cpu" or (device == "auto" and gpus == 0) else "cuda"
        there = gpus if self.device == "cuda" else cores
        if there == 0:
            what = "GPU" if self.device == "cuda" else "CPU core"
            raise RefusedError(f"the Ray cluster has no {what}: it offers {have}; add a node or change `device`")
        if workers is not None and not 1 <= workers <= there:
            raise RefusedError(f"workers must be between 1 and the cluster's {there}, got {workers}")
        self.size = workers or there

    @property
    def workers(self) -> str:
        what = "GPU" if self.device == "cuda" else "CPU core"
        return f"{self.size} Ray actor{'s' * (self.size > 1)}, one per {what}"

    def run(self, blocks: Iterable[Block], store: Store) -> Iterator[Event]:
        blocks = iter(blocks)
        first = next(blocks, None)
        if first is None:
            return
        seats = [Seat(i, self.actor(store)) for i in range(self.size)]
        try:
            yield from _Round(seats, chain([first], blocks), store).events()
        finally:
            for seat in seats:
                ray.kill(seat.actor)

    def actor(self, store: Store) -> Any:
        """One worker. A CPU worker is shown no GPU; a GPU worker is shown the one Ray gave it."""
        gpu = self.device == "cuda"
        environment = THREADS if gpu else {**THREADS, "CUDA_VISIBLE_DEVICES": ""}
        options: dict[str, Any] = {
            "num_cpus": 0 if gpu else 1,
            "num_gpus": 1 if gpu else 0,
            "max_restarts": -1,
            "max_task_retries": 0,
            "runtime_env": {"env_vars": environment},
        }
        return ray.remote(Worker).options(**options).remote(store, self.device)  # type: ignore[attr-defined]


class _Round:
    """One sweep's worth of leases over a set of seats."""

    def __init__(self, seats: list[Seat], blocks: Iterator[Block], store: Store) -> None:
        self.seats, self.blocks, self.store = seats, blocks, store
        self.again: deque[Block] = deque()
        self.flights: dict[Any, Lease | Seat] = {}  # a lease under way, or a seat whose ping is awaited
        self.idle_since = time.monotonic()
        self.errors: Counter[int] = Counter()
        self.losses: Counter[int] = Counter()

    def events(self) -> Iterator[Event]:
        while self._lease_all() or any(seat.leases for seat in self.seats):
            self._ask()
            yield from self._waiting()
            if not self.flights:  # all workers are away, and none is to be asked yet
                time.sleep(REST)
                continue
            ready, _ = ray.wait(list(self.flights), num_returns=1, timeout=POLL, fetch_local=False)
            for ref in ready:
                flight = self.flights.pop(ref)
                if isinstance(flight, Seat):
                    self._answered(flight, ref)
                else:
                    under_way = flight.seat.leases[0]
                    flight.seat.leases.remove(flight)
                    yield from self._landed(flight, ref, under_way.block)

    def _lease_all(self) -> bool:
        """Fill the seats that are up, evenly; whether any block is left to lease."""
        for depth in range(1, LEASES + 1):
            for seat in self.seats:
                if not self.again:
                    self.again.extend(islice(self.blocks, 1))
                if not self.again:
                    return False
                if not seat.away and len(seat.leases) < depth:
                    lease = Lease(self.again.popleft(), seat)
                    seat.leases.append(lease)
                    self.flights[seat.actor.lease.remote(lease.block)] = lease
        return True

    def _landed(self, lease: Lease, ref: Any, under_way: Block) -> Iterator[Event]:
        try:
            yield BlockDone(ray.get(ref))
        except RayTaskError as error:
            yield from self._raised(lease.block, error)
        except RayError as error:
            yield from self._lost(lease, error, under_way)

    def _raised(self, block: Block, error: RayTaskError) -> Iterator[Event]:
        if isinstance(error.cause, StoreError):
            raise error.cause  # no block's fault: the sweep ends, and can be resumed
        self.errors[block.index] += 1
        if self.errors[block.index] < ERRORS:
            self.again.append(block)
        else:
            cause = error.cause if isinstance(error.cause, Exception) else error
            yield BlockFailed(block.index, ERRORS, in_one_line(cause))

    def _lost(self, lease: Lease, error: RayError, under_way: Block) -> Iterator[Event]:
        """The worker is gone, or cannot be reached: whether the block was written is for the store to say.
        Only the oldest lease was under way, and can have been the cause."""
        seat, block = lease.seat, lease.block
        if not seat.away:
            seat.away, seat.ask_at = True, 0.0
            state = "cannot be reached" if isinstance(error, ActorUnavailableError) else "died"
            yield Notice(f"worker {seat.number} {state}; its blocks are leased again")
            self.losses[under_way.index] += 1
        receipt = self.store.receipt(block)
        if receipt is not None:
            yield BlockDone(receipt)
        elif self.losses[block.index] >= LOSSES:
            yield BlockFailed(block.index, LOSSES, f"its worker was lost {LOSSES} times, {in_one_line(error)}")
        else:
            self.again.append(block)

    def _ask(self) -> None:
        """Nothing is leased to a worker that is away until it answers; ask those whose time has come."""
        asked = {flight.number for flight in self.flights.values() if isinstance(flight, Seat)}
        for seat in self.seats:
            if seat.away and seat.number not in asked and time.monotonic() >= seat.ask_at:
                self.flights[seat.actor.ping.remote()] = seat

    def _waiting(self) -> Iterator[Event]:
        """Say so from time to time while nobody can work."""
        if any(not seat.away for seat in self.seats):
            self.idle_since = time.monotonic()
        elif time.monotonic() - self.idle_since > PATIENCE:
            self.idle_since = time.monotonic()
            free = _in_words(ray.available_resources())
            yield Notice(f"waiting for {len(self.seats)} workers; free in the cluster: {free}")

    def _answered(self, seat: Seat, ref: Any) -> None:
        try:
            ray.get(ref)
            seat.away = False
        except RayError as error:
            failed = not isinstance(error, RayActorError) or error.actor_init_failed
            if failed:
                cause = error.cause if isinstance(error, RayTaskError) and error.cause else error
                raise RefusedError(f"a worker cannot start: {in_one_line(cause)}") from None
            seat.ask_at = time.monotonic() + REST


def _in_words(resources: Mapping[str, float]) -> str:
    named = {k: v for k, v in resources.items() if k in ("CPU", "GPU")}
    return ", ".join(f"{v:g} {k}" for k, v in named.items()) or "nothing"
