"""Biases by sampling against a plain numpy loop, one direction at a time, on the same directions; CPU time of one core.

python benchmarks/frames_sampling.py [--seconds 2]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from sweeps.frames.sampled import sampled_bias

SIZES = [(12, 3), (60, 6), (600, 30), (2000, 300)]


def units(k: int, n: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((k, n))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def plain(rows: np.ndarray, directions: np.ndarray) -> np.ndarray:
    bias = np.full(len(rows), np.inf)
    for u in directions:
        products = rows @ u
        largest = np.argsort(-products)[: rows.shape[1]]
        bias[largest] = np.minimum(bias[largest], products[largest])
    return bias


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def row(m: int, n: int, room: float) -> str:
    """Both get the directions that the plain loop manages in so many seconds; rows of any position at most 2000."""
    rows, few = units(m, n, 0), units(200, n, 1)
    directions = units(int(room / seconds(lambda: plain(rows, few)) * len(few)), n, 2)
    k = min(2000, len(directions))
    assert np.allclose(plain(rows, few), sampled_bias(rows, [few], general=True), rtol=0, atol=1e-13)
    slow = len(directions) / seconds(lambda: plain(rows, directions))
    general = len(directions) / seconds(lambda: sampled_bias(rows, [directions], general=True))
    any_rows = k / seconds(lambda: sampled_bias(rows, [directions[:k]], general=False))
    numbers = [f"{value:.3g}" for value in (slow, general, general / slow, any_rows, any_rows / slow)]
    return "| " + " | ".join([f"({m}, {n})", str(len(directions)), *numbers]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2, help="of the plain loop")
    options = parser.parse_args()
    print("| (m, n) | directions | plain, a second | ours, a second | ratio | any rows, a second | ratio |")
    print("|" + "---|" * 7)
    with threadpool_limits(1):
        for general in (True, False):
            sampled_bias(np.eye(3), [np.eye(3)], general=general)
        for size in SIZES:
            print(row(*size, options.seconds), flush=True)


if __name__ == "__main__":
    main()
