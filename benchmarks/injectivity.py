"""Exact k* of Gaussian layers: sweeps.networks.depth against exact halfspace depths that can be had, one core each.

    python benchmarks/injectivity.py [--python PYTHON] [--rscript RSCRIPT]

data-depth (PyPI, Dyckerhoff and Mozharovskyi's C++ code) calls k*/m the halfspace (Tukey) depth of the origin among the
rows: closed half-spaces, the same number in general position. It has three exact methods; `recursive` is timed on one
small matrix only, being many times slower. It runs in an environment of its own: that of PYTHON, or one made here
under the user's cache folder, which the first time installs data-depth and what it needs (torch among them).
With --rscript, R's package ddalpha (Debian's r-cran-ddalpha), whose authors are the same, is timed too.
The sides take turns on the same matrices, and each side's best round counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from math import comb
from pathlib import Path

import numpy as np
from peers import python_with

SIZES = {(5, 40): 20, (6, 40): 10, (7, 48): 1}  # (n, m): matrices
METHODS = ("plane", "line")
RECURSIVE = (5, 40)
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


R_PEER = """
suppressMessages(library(ddalpha))
given <- commandArgs(TRUE)
rows <- as.matrix(read.csv(given[1], header = FALSE)); m <- as.integer(given[2])
for (method in given[-(1:2)]) {
  counts <- c(); seconds <- 0
  for (k in seq_len(nrow(rows) / m)) {
    W <- rows[((k - 1) * m + 1):(k * m), ]
    spent <- system.time(d <- depth.halfspace(matrix(0, 1, ncol(W)), W, exact = TRUE, method = method))
    seconds <- seconds + spent[["user.self"]]; counts <- c(counts, round(d * m))
  }
  cat(method, seconds * m / nrow(rows), counts, "\\n")
}
"""


Answers = dict[str, tuple[float, list[int]]]
"""Seconds a matrix and the counts, by method."""


def data_depth(python: str, W: np.ndarray, folder: Path, methods: Sequence[str]) -> Answers:
    np.save(folder / "matrices.npy", W)
    command = [python, "-c", PEER, str(folder / "matrices.npy"), *methods]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def ddalpha(rscript: str, W: np.ndarray, folder: Path) -> Answers:
    np.savetxt(folder / "matrices.csv", W.reshape(-1, W.shape[2]), delimiter=",", fmt="%.17g")
    (folder / "peer.R").write_text(R_PEER)
    command = [rscript, str(folder / "peer.R"), str(folder / "matrices.csv"), str(W.shape[1]), *METHODS]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    return {f"R {line[0]}": (float(line[1]), [int(v) for v in line[2:]]) for line in lines}


def ours(W: np.ndarray) -> tuple[float, list[int]]:
    from sweeps.networks.depth import min_active

    min_active(W[:1])
    start = time.process_time()
    counts = min_active(W)
    return (time.process_time() - start) / len(W), counts.tolist()


def compare(n: int, m: int, python: str, rscript: str | None, folder: Path) -> str:
    """One row of the table."""
    W = np.random.default_rng(0).standard_normal((SIZES[n, m], m, n))
    mine, theirs = np.inf, dict[str, float]()
    for i in range(ROUNDS if n < 7 else 2):
        seconds, counts = ours(W)
        mine = min(mine, seconds)
        answers = data_depth(python, W, folder, METHODS)
        if (n, m) == RECURSIVE and not i:
            answers |= data_depth(python, W[:1], folder, ["recursive"])
        answers |= ddalpha(rscript, W, folder) if rscript else {}
        for method, (other_seconds, other_counts) in answers.items():
            if counts[: len(other_counts)] != other_counts:
                raise SystemExit(f"(n, m) = ({n}, {m}): {method} gives {other_counts}, ours {counts}")
            theirs[method] = min(other_seconds, theirs.get(method, np.inf))
    vectors, best = comb(m, n - 1), min(theirs.values())
    columns = ("plane", "line", "recursive", "R plane", "R line")
    others = (f"{1e3 * theirs[name]:.4g}" if name in theirs else "" for name in columns)
    cells = (f"({n}, {m})", f"{len(W)}", f"{vectors:,}", *others, f"{1e3 * mine:.3g}")
    return f"| {' | '.join(cells)} | {vectors / mine:.2g} | {best / mine:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="a Python that has data-depth")
    parser.add_argument("--rscript", help="an Rscript that has ddalpha")
    given = parser.parse_args()
    python = given.python or python_with("data-depth")
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # children inherit it
    print(
        "| (n, m) | matrices | null vectors | plane, ms | line | recursive | R plane | R line | ours, ms "
        "| null vectors decided a second | times faster than the fastest |"
    )
    print("|---" * 11 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for n, m in SIZES:
            print(compare(n, m, python, given.rscript, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
