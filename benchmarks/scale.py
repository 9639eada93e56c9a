"""A million points on this machine: planning, measuring a part, resuming, opening and slicing.

    PYTHONPATH=.:tests/plugin .venv/bin/python benchmarks/scale.py

`toy`, the statistic of the tests, one batch of two draws: as trivial as a statistic gets, so that what is timed is
everything else. Each figure is of a fresh process where imports or caches would hide it. A hundred million points are
planned and their store is made; what many marks cost is seen on 100,000 copies of one, and what a thousand workers
cost the driver on that many seats and leases without workers behind them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPEC = {
    "name": "million",
    "statistic": "toy",
    "draws": 2,
    "draws_per_batch": 2,
    "axes": {"shift": {"linspace": [-1, 1, 10_000]}, "size": {"range": [1, 50]}, "colour": ["red", "blue"]},
    "fixed": {"steps": 1},
}
HUGE = SPEC | {"axes": SPEC["axes"] | {"shift": {"linspace": [-1, 1, 10**6]}}, "name": "hundred-million"}
SPEC |= {"points_per_block": 1000}
MANY = SPEC | {"draws": 200, "name": "many-marks"}  # 100,000 blocks
PART = 400  # blocks measured of those planned
OPENINGS = 5

PLANNING = """
import resource, time
from deploy.session import extend  # what a driver imports
from sweeps.blocks import plan
from sweeps.sweep import Sweep
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
sweep = Sweep.of(SPEC)
blocks = len(plan(sweep))
planned = time.perf_counter() - start
from storage.zarr_store import ZarrStore
start = time.perf_counter()
ZarrStore.create(URL, sweep)
created = time.perf_counter() - start
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
say(points=sweep.size, blocks=blocks, planning_s=planned, creating_s=created)
say(imports_MB=before / 1024, peak_MB=after / 1024)
"""

MEASURING = """
import os, time
from actors.ray_pool import RayPool
from deploy.cluster import cluster
from storage.zarr_store import ZarrStore
from sweeps.events import BlockDone
from sweeps.run import run
with cluster():
    store = ZarrStore.open(URL)
    pool, seen, first = RayPool(2, "cpu"), 0, None
    events = run(store, pool)
    for event in events:
        if isinstance(event, BlockDone):
            seen += 1
            if first is None:
                first = time.perf_counter(), time.process_time()
            if seen == PART:
                wall, cpu = time.perf_counter() - first[0], time.process_time() - first[1]
                break
    events.close()
say(measured=seen, blocks_a_second=(seen - 1) / wall, coordinator_ms_a_block=1e3 * cpu / (seen - 1))
"""

RESUMING = """
import time
from storage.zarr_store import ZarrStore
from sweeps.agenda import Agenda
start = time.perf_counter()
store = ZarrStore.open(URL)
opened = time.perf_counter() - start
start = time.perf_counter()
agenda = Agenda(store)
list(agenda.start())
first = next(agenda.blocks())
say(open_store_s=opened, resume_scan_s=time.perf_counter() - start, done=int(agenda.done.sum()))
"""

MARKING = """
from pathlib import Path
from storage.zarr_store import ZarrStore
from sweeps.run import perform
from sweeps.sweep import Sweep
store = ZarrStore.create(URL, Sweep.of(SPEC))
perform(store.plan[0], store, "cpu")
marks = Path(URL, "piece-0", "commit", "c")
mark = next(p for p in marks.rglob("*") if p.is_file()).read_bytes()
for index in range(1, len(store.plan) - 1):
    block = store.plan[index]
    path = marks.joinpath(*map(str, (*block.tile, block.batch)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mark)
"""

THOUSAND = """
import time
import actors  # sets what Ray reads
import ray
from actors.leases import Leases, Seat
from actors.limits import Limits
from actors.supply import Supply
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
@ray.remote
class Busy:
    def work(self, seconds):
        time.sleep(seconds)
busy = Busy.remote()
done = busy.work.remote(0)
under_way = [busy.work.remote(3600) for _ in range(1999)]
ray.wait([done])
def cpu_ms(call, times=100):
    start = time.process_time()
    for _ in range(times):
        call()
    return 1e3 * (time.process_time() - start) / times
waiting = cpu_ms(lambda: ray.wait([*under_way, done], num_returns=1, timeout=1, fetch_local=False))
seats = [Seat(i, None, away=False) for i in range(1000)]
for seat in seats:
    seat.leases.extend([None, None])
leases = Leases(seats, Supply(iter([])), None, Limits(), None)
def look():
    leases._lease_all(), leases._ask(), list(leases._waiting()), list(leases._fence())
say(workers=1000, leases_under_way=2000, waiting_ms_a_report=waiting, looking_over_seats_ms_a_report=cpu_ms(look))
"""

OPENING = """
import time
from storage import open_sweep
start = time.perf_counter()
ds = open_sweep(URL)
say(open_sweep_s=time.perf_counter() - start)
"""

SLICING = (
    OPENING
    + """
def timed(**at):
    start = time.perf_counter()
    ds.level.sel(colour="red").sel(**at, method="nearest").load()
    return time.perf_counter() - start
first = timed(shift=0.5, size=3)
point = timed(shift=-0.5, size=5)
say(first_point_s=first, point_s=point, along_size_s=timed(shift=0.25), along_shift_s=timed(size=2))
"""
)


def process(code: str, url: str, spec: dict[str, object] = SPEC) -> dict[str, float]:
    """What a snippet says, run in a process of its own."""
    head = f"import json, sys\nURL, PART = {url!r}, {PART}\nSPEC = json.loads({json.dumps(json.dumps(spec))})\n"
    head += "def say(**figures):\n    print(json.dumps(figures), file=sys.stderr)\n"
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", head + code], capture_output=True, text=True, check=True
    )
    said = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    return {name: value for figures in said for name, value in figures.items()}


def on_disk(folder: str) -> tuple[int, int]:
    """(objects, bytes) of a store."""
    sizes = [p.stat().st_size for p in Path(folder).rglob("*") if p.is_file()]
    return len(sizes), sum(sizes)


def million(url: str) -> dict[str, float]:
    figures = process(PLANNING, url)
    empty = on_disk(url)
    figures |= process(MEASURING, url) | process(RESUMING, url)
    full = on_disk(url)
    figures |= {"objects_a_block": (full[0] - empty[0]) / figures["done"]}
    figures |= {"bytes_a_block": (full[1] - empty[1]) / figures["done"], "empty_store_MB": empty[1] / 1e6}
    opened = [process(SLICING, url) for _ in range(OPENINGS)]
    return figures | {k: sorted(o[k] for o in opened)[OPENINGS // 2] for k in opened[0]}


def many_marks(url: str) -> dict[str, float]:
    process(MARKING, url, MANY)
    return process(RESUMING, url, MANY) | process(OPENING, url, MANY)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, figures in {
            "a million points": lambda: million(f"{folder}/million.zarr"),
            "a hundred million points": lambda: process(PLANNING, f"{folder}/huge.zarr", HUGE),
            "a thousand workers": lambda: process(THOUSAND, folder),
            "many marks": lambda: many_marks(f"{folder}/many.zarr"),
        }.items():
            print(f"| {name} | |\n|---|---:|")
            for what, value in figures().items():
                print(f"| {what.replace('_', ' ')} | {value:,.4g} |")
            print(flush=True)


if __name__ == "__main__":
    begun = time.perf_counter()
    main()
    print(f"{time.perf_counter() - begun:.0f} s in all")
