"""Leases of blocks to workers, and what becomes of them.

Ray's own retries are at-least-once and repeat calls that had not failed, so they are off; a lost block is leased
again here. Only reports travel through the object store. Every worker holds two leases, so that it never waits for
the driver.

A worker that died, or cannot be reached, is away until it answers a ping; Ray restarts it. One that gives no report
in time is fenced: its actor is killed for good and another takes the seat; what the old one may still write is what
the new one writes. A worn one is drained and replaced in the same way.

A worker that has been at a lease for a while is asked how far it is. One that gets on is not wedged, however long its
block takes; one that does not answer is left to its lease.

A worker on which everything raises, such as one whose GPU has failed, is always free and would take the tries of every
block. So a block that raised is tried elsewhere before it is given up, and waits for a worker that is starting if
there is no other. Such a worker is replaced once blocks are measured otherwise.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from actors.limits import Limits, Pace
from actors.supply import Supply
from actors.worker import BESIDE, Raised, Report, modelled
from sweeps.blocks import Block
from sweeps.errors import RefusedError, StoreError, in_one_line
from sweeps.events import BlockDone, BlockFailed, BlockProgress, Event, Notice, NoWorker, Receipt
from sweeps.run import Store

log = logging.getLogger(__name__)

LEASES = 2  # in flight a worker
ERRORS = 3  # times a block may raise
STREAK = 3  # blocks in a row that raise on a worker
LONGEST_REST = 60.0  # seconds
LOSSES = 5  # times a block may be under way when its worker is lost
POLL = 1.0  # seconds
PATIENCE = 30.0  # seconds without any worker before it is said
REST = 0.5  # seconds between asking a lost worker whether it is back


@dataclass(eq=False)
class Seat:
    """A place in the pool: an actor, and the leases it holds, oldest first."""

    number: int
    actor: Any
    leases: deque[Lease] = field(default_factory=deque)
    away: bool = True  # until it answers a ping
    asked: Any = None  # whether it is back, if away; else how far it is
    ask_at: float = 0.0
    since: float = field(default_factory=time.monotonic)  # when its oldest lease began or got on; if away, when it went
    look_at: float = math.inf  # when to see whether it is wedged
    blocks: int = 0  # results of this process
    measured: int = 0  # of them receipts
    raised: dict[int, str] = field(default_factory=dict)  # block: what, since its last receipt
    elsewhere: int = 0  # receipts of the pool when the first of them raised
    rest: float = REST  # seconds that it had before it was asked
    resident: int = 0  # bytes at its first report
    worn: bool = False


@dataclass(eq=False)
class Lease:
    blocks: list[Block]
    seat: Seat
    ref: Any


class Leases:
    """One sweep's worth of leases over a set of seats. `hire` makes an actor."""

    def __init__(
        self, seats: list[Seat], supply: Supply, store: Store, limits: Limits, hire: Callable[[], Any]
    ) -> None:
        self.seats, self.supply, self.store, self.limits, self.hire = seats, supply, store, limits, hire
        self.pace = Pace(len(seats))
        self.flights: dict[Any, Lease | Seat] = {}  # a lease under way, or a seat whose answer is awaited
        self.shares: dict[int, float] = {}  # block: how much of it is done, if it was told
        self.errors: dict[int, list[int]] = {}  # block: the seats on which it raised
        self.measured = 0  # receipts
        self.losses: Counter[int] = Counter()
        self.doubtful: set[int] = set()  # blocks that a lost worker may have written
        self.idle_since = time.monotonic()

    def events(self) -> Iterator[Event]:
        while self._lease_all():
            for event in self._round():
                yield event
                self.supply.told()

    def _round(self) -> Iterator[Event]:
        """Wait for one thing to happen."""
        self._ask()
        yield from self._waiting()
        yield from self._fence()
        if not self.flights:  # all workers are away, and none is to be asked yet
            time.sleep(REST)
            return
        ready, _ = ray.wait(list(self.flights), num_returns=1, timeout=POLL, fetch_local=False)
        for ref in ready:
            flight = self.flights.pop(ref)
            if isinstance(flight, Seat):
                yield from self._answered(flight)
            else:
                yield from self._returned(flight)
        yield from self._suspect()

    def _lease_all(self) -> bool:
        """Deal blocks evenly to the seats that can take them; whether any block is under way, or waits."""
        for seat in self.seats:
            if seat.worn and not seat.leases:
                self._replace(seat)
        up = [seat for seat in self.seats if not seat.away and not seat.worn]
        places = [seat for depth in range(LEASES) for seat in up if len(seat.leases) <= depth]
        if self.supply.again:
            self._lease_alone(places)
        else:
            self._deal(self.supply.take(self.pace.blocks * len(places)), places)
        return any(seat.leases for seat in self.seats) or self.supply.any()

    def _lease_alone(self, places: list[Seat]) -> None:
        """Where some were lost or raised, a block each."""
        there = self._there()
        for seat in places:
            block = self.supply.pick(partial(self._suits, seat, there))
            if block is not None:
                self._lease(seat, [block])

    def _there(self) -> set[int]:
        """The seats whose worker is up, or has not been away for longer than one may take to start."""
        now = time.monotonic()
        return {seat.number for seat in self.seats if not seat.away or now - seat.since < self.limits.starting}

    def _suits(self, seat: Seat, there: set[int], block: Block) -> bool:
        """Whether a block has not raised on that seat, or has on all that are there."""
        tried = set(self.errors.get(block.index, ()))
        return seat.number not in tried or there <= tried

    def _deal(self, blocks: list[Block], places: list[Seat]) -> None:
        share, more = divmod(len(blocks), max(1, len(places)))
        rest = iter(blocks)
        for i, seat in enumerate(places[: len(blocks)]):
            self._lease(seat, list(islice(rest, share + (i < more))))

    def _lease(self, seat: Seat, blocks: list[Block]) -> None:
        doubtful = [block.index for block in blocks if block.index in self.doubtful]
        again = {block.index: n for block in blocks if (n := self._attempt(block.index)) > 1}
        lease = Lease(blocks, seat, seat.actor.lease.remote(blocks, self.pace.lease, doubtful, again))
        self.flights[lease.ref] = lease
        seat.leases.append(lease)
        if len(seat.leases) == 1:
            self._clock(seat)

    def _attempt(self, block: int) -> int:
        """The number of the one under way, or to come."""
        return 1 + len(self.errors.get(block, ())) + self.losses[block]

    def _clock(self, seat: Seat) -> None:
        """Its oldest lease begins, or gets on."""
        seat.since = time.monotonic()
        seat.look_at = seat.since + self.limits.quiet if seat.leases else math.inf
        seat.ask_at = seat.since + self.pace.glance if seat.leases else math.inf

    def _returned(self, lease: Lease) -> Iterator[Event]:
        seat = lease.seat
        try:
            report: Report = ray.get(lease.ref)
        except RayTaskError:
            raise  # a worker tells in its report what a block raises
        except RayError as error:
            yield from self._gone(seat, error)
            return
        seat.leases.remove(lease)
        self._clock(seat)
        self.pace.see(report)
        self.supply.back(lease.blocks[len(report.results) :])
        yield from self._wear(seat, report)
        for block, result in zip(lease.blocks, report.results, strict=False):
            yield from self._raised(seat, block, result) if isinstance(result, Raised) else self._measured(seat, result)
        if report.store_error:
            raise StoreError(report.store_error)  # no block's fault: the sweep ends, and can be resumed

    def _measured(self, seat: Seat, receipt: Receipt) -> Iterator[Event]:
        self.measured, seat.measured = self.measured + 1, seat.measured + 1
        seat.raised.clear()
        self.shares.pop(receipt.block, None)
        yield BlockDone(receipt, self._attempt(receipt.block))

    def _raised(self, seat: Seat, block: Block, raised: Raised) -> Iterator[Event]:
        if not seat.raised:
            seat.elsewhere = self.measured
        seat.raised[block.index] = raised.error
        about = {"block": block.index, "attempt": self._attempt(block.index), "worker": seat.number}
        log.info("block raised %s", raised.error, extra={"fields": about})
        tried = self.errors.setdefault(block.index, [])
        tried.append(seat.number)
        enough = raised.final or len(tried) >= ERRORS
        if enough and (len(set(tried)) > 1 or self._there() <= set(tried)):
            yield BlockFailed(block.index, len(tried), raised.error)
        else:
            yield from self._again([block])

    def _again(self, blocks: Collection[Block]) -> Iterator[Event]:
        """They are to be measured again, from their beginning."""
        self.supply.back(blocks)
        yield from [BlockProgress(block.index, 0.0) for block in blocks if self.shares.pop(block.index, None)]

    def _suspect(self) -> Iterator[Event]:
        """One on which all raises gets no new lease, if blocks are measured elsewhere, or were by itself."""
        for seat in self.seats:
            otherwise = seat.measured or self.measured > seat.elsewhere
            if len(seat.raised) >= STREAK and otherwise and not seat.worn:
                yield Notice(
                    f"on worker {seat.number} {len(seat.raised)} blocks in a row raised, the last "
                    f"{list(seat.raised.values())[-1]}; its process is started anew"
                )
                seat.worn = True

    def _wear(self, seat: Seat, report: Report) -> Iterator[Event]:
        """A process that has measured enough, or has grown too large, gets no new lease."""
        seat.blocks += len(report.results)
        seat.resident = seat.resident or report.resident
        limit = self.limits.resident or math.inf
        if not seat.worn and report.resident > max(limit, 2 * seat.resident):
            yield Notice(
                f"worker {seat.number} holds {report.resident / 1e9:.1f} GB of memory, over its limit of "
                f"{limit / 1e9:.1f} GB; its process is started anew"
            )
            seat.worn = True
        seat.worn = seat.worn or seat.blocks >= self.limits.blocks

    def _gone(self, seat: Seat, error: RayError) -> Iterator[Event]:
        """Its worker died or cannot be reached. It may be measuring still, and answers a ping only after that."""
        self._forget(seat)
        state = "cannot be reached" if isinstance(error, ActorUnavailableError) else "died"
        seat.look_at = time.monotonic() + sum(self._patience(seat, lease) for lease in seat.leases)
        seat.away, seat.since, seat.ask_at, seat.worn = True, time.monotonic(), 0.0, False
        seat.blocks = seat.measured = seat.resident = 0
        seat.raised.clear()
        yield Notice(f"worker {seat.number} {state}; its blocks are leased again")
        yield from self._lost(seat, in_one_line(error))

    def _lost(self, seat: Seat, why: str) -> Iterator[Event]:
        """The blocks of a lost worker. It measures in order, so those before the first that the store lacks are
        done, that one was under way and can have been the cause, and the others were not begun."""
        blocks = deque(block for lease in seat.leases for block in lease.blocks)
        for lease in seat.leases:
            self.flights.pop(lease.ref, None)
        seat.leases.clear()
        while blocks and (receipt := self.store.receipt(blocks[0])) is not None:
            blocks.popleft()
            yield BlockDone(receipt, self._attempt(receipt.block))
        if not blocks:
            return
        suspect = blocks[0].index
        about = {"block": suspect, "attempt": self._attempt(suspect), "worker": seat.number}
        log.info("block was under way when its worker was lost: %s", why, extra={"fields": about})
        self.losses[suspect] += 1
        if self.losses[suspect] >= LOSSES:
            blocks.popleft()
            yield BlockFailed(suspect, LOSSES, f"its worker was lost {LOSSES} times, {why}")
        self.doubtful.update(block.index for block in blocks)
        yield from self._again(blocks)

    def _fence(self) -> Iterator[Event]:
        """Take the seat from a worker that has given no report in time, or does not answer."""
        now = time.monotonic()
        for seat in [seat for seat in self.seats if now >= seat.look_at]:
            oldest = seat.leases[0] if seat.leases else None
            if oldest is not None:
                seat.look_at = seat.since + self._patience(seat, oldest)
                if now < seat.look_at or ray.wait([oldest.ref], timeout=0, fetch_local=False)[0]:
                    continue
            silence = f"gave no report for {now - seat.since:.0f} s"
            self._replace(seat)
            yield Notice(f"worker {seat.number} {silence}; another takes its place, and its blocks are leased again")
            yield from self._lost(seat, f"the last time it {silence}")

    def _patience(self, seat: Seat, lease: Lease) -> float:
        """Seconds after which a lease that has begun is given up."""
        least = self.limits.quiet if seat.blocks else self.limits.starting
        sweep = self.store.sweep
        return self.pace.lease + max(
            self.pace.patience(modelled(sweep, b), least, self.losses[b.index]) for b in lease.blocks
        )

    def _forget(self, seat: Seat) -> None:
        """What it was asked."""
        self.flights.pop(seat.asked, None)
        seat.asked = None

    def _replace(self, seat: Seat) -> None:
        self._forget(seat)
        ray.kill(seat.actor)
        rest = min(2 * seat.rest, LONGEST_REST) if len(seat.raised) >= STREAK else REST
        self.seats[seat.number] = Seat(seat.number, self.hire(), ask_at=time.monotonic() + rest, rest=rest)

    def _ask(self) -> None:
        """Those whose time has come. Nothing is leased to a worker that is away until it answers."""
        for seat in self.seats:
            if seat.asked is None and time.monotonic() >= seat.ask_at:
                progress = seat.actor.progress.options(concurrency_group=BESIDE)
                seat.asked = (seat.actor.ping if seat.away else progress).remote()
                self.flights[seat.asked] = seat

    def _waiting(self) -> Iterator[Event]:
        """Say so from time to time while nobody can work."""
        if any(not seat.away for seat in self.seats):
            self.idle_since = time.monotonic()
        elif time.monotonic() - self.idle_since > PATIENCE:
            self.idle_since = time.monotonic()
            free = _in_words(ray.available_resources())
            yield NoWorker(f"waiting for {len(self.seats)} workers; free in the cluster: {free}")

    def _answered(self, seat: Seat) -> Iterator[Event]:
        ref, seat.asked = seat.asked, None
        if seat.away:
            self._pinged(seat, ref)
        elif seat.leases:
            seat.ask_at = time.monotonic() + self.pace.glance
            yield from self._told(seat, ref)

    def _told(self, seat: Seat, ref: Any) -> Iterator[Event]:
        """How far its oldest lease is, unless that has ended meanwhile."""
        try:
            told: BlockProgress | None = ray.get(ref)
        except RayError:
            return  # what becomes of its lease tells more
        if told is None or all(block.index != told.block for block in seat.leases[0].blocks):
            return
        if told.share > self.shares.get(told.block, 0.0):
            self._clock(seat)
        self.shares[told.block] = told.share
        yield told

    def _pinged(self, seat: Seat, ref: Any) -> None:
        try:
            ray.get(ref)
            seat.away, seat.look_at, seat.ask_at = False, math.inf, math.inf
        except ActorUnavailableError:
            seat.ask_at = time.monotonic() + REST
        except RayActorError as error:
            if error.actor_init_failed:
                raise RefusedError(f"a worker cannot start: {in_one_line(error)}") from None
            self._replace(seat)  # somebody killed it for good
        except RayError as error:
            cause = error.cause if isinstance(error, RayTaskError) and error.cause else error
            raise RefusedError(f"a worker cannot start: {in_one_line(cause)}") from None


def _in_words(resources: Mapping[str, float]) -> str:
    named = {k: v for k, v in resources.items() if k in ("CPU", "GPU")}
    return ", ".join(f"{v:g} {k}" for k, v in named.items()) or "nothing"
