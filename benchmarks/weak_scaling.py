"""What the driver costs: 1, 2, 4, 8 actors that sleep, each the same work, on a cluster that pretends to 8 cores.

    PYTHONPATH=.:tests/plugin .venv/bin/python benchmarks/weak_scaling.py

Driver CPU is the process's, all threads (Ray's too), between the first and the last quarter of the blocks. Efficiency
is the rate against that of so many actors that lose no time between blocks, given what a block takes to measure and
to write. `--alone` leases every block alone, as blocks of half a second and more are.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time

import ray

from actors import limits
from actors.ray_pool import RayPool
from storage.zarr_store import ZarrStore
from sweeps.events import BlockDone
from sweeps.run import run
from sweeps.sweep import Sweep

ACTORS = (1, 2, 4, 8)
BLOCKS = 600  # an actor
SECONDS = 0.075  # of sleep a block: 8 actors make about 100 blocks a second


def sleeping(actors: int) -> Sweep:
    """Blocks of one draw that sleep."""
    draws = {"draws": BLOCKS * actors, "draws_per_batch": 1, "points_per_block": 1}
    return Sweep.of(
        {"name": "sleep", "statistic": "faulty", "axes": {"value": [0]}, "fixed": {"seconds": SECONDS}} | draws
    )


def row(actors: int, folder: str) -> str:
    store = ZarrStore.create(f"{folder}/{actors}.zarr", sleeping(actors))
    events = run(store, RayPool(actors, "cpu"))
    clocks, receipts = [], []
    for event in events:
        if isinstance(event, BlockDone):
            receipts.append(event.receipt)
            if len(receipts) in (BLOCKS * actors // 4, BLOCKS * actors * 3 // 4):
                clocks.append((len(receipts), time.perf_counter(), time.process_time()))
    blocks, wall, cpu = (after - before for before, after in zip(*clocks, strict=True))
    ideal = actors / (sum(r.seconds + r.writing for r in receipts) / len(receipts))
    return (
        f"| {actors} | {blocks / wall:.1f} | {cpu / blocks * 1e3:.3f} | {cpu / wall:.2%} | {100 * cpu / blocks:.2%} | "
        f"{blocks / wall / ideal:.3f} |"
    )


def closing(actors: int, folder: str) -> float:
    """Seconds that closing takes while all actors work."""
    events = run(ZarrStore.create(f"{folder}/closed.zarr", sleeping(actors)), RayPool(actors, "cpu"))
    assert sum(1 for event, _ in zip(events, range(10 * actors), strict=False)) == 10 * actors
    start = time.perf_counter()
    events.close()  # type: ignore[attr-defined]
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--alone", action="store_true")
    if parser.parse_args().alone:
        limits.MOST = 1
    ray.init(
        address="local", num_cpus=max(ACTORS), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    print("| actors | blocks a second | driver CPU, ms a block | of a core | of a core at 100 blocks/s | efficiency |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for actors in ACTORS:
            print(row(actors, folder), flush=True)
        print(f"\nclosing with {max(ACTORS)} actors at work: {closing(max(ACTORS), folder) * 1e3:.0f} ms")
    ray.shutdown()


if __name__ == "__main__":
    main()
