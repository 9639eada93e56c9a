"""CantorNet: ReLU networks on the unit square that decide one ragged set in very different ways.

With A(x) = max(-3 x + 1, 0, 3 x - 2) applied k times, A^(k), the set is
    R_k = {(x, y) in [0, 1]^2 : y <= [A^(k)(x) + 1]/2},
whose boundary is 1 or 1/2 or on its way between them. It is at the bottom on the intervals [m, m + 1]/3^k that the k-th
step of Cantor's construction takes away: m = 1 for k = 1, then the same m again and those with 2 3^(k-1) added.
Lewandowski, Eghbalzadeh, Moser, "CantorNet", 2024 (arXiv 2411.19713).

Recursive form, 5 k + 1 neurons: k times the layers (3 x - 2, 1 - 3 x, y) and (sum of the first two, y), and a neuron
y - x/2 - 1/2.

Disjunctive forms, a number of neurons of order 2^k. R_k is the union of the convex sets below the outermost falling
and rising lines, below the bottom, and below the three lines of every bump between two bottoms. So the function
    min over sets of (max over the set's lines of y - line),
is positive outside, and maxima and minima are taken pair by pair, a layer for all pairs at once:
    "three":  min(a, b) = (b)+ - (-b)+ - (b - a)+,
    "four":   min(a, b) = [(a + b)+ - (-a - b)+ - (a - b)+ - (b - a)+]/2,
and max(a, b) = -min(-a, -b); a value without a partner passes as
(a)+ - (-a)+. These are the paper's representations B and C; there the maxima are taken before the network begins,
here they are its first two layers.

All weights and biases are whole multiples of powers of two, and exact in float64. The last layer is one neuron, whose
bit is 1 outside R_k.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

Form = Literal["recursive", "three", "four"]


class Network(NamedTuple):
    """A fully connected ReLU network as `sweeps.networks.folds.fold` takes it."""

    weights: list[np.ndarray]
    """(out, in) a layer"""
    biases: list[np.ndarray]
    """(out,) a layer"""


@lru_cache(maxsize=32)
def network(times: int, form: Form) -> Network:
    """CantorNet with A applied `times` times, >= 1; treat it as read-only."""
    if form == "recursive":
        return _recursive(times)
    lines, constants, sets = _lines(times)
    values, shifts = lines, constants  # what the layers before make of their outputs: values @ outputs + shifts
    weights, biases = [], []
    for sign, groups in _tournament(sets):
        bits, back = _pairs(groups, len(values), sign, form)
        weights.append(bits @ values)
        biases.append(bits @ shifts)
        values, shifts = back, np.zeros(len(back))
    return Network([*weights, values], [*biases, shifts])


def _recursive(times: int) -> Network:
    folds = [np.array([[3.0, 0], [-3, 0], [0, 1]]), np.array([[1.0, 1, 0], [0, 0, 1]])]
    shifts = [np.array([-2.0, 1, 0]), np.zeros(2)]
    return Network([*folds * times, np.array([[-0.5, 1]])], [*shifts * times, np.array([-0.5])])


def _lines(times: int) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
    """y - line as coefficients (lines, 2) of (x, y) and constants (lines,); which lines make which convex set."""
    scale = 3**times
    bottoms = [1]
    for k in range(1, times):
        bottoms += [2 * 3**k + m for m in bottoms]
    top = [(0, 1, -1.0)]
    rising = {m: (-scale / 2, 1, (m + 1) / 2 - 0.5) for m in bottoms}
    falling = {m: (scale / 2, 1, -m / 2 - 0.5) for m in bottoms}
    groups = [[falling[1]], [(0, 1, -0.5)], [rising[bottoms[-1]]]]
    groups += [[rising[m], *top, falling[after]] for m, after in pairwise(bottoms)]
    lines = np.array([line for group in groups for line in group])
    numbers = iter(range(len(lines)))
    return lines[:, :2], lines[:, 2], [[next(numbers) for _ in group] for group in groups]


def _tournament(sets: list[list[int]]):
    """Rounds: -1 for maxima or 1 for minima, and the pairs and single values that meet, by number."""
    while max(len(group) for group in sets) > 1:
        yield -1, [pair for group in sets for pair in _twos(group)]
        numbers = iter(range(sum(len(_twos(group)) for group in sets)))
        sets = [[next(numbers) for _ in _twos(group)] for group in sets]
    values = list(range(len(sets)))
    while len(values) > 1:
        yield 1, _twos(values)
        values = list(range(len(_twos(values))))


def _twos(values: list[int]) -> list[list[int]]:
    return [values[i : i + 2] for i in range(0, len(values), 2)]


def _pairs(groups: list[list[int]], values: int, sign: int, form: Form) -> tuple[np.ndarray, np.ndarray]:
    """A layer (neurons, values), and what makes the groups' minima (maxima for sign -1) of it (groups, neurons)."""
    b_a, two = np.array([-1.0, 1.0]), form == "three"
    rows = np.array([[0, 1], [0, -1], sign * b_a]) if two else np.array([[1.0, 1], [-1, -1], -b_a, b_a])
    weigh = np.array([1.0, -1, -sign]) if two else np.array([1.0, -1, -sign, -sign]) / 2
    single, pass_on = np.array([[1.0], [-1.0]]), np.array([1.0, -1.0])
    neurons = sum(len(rows) if len(group) == 2 else 2 for group in groups)
    layer, back, at = np.zeros((neurons, values)), np.zeros((len(groups), neurons)), 0
    for k, group in enumerate(groups):
        block, combine = (rows, weigh) if len(group) == 2 else (single, pass_on)
        layer[at : at + len(block), group] = block
        back[k, at : at + len(block)] = combine
        at += len(block)
    return layer, back
