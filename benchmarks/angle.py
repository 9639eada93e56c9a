"""Angle contraction: the Gram sampler, the direct sampler and a plain torch script on the same networks' law.

    python benchmarks/angle.py [--repeats 5]

One thread. Two Gaussian 3 x 32 x 32 inputs; every contestant yields the cosine after every layer. The plain
script draws weights with torch.randn and multiplies with @ or conv2d, one network after the other. The direct
and Gram samplers draw their normals by the project's randomness rule. Times are the best of the repeats.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from sweeps.inputs import sets
from sweeps.statistic import Networks, Points
from sweeps.statistics import get

ANGLE = get("angle")


def plain_fnn(width: int, depth: int) -> list[float]:
    """Cosines of one fully connected ReLU network, as a script would compute them."""
    hidden = torch.tensor(sets.inputs("gaussian", 2, 32, 0.5, 0)).flatten(1).T  # (3072, 2)
    cosines = []
    for _ in range(depth):
        fan_in = hidden.shape[0]
        hidden = (torch.randn(width, fan_in) * (2 / fan_in) ** 0.5 @ hidden).relu()
        cosines.append(functional.cosine_similarity(hidden[:, 0], hidden[:, 1], dim=0).item())
    return cosines


def plain_cnn(width: int, depth: int) -> list[float]:
    """Cosines of one circularly padded convolutional ReLU network."""
    hidden = torch.tensor(sets.inputs("gaussian", 2, 32, 0.5, 0))
    cosines = []
    for _ in range(depth):
        channels = hidden.shape[1]
        weights = torch.randn(width, channels, 3, 3) * (2 / (9 * channels)) ** 0.5
        hidden = functional.conv2d(functional.pad(hidden, (1, 1, 1, 1), mode="circular"), weights).relu()
        flat = hidden.flatten(1)
        cosines.append(functional.cosine_similarity(flat[0], flat[1], dim=0).item())
    return cosines


def seconds_a_network(run: Callable[[], object], networks: int, repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times) / networks


def sampler(lanes: int, **values) -> tuple[Callable[[], object], int]:
    """A run of `lanes` launches of the statistic, and how many networks that is."""
    p = ANGLE.parameters(correlation=0.5, **values)
    width = ANGLE.lane(p)

    def run() -> None:
        for lane in range(lanes):
            draws = np.arange(lane * width, (lane + 1) * width, dtype=np.uint64)
            ANGLE.sample(Networks(Points(p.model_dump(), {}, width), np.full(width, 1, np.uint64), draws), "cpu")

    return run, lanes * width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    fnn, cnn = {"width": 1024, "depth": 10}, {"width": 64, "depth": 4}
    contestants = {
        "FNN": {
            "plain torch": (lambda: plain_fnn(**fnn), 1),
            "direct": sampler(2, sampler="direct", **fnn),
            "Gram": sampler(4, sampler="gram", **fnn),
        },
        "CNN": {"plain torch": (lambda: plain_cnn(**cnn), 1), "direct": sampler(2, network="cnn", **cnn)},
    }
    print("| network | sampler | ms a network | times faster than plain torch | than direct |")
    print("|---|---|---|---|---|")
    with torch.inference_mode():
        for name, entrants in contestants.items():
            timed = {k: seconds_a_network(*run, repeats) for k, run in entrants.items()}
            size = fnn if name == "FNN" else cnn
            label = f"{name}, N = {size['width']}, {size['depth']} layers"
            for k, t in timed.items():
                plain, direct = timed["plain torch"] / t, timed["direct"] / t
                print(f"| {label} | {k} | {1e3 * t:.3g} | {plain:.3g} | {direct:.3g} |")


if __name__ == "__main__":
    main()
