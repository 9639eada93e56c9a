"""Few active rows by search: sweeps.networks.search against gradient descent in torch, one core, the same matrices.

    python benchmarks/injectivity_search.py [--draws 3] [--seconds 2 8]

What a user would write first: Adam on a smoothed count, sum_i sigmoid(<w_i, x> / s) with |x| = 1 and unit rows, s
annealed geometrically, from a batch of starts (x = -W^T 1 plus noise), again and again; the true count of every start
is looked at after every step, and the least one is kept. Each side gets the same CPU seconds a draw, within what its
pilot run tells: moves for one, steps for the other. Counts of both are taken again in float64. Prints a Markdown
table.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable

import numpy as np

from sweeps.networks.search import active, search

SIZES = ((50, 6.0), (100, 6.0), (200, 5.8))
STARTS = 64
ROUND = 500  # steps, then as many new starts
WIDTHS = (0.3, 0.01)  # s at the beginning and at the end
RATE = 0.03

Search = Callable[[np.ndarray, int, int], np.ndarray]
"""`f(W, draw, effort)` -> x (n,)."""


def by_moves(W: np.ndarray, draw: int, moves: int) -> np.ndarray:
    return search(W[None], np.zeros(1, np.uint64), np.array([draw], np.uint64), 1, moves)[1][0]


def by_gradient(W: np.ndarray, draw: int, steps: int) -> np.ndarray:
    import torch

    generator = torch.Generator().manual_seed(draw)
    rows = torch.from_numpy(W).float()
    start = torch.nn.functional.normalize(-rows.sum(0), dim=0)
    least, best = len(W) + 1, start
    for step in range(steps):
        if step % ROUND == 0:
            x = start + torch.randn(STARTS, len(start), generator=generator) / math.sqrt(len(start))
            adam = torch.optim.Adam([x.requires_grad_()], lr=RATE)
        width = WIDTHS[0] * (WIDTHS[1] / WIDTHS[0]) ** (step % ROUND / max(min(ROUND, steps) - 1, 1))
        margins = torch.nn.functional.normalize(x, dim=1) @ rows.T
        counts = (margins.detach() > 0).sum(1)
        k = int(counts.argmin())
        if int(counts[k]) < least:
            least, best = int(counts[k]), x.detach()[k].clone()
        adam.zero_grad()
        torch.sigmoid(margins / width).sum().backward()
        adam.step()
    return best.double().numpy()


def timed(f: Search, W: np.ndarray, draw: int, effort: int) -> tuple[float, int]:
    """CPU seconds, and the count of what was found."""
    start = time.process_time()
    x = f(W, draw, effort)
    return time.process_time() - start, int(active(W, x, 1e-9))


def effort_for(f: Search, W: np.ndarray, seconds: float, pilot: int) -> int:
    f(W, 0, pilot // 10)  # compiled, warm
    return max(1, int(pilot * seconds / timed(f, W, 0, pilot)[0]))


def layers(n: int, alpha: float, draws: int) -> np.ndarray:
    W = np.random.default_rng(n).standard_normal((draws, math.floor(alpha * n + 0.5), n))
    return W / np.linalg.norm(W, axis=2, keepdims=True)


def row(n: int, alpha: float, draws: int, seconds: float) -> str:
    W = layers(n, alpha, draws)
    cells = [f"({n}, {alpha:g})", f"{seconds:g}"]
    for f, pilot in ((by_gradient, 100), (by_moves, 20_000)):
        effort = effort_for(f, W[0], seconds, pilot)
        runs = [timed(f, w, k, effort) for k, w in enumerate(W)]
        used, ratio = np.mean([r[0] for r in runs]), np.array([r[1] for r in runs]) / n
        cells += [f"{effort:,}", f"{used:.1f}", f"{ratio.mean():.3f} ± {ratio.std(ddof=1) / math.sqrt(draws):.3f}"]
        cells.append(f"{(ratio < 1).sum()} of {draws}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--seconds", type=float, nargs="+", default=[2.0, 8.0])
    chosen = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    side = ("effort", "CPU s", "count/n", "certified")
    heads = ["(n, alpha)", "CPU s aimed at", *(f"torch, {s}" for s in side), *(f"ours, {s}" for s in side)]
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    for n, alpha in SIZES:
        for seconds in chosen.seconds:
            print(row(n, alpha, chosen.draws, seconds), flush=True)


if __name__ == "__main__":
    main()
