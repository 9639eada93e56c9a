"""Folds of piecewise linear networks along straight or broken lines: every breakpoint, exactly, without sampling.

sweeps.networks.walk finds the flips of the activation pattern and the lengths of the hidden curves, and
sweeps.networks.fold_measures what follows from the flips, such as the space folding measure chi = 1 - r1/r2 of
Lewandowski, Eghbalzadeh, Heinzl, Pisoni, Moser, "On Space Folds of ReLU Neural Networks", TMLR 2025.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sweeps.networks.fold_measures import KINDS, in_order, measure_paths
from sweeps.networks.layered import Activation, Convolution, Dense, Layered, MaxPool, fully_connected
from sweeps.networks.sparse_product import LINE, ROWS
from sweeps.networks.walk import panels_size, walk_paths

BATCH = 256  # paths whose flips are kept at once
MULTIPLY_SECONDS, ROW_SECONDS = 4e-11, 5e-9
TOGETHER, MOST = 2**16, 2**20  # values that the rows of paths walked together should have, and may have at most


class Fold(NamedTuple):
    """What a segment meets; NaN throughout if the network or an end point is not finite."""

    chi: float
    r1: float
    r2: float
    breakpoints: float
    """places where the pattern changes; r2 less the flips that coincide"""


class Folds(NamedTuple):
    """What many paths meet, float64 over paths; NaN where the network or a point is not finite.

    Patterns are those of the open pieces between breakpoints, so the ends' are those just inside.
    """

    chi: np.ndarray
    r1: np.ndarray
    r2: np.ndarray
    chi_reversed: np.ndarray
    """chi of the path walked backwards"""
    breakpoints: np.ndarray
    regions: np.ndarray
    """different patterns met"""
    chi_sampled: np.ndarray
    """chi as equally spaced points show it, where a neuron that is 0 has the bit 0; NaN for fewer than 2"""
    chi_subset: np.ndarray
    """chi of some neurons alone"""
    by_layer: np.ndarray
    """(paths, layers): chi of one hidden layer alone; NaN beyond the last, as in the following"""
    to_layer: np.ndarray
    """(paths, layers): chi of the hidden layers up to this one"""
    arcs: np.ndarray
    """(paths, layers): spherical length of the curve of a hidden layer's activations, in radians; 0 where it is dead"""
    lengths: np.ndarray
    """(paths, layers): Euclidean length of the same"""
    interaction: np.ndarray
    """(paths, joins): |chi - chi of the first part - chi of the second|, the path cut at j/(joins + 1) of it, j >= 1"""


class Walk(NamedTuple):
    """One path through P points; place i is point i."""

    places: np.ndarray
    """(flips,) sorted in [0, P - 1]"""
    neurons: np.ndarray
    """(flips,) numbered through the hidden layers"""
    rises: np.ndarray
    """(flips,) whether the bit becomes 1"""
    arcs: np.ndarray
    """(hidden layers,) spherical lengths in radians"""
    lengths: np.ndarray
    """(hidden layers,)"""


def fold(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], start, end) -> Fold:
    """The fold of the segment from `start` to `end`; ReLU, hidden layers only, weights (out, in), biases (out,)."""
    layered, network = _of_matrices(weights, biases)
    points = np.array([[start, end]], dtype=np.float64)
    found = fold_paths(layered, network[None], np.zeros(1, np.int64), points)
    return Fold(*(float(values[0]) for values in (found.chi, found.r1, found.r2, found.breakpoints)))


def flips(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], start, end):
    """Every flip in order: places in [0, 1] and neurons, numbered through the layers; (flips,) each.

    Raises:
        ValueError: the network or an end point is not finite.
    """
    layered, network = _of_matrices(weights, biases)
    found = walk_path(layered, network, np.array([start, end], dtype=np.float64))
    return found.places, found.neurons


def walk_path(layered: Layered, network: np.ndarray, points: np.ndarray) -> Walk:
    """The walk of one packed network (size,) along points (P, inputs).

    Raises:
        ValueError: the network or a point is not finite.
    """
    networks, points = _float64(network)[None], _float64(points)[None]
    one = np.zeros(1, np.int64)
    _check(layered, networks, one, points)
    program, slope = layered.hidden_program, float(layered.slope)
    room = np.empty(panels_size(program) + LINE)
    found, arcs, lengths, finite = walk_paths(program, slope, networks, one, points, one, 1, len(layered.hidden), room)
    if not finite[0]:
        raise ValueError("the network or a point is not finite")
    _, places, codes = in_order(found, 1)
    return Walk(places, codes // 2, codes % 2 == 1, arcs[0], lengths[0])


def fold_paths(
    layered: Layered,
    networks: np.ndarray,
    of_network: np.ndarray,
    points: np.ndarray,
    *,
    layers: int = 0,
    joins: int = 0,
    subset: np.ndarray | None = None,
    samples: int = 0,
) -> Folds:
    """Folds of paths through `points` (paths, P, inputs), path i in the packed network networks[of_network[i]].

    `subset`, bool (neurons,) or (paths, neurons), says whose bits are in chi_subset; without it all are. Images are
    flattened in the order channel, row, column. What a path gives does not depend on which others there are.
    """
    networks, points = _float64(networks), _float64(points)
    of_network = np.asarray(of_network, np.int64)
    _check(layered, networks, of_network, points)
    hidden, paths, P = np.array(layered.hidden, np.int64), len(points), points.shape[1]
    program, slope, together = layered.hidden_program, float(layered.slope), _together(layered, P)
    room, order = np.empty(panels_size(program) + LINE), np.argsort(of_network, kind="stable")
    some, curves = _subset(subset, paths, int(hidden.sum())), min(layers, len(hidden))
    numbers, interaction = np.full((paths, KINDS), np.nan), np.full((paths, joins), np.nan)
    by_layer, to_layer, arcs, lengths = np.full((4, paths, layers), np.nan)
    for first in range(0, paths, BATCH):
        which = order[first : first + BATCH]
        walks = walk_paths(program, slope, networks, of_network, points, which, together, curves, room)
        out = numbers, by_layer, to_layer, interaction, arcs, lengths
        measure_paths(walks, which, P - 1.0, hidden, some, samples, *out)
    return Folds(*np.ascontiguousarray(numbers.T), *[by_layer, to_layer, arcs, lengths, interaction])


def seconds(layered: Layered, segments: int, flips: float) -> float:
    """Of a path of so many segments, on one core, if each flips a share `flips` of the neurons."""
    rows, new, total = segments + 1.0, 0.0, 1e-5  # `new`: of the layer before
    for layer, before, blocks, after in zip(
        layered.layers, layered.shapes, layered.blocks, layered.shapes[1:], strict=False
    ):
        if isinstance(layer, Activation):
            rows, new = rows + new, segments * flips * math.prod(after)
            total += 2e-6 + ROW_SECONDS * rows * math.prod(after) + 1e-7 * new
            continue
        if isinstance(layer, Convolution):
            rows, new = rows + new, 0.0
            total += MULTIPLY_SECONDS * rows * math.prod(after) * blocks[0][0]
        elif blocks and isinstance(layer, Dense):
            total += MULTIPLY_SECONDS * max(rows, 2 if rows < 3 else ROWS / 2) * math.prod(blocks[0]) / 2
        total += ROW_SECONDS * (rows + new) * math.prod(before)
    return total


def path_bytes(layered: Layered, segments: int, flips: float) -> int:
    """That the walk of a path needs, if each segment flips a share `flips` of the neurons."""
    rows = ROWS + segments * (1 + 1.2 * flips * sum(layered.hidden))
    if any(isinstance(layer, MaxPool) for layer in layered.layers):
        rows *= 1.5
    return int(20 * rows * max(map(math.prod, layered.shapes)))


def _together(layered: Layered, P: int) -> int:
    """Paths of one network to walk at once: for enough rows of points to fill blocks of the product, if they fit."""
    rows, values = P, 0
    for layer, shape in zip(layered.layers, layered.shapes[1:], strict=True):
        values = max(values, rows * math.prod(shape))
        rows += (P - 1) * math.prod(shape) // 2 if isinstance(layer, Activation) else 0
    return max(ROWS // P if ROWS * values < MOST else 1, TOGETHER // max(values, 1), 1)


def _float64(values) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float64)


def _check(layered: Layered, networks: np.ndarray, of_network: np.ndarray, points: np.ndarray) -> None:
    inputs, paths = math.prod(layered.image), len(points)
    if networks.ndim != 2 or networks.shape[1] != layered.size:
        raise ValueError(f"networks must have shape (networks, {layered.size}), got {networks.shape}")
    if points.ndim != 3 or points.shape[1] < 2 or points.shape[2] != inputs:
        raise ValueError(f"points must have shape (paths, 2 or more, {inputs}), got {points.shape}")
    if of_network.shape != (paths,) or (paths and not 0 <= of_network.min() <= of_network.max() < len(networks)):
        raise ValueError(
            f"of_network must say for each of {paths} paths which of the {len(networks)} networks it is in"
        )


def _subset(subset: np.ndarray | None, paths: int, neurons: int) -> np.ndarray:
    if subset is None:
        return np.ones((paths, neurons), np.bool_)
    some = np.asarray(subset, np.bool_)
    if some.shape not in ((neurons,), (paths, neurons)):
        raise ValueError(f"subset must have shape ({neurons},) or ({paths}, {neurons}), got {some.shape}")
    return np.broadcast_to(some, (paths, neurons))


def _of_matrices(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> tuple[Layered, np.ndarray]:
    layered = fully_connected(np.shape(weights[0])[1], [len(b) for b in biases])
    parameters = [part for W, b in zip(weights, biases, strict=True) for part in ((np.transpose(W), b), ())]
    return layered, layered.pack(*parameters)
