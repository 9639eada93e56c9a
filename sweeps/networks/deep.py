"""Which inputs deep ReLU networks without biases tell apart, decided in 2, 3 and 4 dimensions.

z_0 = x in R^n, z_i = ReLU(A_i z_{i-1}). In the plane the circle is swept (sweeps.networks.circle), in 3 and 4
dimensions all linear pieces are listed (sweeps.networks.pieces).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sweeps.networks import circle, pieces


class Verdict(NamedTuple):
    """What is decided of a run of networks."""

    min_active: np.ndarray
    """k_i*, the least number of active neurons of each layer over all inputs but 0: int64 (networks, layers)"""
    first: np.ndarray
    """the first layer, from 0 on, in which two inputs become one; the number of layers if none: int64 (networks,)"""
    pair: np.ndarray
    """two inputs that become one in layer `first`, or NaN: (networks, 2, n)"""


def decide(weights: Sequence[np.ndarray]) -> Verdict:
    """Decide networks, each by itself; `weights` (networks, m_i, m_{i-1}), one array a layer, m_0 = n of 2, 3 or 4.

    The weights are in general position, as Gaussian ones are almost surely. Time and memory grow with the number of
    linear pieces, about that of the cells of all neurons in one layer.

    Raises:
        ValueError: n is another number, or a layer does not fit the one before.
    """
    widths, flat = _pack(weights)
    if not 2 <= widths[0] <= 4:
        raise ValueError(f"the first layer must have 2, 3 or 4 inputs, got {widths[0]}")
    return Verdict(*(circle if widths[0] == 2 else pieces).decide(flat, widths))


def collision(weights: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Two different inputs of one network with the same output up to rounding, or None if it is injective.

    `weights` (m_i, m_{i-1}), one array a layer. Raises ValueError as `decide` does.
    """
    x, y = decide([np.asarray(A)[None] for A in weights]).pair[0]
    return None if np.isnan(x).any() else (x, y)


def _pack(weights: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Widths (layers + 1,) from the inputs on, and the transposed layers, one network a row, float64."""
    shapes = [np.shape(A) for A in weights]
    if any(len(shape) != 3 for shape in shapes) or any(a[1] != b[2] for a, b in pairwise(shapes)):
        raise ValueError(f"layers must be (networks, neurons, inputs), inputs being the neurons before, got {shapes}")
    flat = [np.swapaxes(A, 1, 2).reshape(len(A), -1) for A in weights]
    widths = np.array([shapes[0][2], *(shape[1] for shape in shapes)])
    return widths, np.concatenate(flat, axis=1, dtype=np.float64)
