"""What the layers of a random network do, and what its activations say of the angles of several inputs.

A layer takes activations h of the one before (at first the input) to

    h'_i(p) = phi( sqrt(weight_variance / fan_in) <w_i, h at p> + sqrt(bias_variance) b_i ),    i = 1..width,

where p is a pixel, h at p the side x side patch around it with all its channels, w_i has `fan_in` entries of mean 0 and
variance 1 with the law `law`, and b_i is N(0, 1). A fully connected layer is the same on an image of one pixel with
side 1. 2 x 2 pooling of stride 2 follows each of the first `pool_layers` layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

Activation = Literal["linear", "relu", "leaky-relu", "abs", "sign", "step", "erf", "relu2", "tanh", "gelu"]
Law = Literal["gaussian", "uniform", "rademacher", "student", "orthogonal", "sparse"]
Padding = Literal["circular", "zero"]
Pool = Literal["average", "max"]

DEGREES: dict[str, int] = {"linear": 1, "relu": 1, "leaky-relu": 1, "abs": 1, "sign": 0, "step": 0, "relu2": 2}
"""phi(s z) = s^degree phi(z) for s > 0; the other activations are not homogeneous."""


@dataclass(frozen=True)
class Architecture:
    """The layers of a network. `slope` is that of "leaky-relu" below zero, `density` the share of weights of "sparse"
    that are not zero (the others are scaled up), `freedom` the degrees of freedom of "student", above 2."""

    width: int
    depth: int
    activation: Activation = "relu"
    slope: float = 0.01
    weight_variance: float = 2.0
    bias_variance: float = 0.0
    law: Law = "gaussian"
    density: float = 0.1
    freedom: float = 5.0
    side: int = 1
    padding: Padding = "circular"
    pool: Pool = "average"
    pool_layers: int = 0

    @property
    def homogeneous(self) -> bool:
        """Whether scaling an input scales every layer, and changes no angle."""
        return self.bias_variance == 0 and self.activation in DEGREES

    def shapes(self, image: tuple[int, int, int]) -> list[tuple[int, int, int]]:
        """(channels, rows, cols) of what each layer is given, `image` first, and last of what the last layer gives."""
        found = [image]
        for layer in range(self.depth):
            _, rows, cols = found[-1]
            found.append((self.width, rows // 2, cols // 2) if layer < self.pool_layers else (self.width, rows, cols))
        return found


def lane_within(room: int, each: int, most: int) -> int:
    """Networks of `each` bytes that a launch has room for: a power of two, from 1 to `most`."""
    return min(2 ** (max(1, room // each).bit_length() - 1), most)


def gpu_lane(each: int) -> int:
    """The same on a GPU, which needs far more at once to be busy: up to 256 in 4 GiB, whatever memory it has."""
    return lane_within(2**32, each, 256)


class Geometry(NamedTuple):
    """Lengths and angles of k inputs after every layer, float64.

    Pairs are those of `np.triu_indices(k, 1)`: (0, 1), (0, 2), ... NaN where an input's activations are all zero.
    """

    log_square: np.ndarray
    """Natural logarithm of the mean square of an input's activations over neurons and pixels, (..., depth, k)."""
    cosine: np.ndarray
    """(..., depth, pairs)"""
    angle: np.ndarray
    """(..., depth, pairs), radians, to full relative precision where nearly parallel or opposed inputs allow it."""
