"""Biases of random layers from the polytope of their rows: facet by facet against the published way, one core each.

    python benchmarks/frames.py [--python PYTHON]

Published (Haider, Ehler, Balazs, arXiv 2307.09672, and their code): all facets at a row are merged into one cone, and
where two of its rows have a negative product the bias is the least product of any of them with a unit vector of the
cone, a second-order cone program a row in cvxpy. It is written anew here and runs in an environment of its own: that
of PYTHON, or one made here under the user's cache folder, which the first time installs cvxpy and what it needs.
The time is for one layer on the sphere, CPU; ours is the best of some rounds, hull included, and theirs has no hull.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from peers import python_with

from sweeps.frames.polytope import polytope_bias

ROUNDS = 5

PEER = """
import json, sys, time
import cvxpy as cp
import numpy as np
from scipy.spatial import ConvexHull
rows = np.load(sys.argv[1])
facets = ConvexHull(rows).simplices

def least(cone):
    found = []
    for row in cone:
        c = cp.Variable(len(cone))
        problem = cp.Problem(cp.Minimize((cone @ row) @ c), [cp.SOC(1, cone.T @ c), c >= 0])
        found.append(problem.solve(solver=cp.CLARABEL))
    return min(found)

start, bias = time.process_time(), []
for i in range(len(rows)):
    near = np.unique(facets[(facets == i).any(axis=1)])
    smallest = (rows[near] @ rows[i]).min()
    bias.append(smallest if smallest >= 0 else least(rows[near]))
print(json.dumps([time.process_time() - start, bias]))
"""


def published(rows: np.ndarray, python: str) -> tuple[float, np.ndarray]:
    """Seconds and the bias."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "rows.npy", rows)
        command = [python, "-c", PEER, f"{folder}/rows.npy"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, bias = json.loads(done.stdout.splitlines()[-1])
    return seconds, np.array(bias)


def ours(rows: np.ndarray) -> tuple[float, np.ndarray]:
    best, bias = np.inf, polytope_bias(rows)
    for _ in range(ROUNDS):
        start = time.process_time()
        bias = polytope_bias(rows)
        best = min(best, time.process_time() - start)
    return best, bias


def layers() -> dict[str, np.ndarray]:
    tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    drawn = {(m, n): np.random.default_rng(0).standard_normal((m, n)) for m, n in [(30, 5), (60, 6)]}
    return {"tetrahedron": tetrahedron} | {
        f"(m, n) = {size}": W / np.linalg.norm(W, axis=1, keepdims=True) for size, W in drawn.items()
    }


def polytope(python: str) -> None:
    """The table of biases from polytopes."""
    print("| rows | facet by facet, ms | mean bias | least | merged, cvxpy, ms | mean bias | least | ratio of times |")
    print("|---" * 8 + "|")
    for name, rows in layers().items():
        seconds, bias = ours(rows)
        other_seconds, other = published(rows, python)
        if (bias < other - 1e-6).any():
            raise SystemExit(f"{name}: facet by facet gives less than merged, by {(other - bias).max()}")
        if name == "tetrahedron":
            np.testing.assert_allclose(other, -1, atol=1e-6)
            np.testing.assert_allclose(bias, -(3**-0.5), atol=1e-12)
        cells = (f"{1e3 * seconds:.3g}", f"{bias.mean():.4f}", f"{bias.min():.4f}")
        others = (f"{1e3 * other_seconds:.3g}", f"{other.mean():.4f}", f"{other.min():.4f}")
        print(f"| {' | '.join((name, *cells, *others))} | {other_seconds / seconds:.3g} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="a Python that has cvxpy")
    given = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    polytope(given.python or python_with("cvxpy"))


if __name__ == "__main__":
    main()
