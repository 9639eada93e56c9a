"""Angles in a fully connected network, sampled without its weights.

Given inputs x, y at angle theta, the N pairs of pre-activations (w_i . x, w_i . y) of a layer with
Gaussian weights are N independent draws of
    z = |x| g,    z' = |y| (cos(theta) g + sin(theta) g'),    g, g' independent standard normals,
so a layer costs 2N normals instead of N x fan-in, with exactly the same law. Norms do not matter, since
the network is positively homogeneous in each input: what follows depends on theta alone.

Angles come from the difference of the two vectors, in float64: one of 1e-6 keeps ten digits, and nothing
is clamped. The normals are float32, as everywhere; they are made on the CPU, and so little is left to do
with them that it is done there, in plain loops that add in one order on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sweeps.compiled import compiled
from sweeps.networks.layers import Activation

Normals = Callable[..., np.ndarray]
"""`normals(tensor, *shape)` -> standard normals, float32 (networks, *shape)."""


def angles_by_layer(
    theta: np.ndarray, normals: Normals, *, width: int, depth: int, activation: Activation
) -> tuple[np.ndarray, np.ndarray]:
    """(cosines, angles) after every layer, float64 (networks, depth), of pairs at angle `theta` (networks,).

    Layer l draws tensor l, (2, width). NaN from the layer on where one of the two vectors is zero.
    """
    cosines, thetas = np.empty((2, depth, len(theta)))
    for layer in range(depth):
        _advance(theta, normals(layer, 2, width), activation == "relu", cosines[layer], thetas[layer])
        theta = thetas[layer]
    return cosines.T, thetas.T


@compiled
def _advance(theta, g, relu, cosines, thetas):
    """One layer of every network: `theta` (networks,) and normals `g` (networks, 2, width) to the results."""
    width = g.shape[2]
    x, y = np.empty(width), np.empty(width)
    for i in range(len(theta)):
        c, s = math.cos(theta[i]), math.sin(theta[i])
        xx = yy = 0.0
        for j in range(width):
            x[j] = g[i, 0, j]
            y[j] = c * x[j] + s * g[i, 1, j]
            if relu:
                x[j], y[j] = max(x[j], 0.0), max(y[j], 0.0)
            xx += x[j] * x[j]
            yy += y[j] * y[j]
        if not (xx > 0 and yy > 0):  # dead, now or, theta being NaN, before
            cosines[i] = thetas[i] = np.nan
            continue
        a, b = 1 / math.sqrt(xx), 1 / math.sqrt(yy)
        difference = total = 0.0
        for j in range(width):
            difference += (a * x[j] - b * y[j]) ** 2
            total += (a * x[j] + b * y[j]) ** 2
        cosines[i] = (total - difference) / (total + difference)
        thetas[i] = 2 * math.atan2(math.sqrt(difference), math.sqrt(total))
