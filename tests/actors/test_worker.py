"""The worker, in this process, and what the pool makes of its reports: limits and sizes of leases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.limits import FACTOR, LONGEST, MOST, SHORTEST, Pace
from actors.worker import Raised, Report, Worker, modelled, resident
from sweeps.blocks import plan
from sweeps.events import Receipt
from sweeps.run import perform
from tests.actors.conftest import faulty
from tests.actors.test_recovery import FullStore
from tests.conftest import SpecMaker


def blocks_of(store) -> list:
    return list(plan(store.sweep))


class TestWorker:
    def test_it_reports_what_fits_the_lease(self, new_store) -> None:
        store = new_store(faulty(seconds=0.02))
        blocks = blocks_of(store)
        worker = Worker(store, "cpu")
        one, all_ = worker.lease(blocks[:3], 0.0), worker.lease(blocks[1:5], 60.0)
        assert [r.block for r in one.results if isinstance(r, Receipt)] == [0]
        assert [r.block for r in all_.results if isinstance(r, Receipt)] == [1, 2, 3, 4]
        assert [block for block, _, _ in store.lines()] == [0, 1, 2, 3, 4]
        assert all_.seconds >= 4 * 0.02

    def test_a_doubtful_block_is_not_measured_again(self, new_store) -> None:
        store = new_store(faulty())
        blocks = blocks_of(store)[:3]
        there = perform(blocks[1], store, "cpu")
        report = Worker(store, "cpu").lease(blocks, 60.0, [1, 2])
        assert report.results[1] == there
        assert [block for block, _, _ in store.lines()] == [1, 0, 2]

    def test_what_a_block_raises_is_told_and_the_lease_goes_on(self, new_store) -> None:
        store = new_store(faulty(bad=1))
        report = Worker(store, "cpu").lease(blocks_of(store)[:3], 60.0)
        assert report.results[1] == Raised("ArithmeticError: no answer at value 1")
        assert [type(r) for r in report.results] == [Receipt, Raised, Receipt]

    def test_memory_that_ran_out_twice_is_final(self, new_store) -> None:
        store = new_store(faulty(bad=0, how="oom"))
        (raised,) = Worker(store, "cpu").lease(blocks_of(store)[:1], 60.0).results
        assert isinstance(raised, Raised)
        assert raised.final

    def test_a_store_that_fails_ends_the_lease_and_keeps_what_was_done(self, tmp_path: Path) -> None:
        store = FullStore.create(str(tmp_path / "full.zarr"), faulty())
        report = Worker(store, "cpu").lease(blocks_of(store)[1:6], 60.0)
        assert [r.block for r in report.results if isinstance(r, Receipt)] == [1, 2]
        assert report.store_error == "no space left"

    def test_the_ratio_is_of_measured_to_modelled_seconds(self, new_store) -> None:
        store = new_store(faulty(seconds=0.02))
        report = Worker(store, "cpu").lease(blocks_of(store)[:2], 60.0)
        model = 1e-6 * 2  # two draws at one point
        assert report.ratio == max((r.seconds + r.writing) / model for r in report.results if isinstance(r, Receipt))

    def test_resident_memory_follows_what_is_held(self) -> None:
        before = resident()
        held = np.ones(2**25)
        assert resident() - before == pytest.approx(held.nbytes, rel=0.05)
        status = Path("/proc/self/status").read_text()
        kilobytes = int(status.partition("VmRSS:")[2].split()[0])
        assert resident() == pytest.approx(kilobytes * 1024, rel=0.05)


def test_the_model_is_that_of_the_dearer_end(toy: SpecMaker) -> None:
    """The toy's cost is 1e-6 s a draw and unit of size; a tile has one size, 3 points and 8 draws."""
    sweep = toy(points_per_block=3)
    blocks = list(plan(sweep))
    sizes = [sweep.axes["size"][block.starts[0]] for block in blocks]
    assert [modelled(sweep, b) for b in blocks] == pytest.approx(
        [1e-6 * size * b.points * 8 for size, b in zip(sizes, blocks, strict=True)]
    )


def report(blocks: int, seconds: float, ratio: float = 1.0) -> Report:
    receipt = Receipt(0, 0, 0, 0.0, "cpu")
    return Report([receipt] * blocks, seconds, ratio, 0)


class TestPace:
    def test_long_blocks_are_leased_one_by_one(self) -> None:
        pace = Pace(8)
        assert pace.blocks == 1, "before anything is known"
        pace.see(report(1, 2.0))
        assert pace.blocks == 1

    def test_short_blocks_fill_a_lease(self) -> None:
        pace = Pace(8)
        pace.see(report(4, 0.4))
        assert pace.blocks == int(pace.lease / 0.1)
        pace.see(report(4, 0.0004))
        for _ in range(99):
            pace.see(report(MOST, 0.0001))
        assert pace.blocks == MOST

    def test_a_slow_start_is_forgotten(self) -> None:
        pace = Pace(8)
        pace.see(report(1, 30.0))
        for _ in range(60):
            pace.see(report(1, 0.1))
        assert pace.blocks == pytest.approx(pace.lease / 0.1, abs=1)

    @pytest.mark.parametrize(("workers", "seconds"), [(1, SHORTEST), (20, 2.0), (10**4, LONGEST)])
    def test_leases_of_larger_pools_are_longer(self, workers: int, seconds: float) -> None:
        assert Pace(workers).lease == seconds

    def test_patience_follows_the_slowest_block_seen_and_doubles_with_every_loss(self) -> None:
        pace = Pace(2)
        assert pace.patience(3.0, 60.0, 0) == 60.0
        for ratio in (1.0, 5.0, 2.0):
            pace.see(report(1, 1.0, ratio))
        assert pace.patience(3.0, 60.0, 0) == FACTOR * 5.0 * 3.0
        assert pace.patience(3.0, 60.0, 3) == 8 * FACTOR * 5.0 * 3.0
        assert pace.patience(0.1, 60.0, 1) == 120.0
