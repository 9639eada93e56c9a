"""Networks trained together against one at a time in plain torch (benchmarks/plain_torch.py), on the digits, one core.

python benchmarks/training.py [--epochs 5] [--plain 8] [--repeats 3]
"""

from __future__ import annotations

import argparse

import torch
from plain_torch import HEADER, compared

from sweeps.inputs import labelled
from sweeps.networks.layered import Activation, Convolution, Dense, Layered, MaxPool
from sweeps.networks.training import Optimiser

RATES: dict[Optimiser, float] = {"sgd": 0.1, "adam": 0.003}
CNN = (Convolution(8, 3), Activation(), MaxPool(), Convolution(8, 3), Activation(), MaxPool())


def dense(width: int, depth: int) -> Layered:
    return Layered((1, 8, 8), (*(Dense(width), Activation()) * depth, Dense(10)))


NETWORKS = {
    "3 x 20": dense(20, 3),
    "5 x 12": dense(12, 5),
    "CNN, 2 layers of 8 filters": Layered((1, 8, 8), (*CNN, Dense(10))),
    "3 x 256": dense(256, 3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--plain", type=int, default=8, help="networks that plain torch trains")
    parser.add_argument("--repeats", type=int, default=3, help="times each is timed; the best counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = labelled.load("digits")
    print(HEADER)
    for name, layered in NETWORKS.items():
        for optimiser, rate in RATES.items():
            row = compared(name, layered, data, optimiser, rate, options.epochs, options.plain, options.repeats)
            print(row, flush=True)


if __name__ == "__main__":
    main()
