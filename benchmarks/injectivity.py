"""Exact k* of Gaussian layers: sweeps.networks.depth against data-depth's exact halfspace depth, one core each.

    python benchmarks/injectivity.py [--python PYTHON]

data-depth (PyPI, Dyckerhoff and Mozharovskyi's C++ code) calls k*/m the halfspace (Tukey) depth of the origin among the
rows: closed half-spaces, the same number in general position. Of its exact methods `plane` and `line` are timed;
`recursive` is many times slower. It runs in an environment of its own: that of PYTHON, or one made here under
the user's cache folder, which the first time installs data-depth and what it needs (torch among them).
The two sides take turns on the same matrices, and each side's best round counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from math import comb
from pathlib import Path

import numpy as np

SIZES = {(5, 33): 50, (6, 40): 10, (7, 47): 1}  # (n, m): matrices
METHODS = ("plane", "line")
ROUNDS = 5

PEER = """
import json, sys, time
import numpy as np
from depth.model.multivariate.Halfspace import halfspace
W, methods = np.load(sys.argv[1]), sys.argv[2:]
out = {}
for method in methods:
    start = time.process_time()
    depths = [halfspace(np.zeros((1, w.shape[1])), w, exact=True, method=method)[0] for w in W]
    seconds = (time.process_time() - start) / len(W)
    out[method] = seconds, [round(d * W.shape[1]) for d in depths]
print(json.dumps(out))
"""


def peer_python() -> str:
    """The Python of an environment with data-depth, made if it is not there."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "relu-sweeps" / "data-depth"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "data-depth"], check=True)
        (home / "ready").touch()
    return str(python)


def peer(python: str, matrices: Path) -> dict[str, tuple[float, list[int]]]:
    """Seconds a matrix and the counts, by method."""
    done = subprocess.run([python, "-c", PEER, str(matrices), *METHODS], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def ours(W: np.ndarray) -> tuple[float, list[int]]:
    from sweeps.networks.depth import min_active

    min_active(W[:1])
    start = time.process_time()
    counts = min_active(W)
    return (time.process_time() - start) / len(W), counts.tolist()


def compare(n: int, m: int, python: str, folder: Path) -> str:
    """One row of the table."""
    W = np.random.default_rng(0).standard_normal((SIZES[n, m], m, n))
    np.save(folder / "matrices.npy", W)
    mine, theirs = np.inf, np.inf
    for _ in range(ROUNDS if n < 7 else 2):
        seconds, counts = ours(W)
        mine = min(mine, seconds)
        for method, (other_seconds, other_counts) in peer(python, folder / "matrices.npy").items():
            if counts != other_counts:
                raise SystemExit(f"(n, m) = ({n}, {m}): {method} gives {other_counts}, ours {counts}")
            if other_seconds < theirs:
                theirs, best = other_seconds, method
    vectors = comb(m, n - 1)
    cells = (f"({n}, {m})", f"{len(W)}", f"{vectors:,}", f"{best} {1e3 * theirs:.4g}", f"{1e3 * mine:.3g}")
    return f"| {' | '.join(cells)} | {vectors / mine:.2g} | {theirs / mine:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="a Python that has data-depth")
    python = parser.parse_args().python or peer_python()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # children inherit it
    print("| (n, m) | matrices | null vectors | data-depth, ms | ours, ms | null vectors decided a second | ratio |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for n, m in SIZES:
            print(compare(n, m, python, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
