"""What a sweep will take: points, blocks, draws, bytes, objects, and the time, from a short pilot."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from storage.layout import COMMIT, arrays
from sweeps.blocks import corners, plan
from sweeps.devices import resolve
from sweeps.measure import sample_block
from sweeps.statistic import Parameters
from sweeps.sweep import Sweep

PILOT_SECONDS = 1.0


@dataclass(frozen=True)
class Pilot:
    """Measured at one point: seconds a draw on one core, against what the statistic's cost model says."""

    parameters: Parameters
    draws: int
    seconds: float
    model: float


@dataclass(frozen=True)
class Estimate:
    """`bytes` is before compression; `core_seconds` is the work of one worker alone. With `until` all of it is what
    it takes at most (`at_most`)."""

    points: int
    blocks: int
    draws: int
    bytes: int
    objects: int
    core_seconds: float
    at_most: bool
    pilots: tuple[Pilot, ...]

    def seconds(self, workers: int) -> float:
        return self.core_seconds / max(1, min(workers, self.blocks))


def estimate(sweep: Sweep, pilot_seconds: float = PILOT_SECONDS) -> Estimate:
    """Count, and time the cheapest and the dearest corner of the grid for about `pilot_seconds` each."""
    cut = plan(sweep)
    template = arrays(sweep, cut, cut.pieces[0])
    filled = [a for a in template if a.values is None]
    numbers = sum(math.prod(a.shape) for a in filled if a.name != COMMIT)
    cost = sweep.definition.cost
    ends = sorted(corners(sweep), key=cost)
    pilots = tuple(pilot(sweep, p, pilot_seconds) for p in (ends[:1] if len(ends) == 1 else [ends[0], ends[-1]]))
    return Estimate(
        points=sweep.size,
        blocks=len(cut),
        draws=sweep.size * sweep.draws,
        bytes=8 * numbers,
        objects=len(cut) * len(filled) + 2 * len(template) - len(filled) + 2,  # chunks, metadata, groups
        core_seconds=_core_seconds(sweep, pilots),
        at_most=sweep.until is not None,
        pilots=pilots,
    )


def pilot(sweep: Sweep, parameters: Parameters, seconds: float) -> Pilot:
    """Time draws at one point: once to compile, then ever more of them until the time is used."""
    model = sweep.definition.cost(parameters)
    values = parameters.model_dump()
    at = {name: [values[name]] for name in sweep.axes}
    draws, device = 1, resolve(sweep.device)
    _time(sweep, at, 1, device)
    while True:
        taken = _time(sweep, at, draws, device)
        if taken > seconds / 4 or draws >= sweep.draws_per_batch:
            return Pilot(parameters, draws, taken / draws, model)
        draws = min(sweep.draws_per_batch, max(draws + 1, int(draws * min(8.0, seconds / max(taken, 1e-6)))))


def _time(sweep: Sweep, at: dict, draws: int, device: str) -> float:
    spec = {
        **sweep.model_dump(exclude={"axes", "draws", "draws_per_batch", "points_per_block", "until", "track"}),
        "axes": at,
    }
    small = Sweep.of({**spec, "draws": draws, "draws_per_batch": draws})
    start = time.perf_counter()
    sample_block(small, plan(small)[0], device)
    return time.perf_counter() - start


def _core_seconds(sweep: Sweep, pilots: tuple[Pilot, ...]) -> float:
    """The cost model summed over the grid, corrected between the two pilots on a log scale."""
    statistic, names = sweep.definition, list(sweep.axes)
    bound = [i for i, name in enumerate(names) if name in statistic.shape]
    rest = sweep.size // math.prod(sweep.shape[i] for i in bound)
    x = np.log([p.model for p in pilots])
    y = np.log([p.seconds / p.model for p in pilots])
    total = 0.0
    for index in np.ndindex(*(sweep.shape[i] for i in bound)):
        full = [0] * len(names)
        for i, j in zip(bound, index, strict=True):
            full[i] = j
        model = statistic.cost(sweep.parameters_at(tuple(full)))
        total += rest * model * math.exp(float(np.interp(math.log(model), x, y)))
    return total * sweep.draws
