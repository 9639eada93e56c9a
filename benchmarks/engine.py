"""What the engine costs: share of wall time spent inside statistics, and planning a million points.

    .venv/bin/python benchmarks/engine.py

The share is sum of the receipts' measuring times / (workers x time from the first measuring to the last commit):
what is left over is leasing, storing, and waiting at the end. Starting Ray and its actors is told apart.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time

from actors.ray_pool import RayPool
from deploy.cluster import cluster
from storage.zarr_store import ZarrStore
from sweeps.events import BlockDone
from sweeps.run import run
from sweeps.sweep import Sweep

WORKERS = 2

SPEC = {
    "name": "busy",
    "statistic": "folding",
    "draws": 5000,
    "draws_per_batch": 250,
    "axes": {"angle": {"linspace": [0.8, 1.6, 4]}},
    "fixed": {"width": 256, "depth": 5},
    "points_per_block": 1,
}

MILLION = """
import resource, time
from sweeps.blocks import plan
from sweeps.sweep import Sweep
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
sweep = Sweep.of({"name": "m", "statistic": "angle", "draws": 256, "draws_per_batch": 256,
                  "axes": {"correlation": {"linspace": [-1, 1, 10_000]}, "width": {"range": [1, 100]}},
                  "fixed": {"depth": 4}})
blocks = sum(1 for _ in plan(sweep))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(sweep.size, blocks, time.perf_counter() - start, (after - before) / 1024, after / 1024)
"""


def share(folder: str) -> None:
    begun = time.time()
    with cluster():
        sweep = Sweep.of(SPEC)
        store = ZarrStore.create(f"{folder}/busy.zarr", sweep)
        receipts = [e.receipt for e in run(store, RayPool(WORKERS)) if isinstance(e, BlockDone)]
    starts = [r.finished * 1e-9 - r.seconds - r.writing for r in receipts]
    wall = max(r.finished for r in receipts) * 1e-9 - min(starts)
    inside, writing = sum(r.seconds for r in receipts), sum(r.writing for r in receipts)
    print("| workers | blocks | seconds a block | wall s | share inside statistics | share writing | start-up s |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    print(
        f"| {WORKERS} | {len(receipts)} | {inside / len(receipts):.2f} | {wall:.1f} | {inside / wall / WORKERS:.3f} "
        f"| {writing / wall / WORKERS:.4f} | {min(starts) - begun:.1f} |"
    )


def planning() -> None:
    ran = subprocess.run([sys.executable, "-c", MILLION], capture_output=True, text=True, check=True)
    points, blocks, seconds, grown, peak = (float(x) for x in ran.stdout.split())
    print("\n| points | blocks | validate and plan, s | memory for it, MB | process peak, MB |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    print(f"| {points:.0f} | {blocks:.0f} | {seconds:.2f} | {grown:.0f} | {peak:.0f} |")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        share(folder)
    planning()
    print(f"\ndriver peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
