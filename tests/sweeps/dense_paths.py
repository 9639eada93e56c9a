"""Slow obvious answers about paths through layered networks, in torch's float64."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from sweeps.networks.layered import Activation, Affine, AveragePool, Convolution, Dense, Layered, MaxPool


def random_network(layered: Layered, rng: np.random.Generator, bias: float = 0.3) -> np.ndarray:
    """A packed network: He weights, Gaussian biases and shifts, scales around 1 of both signs."""
    parameters = []
    for layer, blocks in zip(layered.layers, layered.blocks, strict=True):
        found = [rng.standard_normal(block) for block in blocks]
        if isinstance(layer, Dense | Convolution):
            found = [found[0] * np.sqrt(2 / blocks[0][0]), bias * found[1]]
        elif isinstance(layer, Affine):
            found = [np.where(found[0] > -1, 1, -1) * (1 + 0.3 * abs(found[0])), bias * found[1]]
        parameters.append(found)
    return layered.pack(*parameters)


def hidden(layered: Layered, network: np.ndarray, points: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pre-activations and activations of every hidden layer at points (n, inputs): (n, neurons) each."""
    x = torch.tensor(points, dtype=torch.float64).reshape(-1, *layered.image)
    before, after = [], []
    for layer, parameters in zip(layered.layers, layered.unpack(network), strict=True):
        blocks = [torch.tensor(block) for block in parameters]
        match layer:
            case Dense():
                x = (x.flatten(1) @ blocks[0] + blocks[1])[:, :, None, None]
            case Convolution(filters, side, padding):
                border = [(0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)]
                padded = np.pad(x.numpy(), border, mode="wrap" if padding == "circular" else "constant")
                x = functional.conv2d(torch.from_numpy(padded), blocks[0].T.reshape(filters, -1, side, side), blocks[1])
            case Affine():
                nothing, one = torch.zeros_like(blocks[0]), torch.ones_like(blocks[0])
                x = functional.batch_norm(x, nothing, one, blocks[0], blocks[1], training=False, eps=0)
            case AveragePool():
                x = functional.avg_pool2d(x, 2)
            case MaxPool():
                x = functional.max_pool2d(x, 2)
            case Activation():
                before.append(x.flatten(1).numpy())
                x = functional.leaky_relu(x, layered.slope)
                after.append(x.flatten(1).numpy())
    return before, after


def along(points: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The points at `places` of a broken line through points (P, inputs)."""
    first = np.minimum(places.astype(int), len(points) - 2)
    rest = (places - first)[:, None]
    return points[first] * (1 - rest) + points[first + 1] * rest


def patterns(layered: Layered, network: np.ndarray, points: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Bits (places, neurons)."""
    return np.concatenate(hidden(layered, network, along(points, places))[0], axis=1) > 0


def fold_of(path: np.ndarray) -> tuple[float, int, int]:
    """(chi, r1, r2) of patterns (n, neurons)."""
    if path.shape[1] == 0:
        return 0.0, 0, 0
    r1 = int((path != path[0]).sum(axis=1).max())
    r2 = int((path[1:] != path[:-1]).sum())
    return (1 - r1 / r2 if r2 else 0.0), r1, r2


def flipped(places: np.ndarray, neurons: np.ndarray, first: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Bits (places, neurons) at places `at`, none of them a flip's, from the first pattern and all flips."""
    order = np.searchsorted(places, at)
    toggles = np.zeros((len(places) + 1, len(first)), np.int64)
    toggles[np.arange(len(places)) + 1, neurons] = 1
    return (np.cumsum(toggles, axis=0)[order] + first) % 2 == 1


def curve_lengths(layered: Layered, network: np.ndarray, points: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(2, hidden layers): sums of angles at the origin and of distances between activations at `places`."""
    found = []
    for layer in hidden(layered, network, along(points, places))[1]:
        a, b = layer[:-1], layer[1:]
        length = np.linalg.norm(b - a, axis=1).sum()
        alive = a.any(axis=1) & b.any(axis=1)
        a, b = (x[alive] / np.linalg.norm(x[alive], axis=1)[:, None] for x in (a, b))
        angle = 2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1)).sum()
        found.append((angle, length))
    return np.array(found).T
