"""Networks trained together against one at a time in plain torch, on the digits, one core.

    python benchmarks/training.py [--epochs 5] [--plain 8] [--repeats 3]

Plain torch is what a user would write: nn.Sequential, cross_entropy, backward, torch.optim. Both train from the same
weights on the same batches of 32, and then find the accuracy on the training and the validation set. Times are CPU
seconds of one thread, the best of the repeats. The validation accuracies are those of the networks that both trained;
where rounding meets the kink of a ReLU, a network may take another path.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sweeps.inputs import labelled
from sweeps.networks.layered import Activation, Convolution, Dense, Layered, MaxPool
from sweeps.networks.training import Optimiser, Recipe, order, train
from sweeps.statistic import Networks, Points

BATCH = 32
RATES: dict[Optimiser, float] = {"sgd": 0.1, "adam": 0.003}
CNN = (Convolution(8, 3), Activation(), MaxPool(), Convolution(8, 3), Activation(), MaxPool())


def dense(width: int, depth: int) -> Layered:
    return Layered((1, 8, 8), (*(Dense(width), Activation()) * depth, Dense(10)))


NETWORKS = {
    "3 x 20": (dense(20, 3), 64),
    "5 x 12": (dense(12, 5), 64),
    "CNN, 2 layers of 8 filters": (Layered((1, 8, 8), (*CNN, Dense(10))), 64),
    "3 x 256": (dense(256, 3), 64),
}


def start(layered: Layered, n: int) -> np.ndarray:
    """He weights, no biases."""
    rng, packed = np.random.default_rng(0), np.zeros((n, layered.size))
    for blocks in layered.unpack(packed):
        if blocks:
            blocks[0][:] = rng.standard_normal(blocks[0].shape) * np.sqrt(2 / blocks[0].shape[1])
    return packed


def plain(layered: Layered, packed: np.ndarray) -> nn.Sequential:
    modules: list[nn.Module] = []
    for layer, shape, blocks in zip(layered.layers, layered.shapes, layered.unpack(packed), strict=False):
        match layer:
            case Dense(outputs):
                modules += [nn.Flatten(), nn.Linear(len(blocks[0]), outputs)]
            case Convolution(filters, side):
                modules.append(nn.Conv2d(shape[0], filters, side, padding=side // 2))
            case Activation():
                modules.append(nn.ReLU())
            case _:
                modules.append(nn.MaxPool2d(2))
        if blocks:
            last = modules[-1]
            last.weight.data = torch.tensor(blocks[0].T, dtype=torch.float32).reshape(last.weight.shape).contiguous()
            last.bias.data = torch.tensor(blocks[1], dtype=torch.float32)
    return nn.Sequential(*modules)


def plainly_trained(net: nn.Sequential, data, orders: list[np.ndarray], optimiser: Optimiser) -> float:
    """Validation accuracy."""
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimiser]
    steps = kind(net.parameters(), lr=RATES[optimiser])
    images, labels, others, their_labels = (torch.tensor(part) for part in data[:4])
    for of_epoch in orders:
        for chosen in torch.from_numpy(of_epoch).split(BATCH):
            if len(chosen) == BATCH:
                steps.zero_grad()
                functional.cross_entropy(net(images[chosen]), labels[chosen]).backward()
                steps.step()
    with torch.no_grad():
        (net(images).argmax(1) == labels).float().mean().item()
        return (net(others).argmax(1) == their_labels).float().mean().item()


def compared(name: str, optimiser: Optimiser, data, epochs: int, few: int, repeats: int) -> str:
    layered, lane = NETWORKS[name]
    networks = Networks(Points({}, {}, lane), np.ones(lane, np.uint64), np.arange(lane, dtype=np.uint64))
    packed, n = start(layered, lane), len(data.train_labels)
    orders, steps = [order(networks, epoch, n)[:few] for epoch in range(epochs)], epochs * (n // BATCH)
    recipe, rates = Recipe(steps, BATCH, optimiser, (steps,)), np.full(lane, RATES[optimiser])
    labels = np.tile(data.train_labels, (lane, 1))
    ours = theirs = np.inf
    for _ in range(repeats):
        begun = time.thread_time()
        with torch.inference_mode():
            trained = train(layered, packed, data, labels, networks, recipe, rates, "cpu")
        ours = min(ours, (time.thread_time() - begun) / lane)
        begun = time.thread_time()
        found = [
            plainly_trained(plain(layered, packed[i]), data, [of_epoch[i] for of_epoch in orders], optimiser)
            for i in range(few)
        ]
        theirs = min(theirs, (time.thread_time() - begun) / few)
    accuracy, plain_accuracy = trained.accuracy[0, :few], np.array(found)
    apart = accuracy - plain_accuracy
    if abs(apart.mean()) > 4 * apart.std(ddof=1) / np.sqrt(few) + 0.003:  # one example is 0.0028
        sys.exit(f"{name}, {optimiser}: accuracies {accuracy} together, {plain_accuracy} one at a time")
    return (
        f"| {name} | {optimiser} | {1 / theirs:.3g} | {1 / ours:.3g} | {theirs / ours:.1f} "
        f"| {accuracy.mean():.3f} | {plain_accuracy.mean():.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--plain", type=int, default=8, help="networks that plain torch trains")
    parser.add_argument("--repeats", type=int, default=3, help="times each is timed; the best counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = labelled.load("digits")
    print("| network | optimiser | one at a time, networks/s | 64 together, networks/s | ratio | accuracy | of plain |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name in NETWORKS:
        for optimiser in RATES:
            row = compared(name, optimiser, data, options.epochs, options.plain, options.repeats)
            print(row, flush=True)


if __name__ == "__main__":
    main()
