"""Exact folds against sampling and against regioncam, on the same networks and segments, one core.

    python benchmarks/folding.py [--sizes 64x3 256x5 1024x5] [--repeats 5]

Sampling is what published scripts do: 1000 points of the segment through the network in one batch (torch,
float32), then Hamming distances. regioncam (PyPI, Rust, float32) tracks every breakpoint of a line too; it runs in a
throwaway virtual environment that this script makes, as it is no dependency of the project.
Times are CPU seconds of one thread, the best of the repeats, without drawing the network.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from sweeps.networks.folds import fold, fold_many, pack

SAMPLES = 1000
REGIONCAM = """
import sys, time
import numpy as np
from regioncam import Regioncam1D

def walk(weights, x, y):
    line = Regioncam1D(1.0)
    line.linear((y - x)[None], (x + y) / 2)
    for W in weights:
        line.linear(W, np.zeros(W.shape[1], np.float32))
        line.relu()
    return line.num_vertices - 2

data = np.load(sys.argv[1])
weights = [data[f"arr_{i}"].T.astype(np.float32).copy() for i in range(len(data.files) - 1)]
x, y = data[f"arr_{len(weights)}"].astype(np.float32)
best = np.inf
for _ in range(int(sys.argv[2])):
    start = time.thread_time()
    flips = walk(weights, x, y)
    best = min(best, time.thread_time() - start)
print(flips, best)
"""


def network(width: int, depth: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Bias-free He weights (out, in) on the plane and orthogonal end points (2, 2)."""
    rng = np.random.default_rng(seed)
    shapes = [(width, 2), *[(width, width)] * (depth - 1)]
    return [rng.standard_normal(s) * np.sqrt(2 / s[1]) for s in shapes], np.eye(2)


def best_time(f: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        f()
        times.append(time.thread_time() - start)
    return min(times)


@torch.inference_mode()
def sampled(weights: list[torch.Tensor], ends: torch.Tensor, samples: int) -> tuple[float, int, int]:
    """(chi, r1, r2) as `samples` equally spaced points show them."""
    H = ends[0] + torch.linspace(0, 1, samples)[:, None] * (ends[1] - ends[0])
    bits = []
    for W in weights:
        Z = H @ W.T
        bits.append(Z > 0)
        H = Z.relu_()
    path = torch.cat(bits, dim=1)
    r1 = int((path != path[0]).sum(1).max())
    r2 = int((path[1:] != path[:-1]).sum())
    return (1 - r1 / r2 if r2 else 0.0), r1, r2


def regioncam_python(folder: Path) -> Path:
    """A virtual environment with regioncam in it."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "regioncam", "numpy"], check=True)
    return python


def regioncam(python: Path, folder: Path, weights, ends, repeats: int) -> tuple[int, float]:
    """Breakpoints and seconds."""
    np.savez(folder / "network.npz", *weights, ends)
    command = [python, "-c", REGIONCAM, folder / "network.npz", str(repeats)]
    flips, seconds = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(flips), float(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["64x3", "256x5", "1024x5"], help="width x depth")
    parser.add_argument("--repeats", type=int, default=5, help="times each is timed; the best counts")
    parser.add_argument("--python", type=Path, help="a Python that has regioncam; default: make one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = options.python or regioncam_python(folder)
        print("| network | exact, ms | sampling, ms | ratio | regioncam, ms | ratio | flips | sampled | regioncam |")
        print("|---|---|---|---|---|---|---|---|---|")
        for size in options.sizes:
            width, depth = map(int, size.split("x"))
            weights, ends = network(width, depth)
            packed, widths, points = pack(weights, [np.zeros(len(W)) for W in weights], *ends)
            tensors = [torch.tensor(W, dtype=torch.float32) for W in weights]
            corners = torch.tensor(ends, dtype=torch.float32)
            found = fold(weights, [np.zeros(len(W)) for W in weights], *ends)
            _, _, seen = sampled(tensors, corners, SAMPLES)
            ours = best_time(lambda p=packed, w=widths, e=points: fold_many(p[None], w, e[None]), options.repeats)
            theirs = best_time(lambda t=tensors, c=corners: sampled(t, c, SAMPLES), options.repeats)
            flips, rust = regioncam(python, folder, weights, ends, options.repeats)
            print(
                f"| {size} | {1e3 * ours:.3f} | {1e3 * theirs:.2f} | {theirs / ours:.1f} | {1e3 * rust:.2f} "
                f"| {rust / ours:.1f} | {found.r2:.0f} | {seen} | {flips} |",
                flush=True,
            )
            if abs(flips - found.r2) > 0.01 * found.r2:
                sys.exit(
                    f"{size}: {found.r2:.0f} flips here, {flips} by regioncam; they should agree to float32 rounding"
                )


if __name__ == "__main__":
    main()
