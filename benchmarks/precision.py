"""How often the interval at which a point stops holds the mean, and what that costs, by simulation.

    python benchmarks/precision.py [--replications 4000]

A replication draws a point from a law of known mean, in batches, until a rule stops it. The half-width asked for is the
one that the law's own moments give at a fixed number of draws. The rules:

fixed number    that number of draws, which nobody knows beforehand: costs are multiples of it
every 16 draws  the naive rule: the same interval, after every 16 draws from the first 16 on, until it is narrow
"fixed"         the looks of sweeps.stopping
"anytime"       the looks of sweeps.stopping, with its confidence sequences

In the first tables, with batches of 256 draws and the default `min_draws`, a cell is the coverage in per cent with its
standard error, the mean cost, and the mean number of looks. In the last, with batches of 16 draws, it is the coverage
of "fixed" by `min_draws`, for a goal that takes four times as many draws, and that of the fixed number.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sweeps.intervals import interval
from sweeps.moments import Moments
from sweeps.stopping import Until, first_look, narrow, next_look, tuned_to

PIECE = 16  # draws between the looks of the naive rule
MOST = 8  # every rule ends after this many times the fixed number
NOTHING = (0, 0, np.nan, 0, np.nan, np.nan)  # moments of no draw
RULES = ("fixed number", "every 16 draws", '"fixed"', '"anytime"')


@dataclass(frozen=True)
class Law:
    """Where draws come from: `draw(rng, shape)`, of known moments."""

    name: str
    kind: str
    mean: float
    variance: float
    skewness: float
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

    def halfwidth(self, draws: int, confidence: float) -> float:
        """Of the interval that the law's own moments give."""
        ideal = (draws, 0, self.mean, self.variance * (draws - 1), 0, 1)
        low, high = interval(Moments(*(np.array([float(x)]) for x in ideal)), self.kind, confidence)
        return float((high - low)[0] / 2)


def bernoulli(p: float) -> Law:
    variance = p * (1 - p)
    skewness = (1 - 2 * p) / variance**0.5
    return Law(f"Bernoulli {p:g}", "proportion", p, variance, skewness, lambda rng, shape: rng.random(shape) < p)


def poisson(mean: float) -> Law:
    return Law(f"Poisson {mean:g}", "count", mean, mean, mean**-0.5, lambda rng, shape: rng.poisson(mean, shape))


def lognormal(sigma: float) -> Law:
    mean, spread = math.exp(sigma**2 / 2), math.expm1(sigma**2)
    return Law(
        f"lognormal {sigma:g}",
        "real",
        mean,
        spread * mean**2,
        (spread + 3) * spread**0.5,
        lambda rng, shape: rng.lognormal(0, sigma, shape),
    )


LAWS = (
    *map(bernoulli, (0.5, 0.1, 0.01, 0.001)),
    Law("normal", "real", 0, 1, 0, lambda rng, shape: rng.standard_normal(shape)),
    Law("uniform", "real", 0.5, 1 / 12, 0, lambda rng, shape: rng.random(shape)),
    Law("exponential", "real", 1, 1, 2, lambda rng, shape: rng.standard_exponential(shape)),
    poisson(0.1),
    lognormal(1),
    lognormal(1.5),
)


@dataclass(frozen=True)
class Rule:
    """Looks first after `first` pieces; `after(total, looked)` is where it looks next, `looked` itself to stop."""

    first: int
    after: Callable[[Moments, int], np.ndarray]
    anytime: int = 0


def rules(law: Law, draws: int, goal: Until, draws_per_batch: int) -> dict[str, Rule]:
    """By name; `draws` is the fixed number."""
    most, pieces = MOST * draws // draws_per_batch, draws_per_batch // PIECE

    def ours(until: Until) -> Rule:
        def after(total: Moments, looked: int) -> np.ndarray:
            return next_look(until, law.kind, total, looked // pieces, draws_per_batch, most) * pieces

        return Rule(first_look(until, draws_per_batch, most) * pieces, after, tuned_to(until, law.kind))

    def every(total: Moments, looked: int) -> np.ndarray:
        eager = goal.model_copy(update={"min_draws": 2})
        return np.where(narrow(eager, law.kind, total) | (looked == most * pieces), looked, looked + 1)

    known = Rule(draws // PIECE, lambda total, looked: np.full(len(total.n), looked))
    predicted = [ours(goal.model_copy(update={"guarantee": g})) for g in ("fixed", "anytime")]
    return dict(zip(RULES, (known, Rule(1, every), *predicted), strict=True))


class Watch:
    """A rule at work on many replications."""

    def __init__(self, rule: Rule, replications: int) -> None:
        self.rule = rule
        self.next = np.full(replications, rule.first)  # pieces; 0 once stopped
        self.looks = np.zeros(replications)
        self.final = np.full((replications, 6), np.nan)

    def look(self, pieces: int, total: np.ndarray) -> None:
        due = np.flatnonzero(self.next == pieces)
        if due.size:
            after = self.rule.after(Moments.unstack(total[due]), pieces)
            self.looks[due] += 1
            self.final[due[after == pieces]] = total[due[after == pieces]]
            self.next[due] = np.where(after == pieces, 0, after)


@dataclass(frozen=True)
class Result:
    """What a rule did: `cost` is mean draws as a multiple of the fixed number, `cut` the share that reached MOST."""

    coverage: float
    error: float  # standard error of the coverage
    cost: float
    looks: float
    cut: float

    def __str__(self) -> str:
        return f"{100 * self.coverage:.1f} ± {100 * self.error:.1f} · {self.cost:.2f} · {self.looks:.1f}"


def simulate(
    law: Law,
    draws: int,
    confidence: float,
    replications: int,
    *,
    seed: int = 0,
    draws_per_batch: int = 256,
    **goal: int,
) -> dict[str, Result]:
    """Results by rule, all on the same draws. `draws` is the fixed number; `goal` goes to `Until`."""
    until = Until(outcome="x", halfwidth=law.halfwidth(draws, confidence), confidence=confidence, **goal)  # type: ignore
    watches = {k: Watch(r, replications) for k, r in rules(law, draws, until, draws_per_batch).items()}
    rng = np.random.default_rng([seed, draws, *law.name.encode()])
    total, pieces = Moments.unstack(np.tile(NOTHING, (replications, 1))), 0
    while any(w.next.any() for w in watches.values()):
        runs = law.draw(rng, (replications, 16, PIECE))
        for piece in np.swapaxes(Moments.of(runs).stack(), 0, 1):
            total, pieces = total.merge(Moments.unstack(piece)), pieces + 1
            stacked = total.stack()
            for watch in watches.values():
                watch.look(pieces, stacked)
    return {k: _result(law, draws, confidence, w) for k, w in watches.items()}


def _result(law: Law, draws: int, confidence: float, watch: Watch) -> Result:
    final = Moments.unstack(watch.final)
    low, high = interval(final, law.kind, confidence, watch.rule.anytime)
    holds, cost = (low <= law.mean) & (law.mean <= high), final.n / draws
    error = float(np.sqrt(holds.mean() * (1 - holds.mean()) / len(holds)))
    return Result(
        float(holds.mean()), error, float(cost.mean()), float(watch.looks.mean()), float((cost == MOST).mean())
    )


def by_law(confidence: float, replications: int) -> None:
    print(f"\nNominal {confidence:.0%}:\n")
    print("| law | draws | half-width |", " | ".join(RULES), "|")
    print("|---|---:|---:|" + "---|" * len(RULES))
    cut = {}
    for law in LAWS:
        for draws in (512, 2560, 25600):
            found = simulate(law, draws, confidence, replications)
            cells = " | ".join(map(str, found.values()))
            print(f"| {law.name} | {draws} | {law.halfwidth(draws, confidence):.3g} | {cells} |", flush=True)
            cut |= {f"{law.name}, {draws}, {rule}": f"{r.cut:.2%}" for rule, r in found.items() if r.cut}
    print(f"\nCut off at {MOST} times the fixed number:", "; ".join(f"{k} {v}" for k, v in cut.items()) or "none")


def by_min_draws(replications: int) -> None:
    choices = (16, 64, 256, 1024, 4096)
    print("\nNominal 95%, by min_draws:\n")
    print("| law | skewness |", " | ".join(map(str, choices)), "|")
    print("|---|---:|" + "---|" * len(choices))
    for law in LAWS:
        if law.kind != "proportion":
            cells = []
            for least in choices:
                found = simulate(law, 4 * least, 0.95, replications, draws_per_batch=16, min_draws=least)
                cells.append(f"{100 * found[RULES[2]].coverage:.1f}, {100 * found[RULES[0]].coverage:.1f}")
            print(f"| {law.name} | {law.skewness:.1f} |", " | ".join(cells), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=4000)
    options = parser.parse_args()
    for confidence in (0.95, 0.99):
        by_law(confidence, options.replications)
    by_min_draws(options.replications)


if __name__ == "__main__":
    main()
