"""Coverage of the stopping rules for proportions, exactly: the chances of 0, 1, ... ones are carried from look to look.

    python benchmarks/proportions.py

A row is a half-width, over 100 values of p from a hundredth of it to 1/2: the least coverage, the p where it is, and
the chance there that the share of ones ends within the half-width of p; the least coverage beyond two half-widths;
the largest mean number of looks. Batches of 256 draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import binom

from sweeps.intervals import interval
from sweeps.moments import Moments
from sweeps.stopping import Until, first_look, next_look, tuned_to

BATCH = 256
MOST = 2**20  # batches; never reached
NEGLIGIBLE = 1e-15


@dataclass(frozen=True)
class Exact:
    """At a point whose draws are 1 with probability p: chances that the final interval holds p, and that the share of
    ones ends within the half-width of p; mean draws and looks."""

    coverage: float
    within: float
    draws: float
    looks: float


def exactly(until: Until, p: float, draws_per_batch: int = BATCH, batches: int = MOST) -> Exact:
    look = first_look(until, draws_per_batch, batches)
    waiting = {look: _binomial(look * draws_per_batch, p)}  # look -> chances of 0, 1, ... ones and of getting there
    sums = np.zeros(4)
    while waiting:
        look = min(waiting)
        n, chances = look * draws_per_batch, waiting.pop(look)
        ones = np.flatnonzero(chances > NEGLIGIBLE)
        chance, share, zero = chances[ones], ones / n, np.zeros(len(ones))
        total = Moments(zero + n, zero, share, ones * (1 - share), zero, zero + 1)
        after = next_look(until, "proportion", total, look, draws_per_batch, batches)
        low, high = interval(total, "proportion", until.confidence, tuned_to(until, "proportion"))
        held, within = (low <= p) & (p <= high), np.abs(share - p) <= until.halfwidth
        stops = after == look
        sums += *(chance[stops & what].sum() for what in (held, within)), n * chance[stops].sum(), chance.sum()
        for there in map(int, np.unique(after[~stops])):
            going = np.zeros(len(chances))
            going[ones[after == there]] = chance[after == there]
            more = fftconvolve(going, _binomial((there - look) * draws_per_batch, p))
            waiting[there] = _add(waiting.get(there, np.zeros(1)), more)
    return Exact(*map(float, sums))


def _binomial(n: int, p: float) -> np.ndarray:
    """Chances of 0, 1, ... ones, as far as they are not negligible."""
    return binom.pmf(np.arange(int(binom.isf(NEGLIGIBLE, n, p)) + 2), n, p)


def _add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    return longer + np.pad(shorter, (0, len(longer) - len(shorter)))


def row(guarantee: str, confidence: float, halfwidth: float) -> str:
    until = Until(outcome="x", halfwidth=halfwidth, confidence=confidence, guarantee=guarantee)  # type: ignore[arg-type]
    grid = np.geomspace(halfwidth / 100, 0.5, 100)
    found = [exactly(until, p) for p in grid]
    coverage = np.array([e.coverage for e in found])
    worst, beyond = int(coverage.argmin()), coverage[grid > 2 * halfwidth].min()
    return (
        f'| "{guarantee}" | {confidence} | {halfwidth} | {coverage[worst]:.4f} | {grid[worst]:.2g} '
        f"| {found[worst].within:.4f} | {beyond:.4f} | {max(e.looks for e in found):.1f} |"
    )


def main() -> None:
    print(
        "| guarantee | confidence | half-width | least coverage | at p | within there | beyond 2 half-widths | looks |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for guarantee in ("fixed", "anytime"):
        for confidence in (0.95, 0.99):
            for halfwidth in (0.1, 0.05, 0.02, 0.01):
                print(row(guarantee, confidence, halfwidth), flush=True)


if __name__ == "__main__":
    main()
