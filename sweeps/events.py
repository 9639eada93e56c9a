"""What happens during a sweep, as frozen records. `run` yields them; the screen, the tracker and tests read them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Receipt:
    """What a writer gives back for a committed block; about 1 KB on the wire, and kept in the store's ledger.

    `digest` is 63 bits of the sha256 of what was written, `finished` nanoseconds since 1970, `seconds` the time
    spent measuring, `writing` the time spent storing.
    """

    block: int
    digest: int
    finished: int
    seconds: float
    device: str
    writing: float = 0.0
    worker: str = ""


@dataclass(frozen=True)
class SweepStarted:
    """`blocks` are known to be wanted, `done` of them are in the store."""

    fingerprint: str
    blocks: int
    done: int
    workers: str = ""


@dataclass(frozen=True)
class BlockDone:
    """`attempt` is the one that was committed, from 1, as far as the executor knows."""

    receipt: Receipt
    attempt: int = 1


@dataclass(frozen=True)
class BlockFailed:
    block: int
    attempts: int
    error: str


@dataclass(frozen=True)
class BlockProgress:
    """A block that takes long is under way and `share` of it is done; 0 if it has to begin again.

    An executor that measures within the call for its next event cannot yield this: `progress.heard` brings it.
    """

    block: int
    share: float


@dataclass(frozen=True)
class TileSettled:
    """All points of a tile have stopped (sweeps with `until`): after so many batches, `narrow` of its points with an
    interval as narrow as asked for, the others with as many draws as allowed."""

    tile: int
    batches: int
    points: int
    narrow: int


@dataclass(frozen=True)
class MoreWanted:
    """Points that have not stopped want more draws: so many blocks are now known to be wanted in all."""

    blocks: int


@dataclass(frozen=True)
class Notice:
    """Something a person following the sweep would want to know, such as a lost worker."""

    text: str


@dataclass(frozen=True)
class NoWorker(Notice):
    """No worker has been there for a while, so no block is under way, though some wait."""


@dataclass(frozen=True)
class SweepDone:
    """The end: `missing` blocks are neither done nor failed; `ended` names the part of the budget that was used up."""

    done: int
    failed: tuple[BlockFailed, ...] = ()
    missing: int = 0
    ended: str = ""


Event = SweepStarted | BlockDone | BlockFailed | BlockProgress | TileSettled | MoreWanted | Notice | SweepDone
