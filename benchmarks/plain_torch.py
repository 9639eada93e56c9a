"""Training one network at a time in plain torch, as a user would write it, against many together.

Plain torch is nn.Sequential, cross_entropy, backward, torch.optim. Both train from the same weights on the same
batches, give batch normalisation the statistics of the whole training set, and then find the accuracy on the training
and the validation set. Times are CPU seconds of one thread, the best of the repeats. The validation accuracies are
those of the networks that both trained; where rounding meets the kink of a ReLU, a network may take another path.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sweeps.inputs.labelled import Labelled
from sweeps.networks.layered import Activation, Add, Affine, Convolution, Dense, GlobalAveragePool, Layered, Save
from sweeps.networks.lessons import order
from sweeps.networks.training import Optimiser, Recipe, train
from sweeps.statistic import Networks, Points

BATCH = 32
HEADER = (
    "| network | optimiser | one at a time, networks/s | 64 together, networks/s | ratio | accuracy | of plain |\n"
    "|---|---|---:|---:|---:|---:|---:|"
)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Sequential()

    def forward(self, x):
        return x + self.inside(x)


def start(layered: Layered, n: int) -> np.ndarray:
    """He weights, no biases."""
    rng, packed = np.random.default_rng(0), np.zeros((n, layered.size))
    for layer, blocks in zip(layered.layers, layered.unpack(packed), strict=True):
        if isinstance(layer, Affine):
            blocks[0][:] = 1
        elif blocks:
            blocks[0][:] = rng.standard_normal(blocks[0].shape) * np.sqrt(2 / blocks[0].shape[1])
    return packed


def plain(layered: Layered, packed: np.ndarray) -> nn.Sequential:
    opened = [nn.Sequential()]
    for layer, shape, blocks in zip(layered.layers, layered.shapes, layered.unpack(packed), strict=False):
        match layer:
            case Save():
                opened.append(opened[-1].append(Residual())[-1].inside)
            case Add():
                opened.pop()
            case Dense(outputs):
                opened[-1].extend([nn.Flatten(), nn.Linear(len(blocks[0]), outputs)])
            case Convolution(filters, side):
                opened[-1].append(nn.Conv2d(shape[0], filters, side, padding=side // 2))
            case Affine():
                opened[-1].append(nn.BatchNorm2d(shape[0]))
            case Activation():
                opened[-1].append(nn.ReLU())
            case GlobalAveragePool():
                opened[-1].append(nn.AdaptiveAvgPool2d(1))
            case _:
                opened[-1].append(nn.MaxPool2d(2))
        if blocks:
            last = opened[-1][-1]
            last.weight.data = torch.tensor(blocks[0].T, dtype=torch.float32).reshape(last.weight.shape).contiguous()
            last.bias.data = torch.tensor(blocks[1], dtype=torch.float32)
    return opened[0]


def plainly_trained(net: nn.Sequential, data: Labelled, orders: list[np.ndarray], optimiser: Optimiser, rate: float):
    """Validation accuracy."""
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimiser]
    steps = kind(net.parameters(), lr=rate)
    images, labels, others, their_labels = (torch.tensor(part) for part in data[:4])
    for of_epoch in orders:
        for chosen in torch.from_numpy(of_epoch).split(BATCH):
            if len(chosen) == BATCH:
                steps.zero_grad()
                functional.cross_entropy(net(images[chosen]), labels[chosen]).backward()
                steps.step()
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        if norms:
            net(images)
        net.eval()
        (net(images).argmax(1) == labels).float().mean().item()
        return (net(others).argmax(1) == their_labels).float().mean().item()


def compared(
    name: str, layered: Layered, data: Labelled, optimiser: Optimiser, rate: float, epochs: int, few: int, repeats: int
) -> str:
    """A row of the table: 64 together, and `few` of them one at a time. Ends the process where accuracies differ."""
    lane, n = 64, len(data.train_labels)
    networks = Networks(Points({}, {}, lane), np.ones(lane, np.uint64), np.arange(lane, dtype=np.uint64))
    packed, labels = start(layered, lane), np.tile(data.train_labels, (lane, 1))
    orders, steps = [order(networks, epoch, n)[:few] for epoch in range(epochs)], epochs * (n // BATCH)
    recipe, rates = Recipe(steps, BATCH, optimiser, (steps,)), np.full(lane, rate)
    ours = theirs = np.inf
    for _ in range(repeats):
        begun = time.thread_time()
        with torch.inference_mode():
            trained = train(layered, packed, data, labels, networks, recipe, rates, "cpu")
        ours = min(ours, (time.thread_time() - begun) / lane)
        begun = time.thread_time()
        found = [
            plainly_trained(plain(layered, packed[i]), data, [of_epoch[i] for of_epoch in orders], optimiser, rate)
            for i in range(few)
        ]
        theirs = min(theirs, (time.thread_time() - begun) / few)
    accuracy, plain_accuracy = trained.accuracy[0, :few], np.array(found)
    apart = accuracy - plain_accuracy
    if abs(apart.mean()) > 4 * apart.std(ddof=1) / np.sqrt(few) + 0.003:  # one digit is 0.0028
        sys.exit(f"{name}, {optimiser}: accuracies {accuracy} together, {plain_accuracy} one at a time")
    return (
        f"| {name} | {optimiser} | {1 / theirs:.3g} | {1 / ours:.3g} | {theirs / ours:.1f} "
        f"| {accuracy.mean():.3f} | {plain_accuracy.mean():.3f} |"
    )
