"""What is measured is a function of the spec: the rule applied point by point, whatever the tiles and the timing."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps import agenda
from sweeps.blocks import Block, plan
from sweeps.budget import Budget
from sweeps.events import (
    BlockDone,
    BlockFailed,
    Event,
    MoreWanted,
    NoWorker,
    Receipt,
    SweepDone,
    SweepStarted,
    TileSettled,
)
from sweeps.measure import Measured, sample_block
from sweeps.moments import Moments
from sweeps.run import Store, run
from sweeps.stopping import first_look, narrow, next_look
from sweeps.sweep import Sweep
from tests.conftest import toy_spec
from tests.sweeps.memory import MemoryStore, Scrambled

HALFWIDTHS = {"level": 0.3, "positive": 0.2, "walk": 0.3, "root": 0.12}


def adaptive(outcome: str = "level", **changes: Any) -> Sweep:
    """2 x 5 x 2 points, at most 16 batches of 4 draws."""
    until = {"outcome": outcome, "halfwidth": HALFWIDTHS[outcome], "min_draws": 8}
    return Sweep.of(toy_spec(**{"draws": 64, "draws_per_batch": 4, "until": until, **changes}))


@lru_cache
def drawn() -> dict[str, np.ndarray]:
    """All draws {outcome: (*axes, *dims, draws)} of every sweep here."""
    sweep = adaptive()
    found: dict[str, np.ndarray] = {}
    for block in plan(sweep):
        for name, draws in sample_block(sweep, block).items():
            own = draws.shape[1:-1]
            whole = found.setdefault(name, np.full((*sweep.shape, *own, sweep.draws), np.nan))
            whole[(*block.slices, ..., slice(4 * block.batch, 4 * block.batch + 4))] = draws.reshape(
                *block.shape, *own, 4
            )
    return found


def look_up(block: Block, store: Store, device: str) -> Receipt:
    """Measure a block by looking its draws up."""
    draws = {k: v[(*block.slices, ..., slice(4 * block.batch, 4 * block.batch + 4))] for k, v in drawn().items()}
    return store.write(block, Measured({k: Moments.of(v) for k, v in draws.items()}, {}, {}), device=device, seconds=0)


@lru_cache
def alone(outcome: str) -> tuple[np.ndarray, np.ndarray]:
    """The slow, obvious way: every point by itself, batch by batch. Batches that count, and whether narrow by then."""
    sweep = adaptive(outcome)
    count, converged = np.zeros(sweep.shape, dtype=int), np.zeros(sweep.shape, dtype=bool)
    for place in np.ndindex(*sweep.shape):
        axes = {name: [values[i]] for (name, values), i in zip(sweep.axes.items(), place, strict=True)}
        count[place], converged[place] = _alone(adaptive(outcome, axes=axes))
    return count, converged


def _alone(point: Sweep) -> tuple[int, bool]:
    assert point.until is not None
    kind, cut = point.definition.outcome(point.until.outcome).kind, plan(point)
    batches = [Moments.of(sample_block(point, block)[point.until.outcome]) for block in cut]
    total, look = batches[0], first_look(point.until, 4, 16)
    for count in range(1, 17):
        if count > 1:
            total = total.merge(batches[count - 1])
        if count == look:
            look = int(next_look(point.until, kind, total, count, 4, 16)[0])
            if look == count:
                return count, bool(narrow(point.until, kind, total)[0])
    raise AssertionError("a point goes on beyond all its draws")


def per_tile(values: np.ndarray, store: Store, reduce: Any) -> list[int]:
    return [int(reduce(values[store.plan[tile].slices])) for tile in range(store.plan.tiles)]


def follow(store: MemoryStore, executor: Scrambled, budget: Budget | None = None) -> list[Event]:
    """Run, and check what every run promises of its events."""
    events = list(run(store, executor, budget))
    started, end = events[0], events[-1]
    assert isinstance(started, SweepStarted)
    assert isinstance(end, SweepDone)
    wanted = [started.blocks, *(e.blocks for e in events if isinstance(e, MoreWanted))]
    assert wanted == sorted(wanted)
    assert end.done + len(end.failed) + end.missing == wanted[-1]
    assert bool(end.ended) <= bool(end.missing)
    return events


def check_settled(store: MemoryStore, outcome: str, events: Iterable[Event]) -> None:
    """All tiles are settled, each where the last of its points stops."""
    count, converged = alone(outcome)
    settled = {e.tile: (e.batches, e.points, e.narrow) for e in events if isinstance(e, TileSettled)}
    assert sorted(settled) == list(range(store.plan.tiles))
    stops, narrow = per_tile(count, store, np.max), per_tile(converged, store, np.sum)
    points = [store.plan[tile].points for tile in range(store.plan.tiles)]
    assert [settled[tile] for tile in sorted(settled)] == list(zip(stops, points, narrow, strict=True))


# --- until ---


def test_the_cases_here_stop_early_late_and_never() -> None:
    for outcome in HALFWIDTHS:
        count, converged = alone(outcome)
        assert len(np.unique(count)) >= 3, outcome
        assert converged.any(), outcome
        assert converged[count < 16].all(), outcome
    assert not alone("walk")[1].all()
    never = np.isnan(drawn()["root"]).all(axis=-1)
    assert never.any()
    assert (alone("root")[0][never] == 16).all()
    assert not alone("root")[1][never].any()


def test_the_table_holds_the_draws_of_points_alone() -> None:
    place = (1, 3, 0)
    axes = {name: [values[i]] for (name, values), i in zip(adaptive().axes.items(), place, strict=True)}
    point = adaptive(axes=axes)
    batches = [sample_block(point, block) for block in plan(point)]
    for name, draws in drawn().items():
        np.testing.assert_array_equal(draws[place], np.concatenate([b[name][0] for b in batches], axis=-1))


@pytest.mark.parametrize("points_per_block", [1, 2, 3, 20])
@pytest.mark.parametrize("outcome", list(HALFWIDTHS))
def test_a_tile_is_measured_until_the_last_of_its_points_stops_and_no_further(
    outcome: str, points_per_block: int
) -> None:
    store = MemoryStore(adaptive(outcome, points_per_block=points_per_block))
    events = follow(store, Scrambled(perform=look_up))
    check_settled(store, outcome, events)
    stops = per_tile(alone(outcome)[0], store, np.max)
    assert sorted(store.written) == sorted(b * store.plan.tiles + t for t, n in enumerate(stops) for b in range(n))
    assert events[-1] == SweepDone(sum(stops))
    folded = [(tile, batch) for tile, batches in store.read for batch in batches]
    assert sorted(folded) == [(t, b) for t, n in enumerate(stops) for b in range(n)], "every batch is read once"


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_neither_tiles_nor_order_nor_stops_nor_what_is_there_change_what_counts(data: st.DataObject) -> None:
    outcome = data.draw(st.sampled_from(sorted(HALFWIDTHS)))
    store = MemoryStore(adaptive(outcome, points_per_block=data.draw(st.integers(1, 12))))
    for index in data.draw(st.sets(st.integers(0, len(store.plan) - 1), max_size=20)):
        look_up(store.plan[index], store, "cpu")
    before = set(store.held)
    for stop in [*data.draw(st.lists(st.integers(0, 40), max_size=3)), None]:
        executor = Scrambled(data.draw(st.integers(1, 9)), data.draw(st.integers(0, 99)), stop, perform=look_up)
        events = follow(store, executor)
    check_settled(store, outcome, events)
    stops = per_tile(alone(outcome)[0], store, np.max)
    wanted = {b * store.plan.tiles + t for t, n in enumerate(stops) for b in range(n)}
    assert set(store.held) == wanted | before
    assert len(store.written) == len(set(store.written)), "nothing is measured twice"
    again = list(run(store, Scrambled(perform=look_up)))
    assert again[0] == SweepStarted(store.sweep.fingerprint, len(wanted), len(wanted))
    assert again[-1] == SweepDone(len(wanted))


@pytest.mark.parametrize("batch", [0, 1, 3])  # in the first look, and beyond it
def test_a_failing_block_stops_its_tile_and_no_other_and_is_tried_again(batch: int) -> None:
    store = MemoryStore(adaptive(points_per_block=5))
    stops = per_tile(alone("level")[0], store, np.max)
    tile = int(np.argmax(stops))
    block = batch * store.plan.tiles + tile
    for _ in range(2):
        events = follow(store, Scrambled(3, failing=frozenset([block]), perform=look_up))
        settled = {e.tile for e in events if isinstance(e, TileSettled)}
        assert settled == set(range(store.plan.tiles)) - {tile}
        end = events[-1]
        assert isinstance(end, SweepDone)
        assert [f.block for f in end.failed] == [block]
        assert (end.missing, end.ended) == (0, "")
        assert end.done == len(store.held)
    check_settled(store, "level", follow(store, Scrambled(perform=look_up)))


def test_many_failures_are_all_counted() -> None:
    store = MemoryStore(adaptive(points_per_block=1))
    events = follow(store, Scrambled(4, failing=frozenset(range(store.plan.tiles)), perform=look_up))
    assert sorted(e.block for e in events if isinstance(e, BlockFailed)) == list(range(store.plan.tiles))
    assert sum(isinstance(e, BlockDone) for e in events) == store.plan.tiles, "the second batch of the first look"


# --- budgets ---


def fixed(**changes: Any) -> Sweep:
    return Sweep.of(toy_spec(draws=64, draws_per_batch=4, **changes))


def spent(store: MemoryStore) -> int:
    return sum(store.plan[index].points for index in store.held) * store.sweep.draws_per_batch


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_max_draws_is_never_exceeded_and_runs_add_up_to_the_unbudgeted_one(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 20))
    make = data.draw(st.sampled_from([fixed, adaptive]))
    store, whole = MemoryStore(make(points_per_block=size)), MemoryStore(make(points_per_block=size))
    follow(whole, Scrambled(perform=look_up))
    limit, largest = 0, 4 * store.plan.points.max()
    for more in [*data.draw(st.lists(st.integers(1, 1500), max_size=4)), spent(whole)]:
        limit += more
        executor = Scrambled(data.draw(st.integers(1, 5)), limit, perform=look_up)
        end = follow(store, executor, Budget(max_draws=limit))[-1]
        assert isinstance(end, SweepDone)
        assert spent(store) <= limit
        if not end.ended:
            continue
        assert end.ended == f"budget.max_draws = {limit}"
        assert spent(store) > limit - largest, "it ends only where the next block does not fit"
        assert end.missing > 0
    assert store.held.keys() == whole.held.keys()
    for index, (_, measured) in store.held.items():
        for name, moments in measured.moments.items():
            assert moments.stack().tobytes() == whole.held[index][1].moments[name].stack().tobytes()
    assert len(store.written) == len(store.held)


def test_a_budget_of_exactly_what_is_needed_is_enough() -> None:
    for make in (fixed, adaptive):
        whole = MemoryStore(make())
        follow(whole, Scrambled(perform=look_up))
        store = MemoryStore(make())
        assert follow(store, Scrambled(3, perform=look_up), Budget(max_draws=spent(whole)))[-1] == SweepDone(
            len(whole.held)
        )


class Clock:
    """A clock that a block moves by one second."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def perform(self, block: Block, store: Store, device: str) -> Receipt:
        self.now += 1.0
        return look_up(block, store, device)


@pytest.mark.parametrize("flight", [1, 4])
@pytest.mark.parametrize("make", [fixed, adaptive])
def test_max_time_ends_a_run_and_what_is_under_way_is_finished(
    monkeypatch: pytest.MonkeyPatch, make: Any, flight: int
) -> None:
    clock = Clock()
    monkeypatch.setattr(agenda, "time", clock)
    store = MemoryStore(make(points_per_block=2))
    for run_number in (1, 2):  # of one run, not of all
        events = follow(store, Scrambled(flight, perform=clock.perform), Budget(max_time=5))
        assert sum(isinstance(e, BlockDone) for e in events) == 5 + flight - 1
        assert events[-1].ended == "budget.max_time = 5 s"  # type: ignore[union-attr]
        assert len(store.held) == run_number * (5 + flight - 1)
    assert not follow(store, Scrambled(flight, perform=clock.perform))[-1].ended  # type: ignore[union-attr]


class Deserted:
    """Measures a block; then all its workers are gone for good, and it says so every minute."""

    workers = "nobody"

    def __init__(self, clock: Clock) -> None:
        self.clock, self.closed = clock, False

    def run(self, blocks: Iterator[Block | None], store: Store) -> Generator[Event, None, None]:
        try:
            yield BlockDone(look_up(next(blocks), store, "cpu"))  # type: ignore[arg-type]
            next(blocks)  # waits for a worker
            while True:
                self.clock.now += 60.0
                yield NoWorker("waiting for 2 workers")
        finally:
            self.closed = True


def test_max_time_ends_a_run_that_has_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(agenda, "time", clock)
    store, executor = MemoryStore(fixed()), Deserted(clock)
    events = follow(store, executor, Budget(max_time=150))
    assert sum(isinstance(e, NoWorker) for e in events) == 3
    assert events[-1] == SweepDone(1, (), len(store.plan) - 1, "budget.max_time = 150 s")
    assert executor.closed


def on(device: str, seconds: float) -> Any:
    def perform(block: Block, store: Store, _: str) -> Receipt:
        draws = {k: v[(*block.slices, ..., slice(4 * block.batch, 4 * block.batch + 4))] for k, v in drawn().items()}
        measured = Measured({k: Moments.of(v) for k, v in draws.items()}, {}, {})
        return store.write(block, measured, device=device, seconds=seconds)

    return perform


def test_gpu_hours_are_those_of_all_runs_by_the_ledger() -> None:
    store, budget = MemoryStore(fixed(points_per_block=2)), Budget(max_gpu_hours=1.0)
    follow(store, Scrambled(stop=2, perform=on("NVIDIA H100", 900.0)), budget)
    follow(store, Scrambled(stop=5, perform=on("cpu: some processor", 10**6)), budget)
    assert len(store.held) == 7, "time on a CPU is no GPU-hour"
    events = follow(store, Scrambled(perform=on("NVIDIA H100", 900.0)), budget)
    assert sum(isinstance(e, BlockDone) for e in events) == 2
    end = events[-1]
    assert isinstance(end, SweepDone)
    assert (end.ended, end.done, end.missing) == ("budget.max_gpu_hours = 1", 9, len(store.plan) - 9)
    events = follow(store, Scrambled(perform=on("NVIDIA H100", 900.0)), budget)
    assert not any(isinstance(e, BlockDone) for e in events)
    assert events[-1] == end
    more = Budget(max_gpu_hours=1.25)
    assert sum(isinstance(e, BlockDone) for e in follow(store, Scrambled(perform=on("NVIDIA H100", 900.0)), more)) == 1


def test_a_budget_that_is_used_up_costs_no_worker() -> None:
    store = MemoryStore(fixed())
    events = follow(store, Scrambled(), Budget(max_draws=1))
    assert [type(e) for e in events] == [SweepStarted, SweepDone]
    assert events[-1] == SweepDone(0, (), len(store.plan), "budget.max_draws = 1")


# --- order ---


def test_batches_come_outermost_and_all_tiles_are_looked_at_before_any_gets_more() -> None:
    store = MemoryStore(adaptive(points_per_block=5))
    follow(store, Scrambled(perform=look_up))
    first = 2 * store.plan.tiles
    assert store.written[:first] == list(range(first))
    store = MemoryStore(fixed(points_per_block=5))
    follow(store, Scrambled(perform=look_up))
    assert store.written == list(range(len(store.plan)))
