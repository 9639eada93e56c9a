"""Exact folds against sampling and against regioncam, on the same networks and segments.

    python benchmarks/folding.py [--sizes 64x3 256x5 1024x5] [--segments 1000 1000 24] [--repeats 5]

Networks have 784 inputs, He weights and no biases; end points are Gaussian. Sampling is what published scripts do:
1000 points of the segment through the network in one batch (torch, float32), then Hamming distances. regioncam (PyPI,
Rust, float32) tracks every breakpoint of a line too.

First one segment at a time, CPU seconds of one thread, the best of the repeats. Then many segments of one network on
two cores, wall time: ours in two threads, regioncam in a Python loop in two threads or two processes, whichever is
faster. Drawing networks and starting processes are not counted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from regioncam import Regioncam1D

from sweeps.networks.folds import fold_paths
from sweeps.networks.layered import Layered, fully_connected

INPUTS, SAMPLES, CORES = 784, 1000, 2
Matrices = list[np.ndarray]


def draw(width: int, depth: int, segments: int) -> tuple[Layered, Matrices, np.ndarray, np.ndarray]:
    """A network, its weights (in, out), the same packed, and end points (segments, 2, INPUTS)."""
    rng = np.random.default_rng(0)
    sizes = [INPUTS] + [width] * depth
    weights = [rng.standard_normal((n, m)) * np.sqrt(2 / n) for n, m in pairwise(sizes)]
    layered = fully_connected(INPUTS, sizes[1:])
    packed = layered.pack(*(part for W in weights for part in ((W, np.zeros(width)), ())))
    return layered, weights, packed, rng.standard_normal((segments, 2, INPUTS))


@torch.inference_mode()
def sampled(weights: list[torch.Tensor], ends: torch.Tensor) -> tuple[float, int, int]:
    """(chi, r1, r2) as equally spaced points show them."""
    H = ends[0] + torch.linspace(0, 1, SAMPLES)[:, None] * (ends[1] - ends[0])
    bits = []
    for W in weights:
        Z = H @ W
        bits.append(Z > 0)
        H = Z.relu_()
    path = torch.cat(bits, dim=1)
    r1 = int((path != path[0]).sum(1).max())
    r2 = int((path[1:] != path[:-1]).sum())
    return (1 - r1 / r2 if r2 else 0.0), r1, r2


def tracked(weights: Matrices, ends: np.ndarray) -> list[int]:
    """Breakpoints that regioncam finds on segments (n, 2, INPUTS), all float32."""
    zeros, found = np.zeros(weights[-1].shape[1], np.float32), []
    for x, y in ends:
        line = Regioncam1D(1.0)
        line.linear((y - x)[None], (x + y) / 2)
        for W in weights:
            line.linear(W, zeros)
            line.relu()
        found.append(line.num_vertices - 2)
    return found


def exact(layered: Layered, packed: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return fold_paths(layered, packed[None], np.zeros(len(ends), np.int64), ends).r2


def best(f: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    times = []
    for _ in range(repeats):
        start = clock()
        f()
        times.append(clock() - start)
    return min(times)


def one(size: str, repeats: int) -> str:
    """A row of the table of single segments."""
    layered, weights, packed, ends = draw(*map(int, size.split("x")), 1)
    tensors, corners = [torch.tensor(W, dtype=torch.float32) for W in weights], torch.tensor(ends[0]).float()
    singles, singles_ends = [W.astype(np.float32) for W in weights], ends.astype(np.float32)
    flips, seen, theirs = exact(layered, packed, ends)[0], sampled(tensors, corners)[2], tracked(singles, singles_ends)
    _agree(size, [flips], theirs)
    calls = (
        lambda: exact(layered, packed, ends),
        lambda: sampled(tensors, corners),
        lambda: tracked(singles, singles_ends),
    )
    ours, sampling, rust = (1e3 * best(call, repeats, time.thread_time) for call in calls)
    return (
        f"| {size} | {ours:.3g} | {sampling:.3g} | {sampling / ours:.1f} | {rust:.3g} | {rust / ours:.1f} "
        f"| {flips:.0f} | {seen} | {theirs[0]} |"
    )


def many(size: str, segments: int, repeats: int) -> str:
    """A row of the table of batches."""
    layered, weights, packed, ends = draw(*map(int, size.split("x")), segments)
    singles, singles_ends = [W.astype(np.float32) for W in weights], ends.astype(np.float32)
    halves, singles_halves = np.array_split(ends, CORES), np.array_split(singles_ends, CORES)
    fork = multiprocessing.get_context("forkserver")
    with ThreadPoolExecutor(CORES) as threads, ProcessPoolExecutor(CORES, fork) as processes:
        ours = best(lambda: _spread(threads, exact, [(layered, packed, half) for half in halves]), repeats, time.time)
        work = [(singles, half) for half in singles_halves]
        _spread(processes, tracked, [(singles, half[:1]) for half in singles_halves])
        rust = [best(lambda p=pool: _spread(p, tracked, work), repeats, time.time) for pool in (threads, processes)]
    _agree(size, exact(layered, packed, ends[:4]), tracked(singles, singles_ends[:4]))
    each = [1e3 * seconds / segments for seconds in (ours, *rust)]
    return f"| {size} | {segments} | {each[0]:.3g} | {each[1]:.3g} | {each[2]:.3g} | {min(each[1:]) / each[0]:.1f} |"


def _spread(pool: Executor, f: Callable[..., object], work: Iterable[tuple]) -> None:
    for future in [pool.submit(f, *arguments) for arguments in work]:
        future.result()


def _agree(size: str, ours: Iterable[float], theirs: Iterable[int]) -> None:
    for flips, found in zip(ours, theirs, strict=True):
        if abs(flips - found) > 0.01 * flips:
            sys.exit(f"{size}: {flips:.0f} flips here, {found} by regioncam; they should agree to float32 rounding")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["64x3", "256x5", "1024x5"], help="width x depth")
    parser.add_argument("--segments", nargs="+", type=int, default=[1000, 1000, 24], help="of a batch, for each size")
    parser.add_argument("--repeats", type=int, default=5, help="times each is timed; the best counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | exact, ms | sampling, ms | ratio | regioncam, ms | ratio | flips | sampled | regioncam |")
    print("|---|---|---|---|---|---|---|---|---|")
    for size in options.sizes:
        print(one(size, 4 * options.repeats), flush=True)
    print("\n| network | segments | exact, ms each | regioncam, two threads | regioncam, two processes | ratio |")
    print("|---|---|---|---|---|---|")
    for size, segments in zip(options.sizes, options.segments, strict=True):
        print(many(size, segments, options.repeats), flush=True)


if __name__ == "__main__":
    main()
