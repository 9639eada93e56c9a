"""What the driver costs: 1, 2, 4, 8 actors that sleep, each the same work, on a cluster that pretends to 8 cores.

    PYTHONPATH=.:tests/plugin .venv/bin/python benchmarks/weak_scaling.py

All between the first and the last quarter of the blocks. Driver CPU is the process's, all threads, Ray's too.
Efficiency is the share of the actors' time that they spend measuring and writing blocks. `--alone` leases every block
by itself.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections import deque
from itertools import islice

from actors import limits
from actors.ray_pool import RayPool
from storage.zarr_store import ZarrStore
from sweeps.events import BlockDone
from sweeps.run import run
from sweeps.sweep import Sweep

ACTORS = (1, 2, 4, 8)
BLOCKS = 600  # an actor
SECONDS = 0.075  # of sleep a block: 8 actors make about 100 blocks a second


def sleeping(number: int) -> Sweep:
    """Blocks of one draw that sleep."""
    draws = {"draws": BLOCKS * number, "draws_per_batch": 1, "points_per_block": 1}
    return Sweep.of(
        {"name": "sleep", "statistic": "faulty", "axes": {"value": [0]}, "fixed": {"seconds": SECONDS}} | draws
    )


def row(number: int, folder: str) -> str:
    store = ZarrStore.create(f"{folder}/{number}.zarr", sleeping(number))
    first, last = BLOCKS * number // 4, BLOCKS * number * 3 // 4
    receipts, clocks = [], {}
    for event in run(store, RayPool(number, "cpu")):
        if isinstance(event, BlockDone):
            clocks[len(receipts)] = time.perf_counter(), time.process_time()
            receipts.append(event.receipt)
    wall, cpu = (after - before for before, after in zip(clocks[first], clocks[last], strict=True))
    busy = sum(r.seconds + r.writing for r in receipts[first:last])
    cost = cpu / (last - first)
    return (
        f"| {number} | {(last - first) / wall:.1f} | {1e3 * cost:.3f} | {cpu / wall:.2%} | {100 * cost:.2%} | "
        f"{busy / number / wall:.3f} |"
    )


def closing(number: int, folder: str) -> float:
    """Seconds that closing takes while all actors work."""
    events = run(ZarrStore.create(f"{folder}/closed.zarr", sleeping(number)), RayPool(number, "cpu"))
    deque(islice(events, 10 * number), maxlen=0)
    start = time.perf_counter()
    events.close()  # type: ignore[attr-defined]
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--alone", action="store_true")
    if parser.parse_args().alone:
        limits.MOST = 1
    import ray  # after `actors`, which sets what Ray reads when it is imported

    ray.init(
        address="local", num_cpus=max(ACTORS), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    print("| actors | blocks a second | driver CPU, ms a block | of a core | of a core at 100 blocks/s | efficiency |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for number in ACTORS:
            print(row(number, folder), flush=True)
        print(f"\nclosing with {max(ACTORS)} actors at work: {closing(max(ACTORS), folder) * 1e3:.0f} ms")
    ray.shutdown()


if __name__ == "__main__":
    main()
