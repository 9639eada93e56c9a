"""Small convolutional networks trained together against one at a time in plain torch (plain_torch.py), one core.

    python benchmarks/first_layer.py [--epochs 2] [--plain 8] [--repeats 2]

The digits (8 x 8), and random images as large as crops of photographs (16 x 16, three channels), each with the pattern
of its class; K = 8 filters of side 3, batches of 32.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from plain_torch import HEADER, compared

from sweeps.inputs import labelled
from sweeps.inputs.labelled import Labelled
from sweeps.networks.small_cnns import POOLS, small_cnn

FILTERS, SIDE, RATE = 8, 3, 0.05


def random_images(train: int = 1200, validation: int = 300, classes: int = 6) -> Labelled:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, train + validation)
    patterns = rng.standard_normal((classes, 3, 16, 16), np.float32)
    images = rng.standard_normal((len(labels), 3, 16, 16), np.float32) + 0.3 * patterns[labels]
    return Labelled(images[:train], labels[:train], images[train:], labels[train:], classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--plain", type=int, default=8, help="networks that plain torch trains")
    parser.add_argument("--repeats", type=int, default=2, help="times each is timed; the best counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(HEADER)
    for kind, data in {"digits": labelled.load("digits"), "random images": random_images()}.items():
        for architecture in POOLS:
            layered = small_cnn(architecture, data.train_images.shape[1:], FILTERS, SIDE, data.classes)
            name = f"{architecture}, {kind}"
            print(
                compared(name, layered, data, "sgd", RATE, options.epochs, options.plain, options.repeats), flush=True
            )


if __name__ == "__main__":
    main()
