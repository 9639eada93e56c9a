"""The solvers of the theory of injectivity, from nothing: value, time, and what a finer grid changes.

    python benchmarks/theory.py [--steps 5] [--depth 5]

One process; seconds of CPU. Nothing that was kept before is read, and nothing is left.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from sweeps.theory import counting, duality, perceptron

R = TypeVar("R")


def timed(solve: Callable[[], R]) -> tuple[R, float]:
    start = time.process_time()
    return solve(), time.process_time() - start


def symmetry_breaking(most: int) -> None:
    print("| steps | threshold | change on half the grid step | CPU s | chi | q | x |\n|--:|--:|--:|--:|--:|---|---|")
    for steps in range(most + 1):
        state, seconds = timed(partial(perceptron.critical_state, steps))
        change = 0.0
        if steps:
            S, F = perceptron.functional(state.chi, state.q, state.x, refine=2)
            change = (S - 1) / F - state.alpha
        q, x = (", ".join(f"{value:.6g}" for value in values) for values in (state.q[:-1], state.x))
        print(f"| {steps} | {state.alpha:.12f} | {change:.0e} | {seconds:.2f} | {state.chi:.6g} | {q} | {x} |")


def curve() -> None:
    print("\n| alpha | steps | e* | CPU s |\n|--:|--:|--:|--:|")
    for alpha in (2.1, 3.0, 7.0, 50.0):
        for steps in range(4):
            state, seconds = timed(partial(perceptron.ground_state, alpha, steps))
            print(f"| {alpha} | {steps} | {state.value:.12f} | {seconds:.2f} |")


def chains(depth: int) -> None:
    print("\n| notion | lifted | layer | capacity | CPU s |\n|---|---|--:|--:|--:|")
    for notion in ("local", "global"):
        for lifted in (False, True):
            found: list[float] = []
            for layer in range(1, depth + 1):
                capacity, seconds = timed(partial(duality.last_layer_capacity, found, notion, lifted))
                found.append(capacity)
                print(f"| {notion} | {lifted} | {layer} | {capacity:.12f} | {seconds:.2f} |")


def counts() -> None:
    print("\n| n | first moment | Euler characteristic |\n|--:|--:|--:|")
    for n in (2, 3, 4, 5, 6, 7, 10, 20, 50):
        print(f"| {n} | {counting.half_point(n, 'cells'):.4f} | {counting.half_point(n, 'euler'):.4f} |")
    print(f"| infinite | {counting.cells_limit():.9f} | {counting.euler_limit():.9f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--depth", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        symmetry_breaking(asked.steps)
        curve()
        chains(asked.depth)
        counts()


if __name__ == "__main__":
    main()
