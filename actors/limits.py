"""How long a worker may take, hold and live, and how many blocks it is leased at once.

A statistic's `cost` models the seconds of a block up to a factor that depends on the machine. Reports give that
factor: the ratio of measured to modelled seconds. A block under way is given up for wedged after

    2^losses * max(least, FACTOR * greatest ratio seen * modelled seconds),

where `least` is longer for a worker that has reported nothing yet, since it may be compiling. The power of two makes
a limit that was too short harmless: a block that is merely slow gets through in the end.

A call to a worker costs the driver about a millisecond of CPU, so short blocks are leased several at once, as many
as fill a lease. Leases of larger pools are longer, so that the driver gets `CALLS` reports a second, not more; and so
are the pauses between asking a worker how far its block is.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.worker import Report

FACTOR = 10.0  # between the slowest block seen, for its cost, and one that is given up
CALLS = 10.0  # reports a second
SHORTEST, LONGEST = 0.5, 5.0  # seconds of a lease of several blocks
MOST = 64  # blocks a lease
GLANCE = 5.0  # seconds of a lease until its worker is asked how far it is, and between such questions, at least
WEIGHT = 0.2  # of the last report in the seconds that a block takes lately


@dataclass(frozen=True)
class Limits:
    """Of one worker. `quiet` is the least number of seconds without a report that is too long, `starting` the least
    before its first. Its process is started anew after `blocks`, or above `resident` bytes of memory (by default its
    share of the cluster's) if that is twice what it held at first.

    A new process costs some 10 seconds: at 10^4 blocks of 0.1 s a hundredth of the time, and a library that leaks
    100 KB a block has got to 1 GB.
    """

    quiet: float = 60.0
    starting: float = 600.0
    blocks: int = 10_000
    resident: int | None = None


class Pace:
    """What reports have shown of how fast blocks are."""

    def __init__(self, workers: int) -> None:
        self.lease = max(SHORTEST, min(LONGEST, workers / CALLS))  # seconds
        self.glance = max(GLANCE, workers / CALLS)  # seconds
        self.block: float | None = None  # seconds, lately
        self.ratio = 0.0

    def see(self, report: Report) -> None:
        if report.results:
            block = report.seconds / len(report.results)
            self.block = block if self.block is None else self.block + WEIGHT * (block - self.block)
        self.ratio = max(self.ratio, report.ratio)

    @property
    def blocks(self) -> int:
        """How many fill a lease."""
        return 1 if self.block is None else max(1, min(MOST, int(self.lease / max(self.block, 1e-9))))

    def patience(self, modelled: float, least: float, losses: int) -> float:
        """Seconds after which a block is given up."""
        return 2**losses * max(least, FACTOR * self.ratio * modelled)
