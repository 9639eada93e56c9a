"""Random networks before training: weights by one of three laws, normal biases, as packed rows of a `Layered`.

- he: independent N(0, 2/fan-in). He, Zhang, Ren, Sun, ICCV 2015.
- xavier: independent N(0, 2/(fan-in + fan-out)), the fan-out of a convolution being filters side^2. Glorot, Bengio,
  AISTATS 2010.
- orthogonal: rows or columns of a Haar orthogonal matrix, whichever are fewer, entries of mean square 2/fan-in: an
  isometry times sqrt(2) where a layer is square. Saxe, McClelland, Ganguli, ICLR 2014.

Weights are multiplied by `scale` besides; biases are N(0, bias_variance). A batch normalisation starts at scale 1 and
shift 0. Of the layers with weights, number l draws the tensors 2 l, in the order (fan-in, fan-out), and 2 l + 1.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from sweeps.networks.layered import Affine, Convolution, Layered
from sweeps.statistic import Networks

Initialisation = Literal["he", "xavier", "orthogonal"]


def initial(
    networks: Networks, layered: Layered, how: Initialisation, scale: np.ndarray, bias_variance: np.ndarray
) -> np.ndarray:
    """Packed networks, float64 (networks, layered.size); `scale` and `bias_variance` are (networks,)."""
    packed = np.empty((len(networks), layered.size))
    drawn, bias_scale = 0, np.sqrt(bias_variance)[:, None]
    for layer, blocks in zip(layered.layers, layered.unpack(packed), strict=True):
        if not blocks:
            continue
        first, second = blocks
        if isinstance(layer, Affine):
            first[:], second[:] = 1.0, 0.0
            continue
        np.multiply(_weights(networks, 2 * drawn, first.shape[1:], layer, how), scale[:, None, None], out=first)
        second[:] = bias_scale * networks.normals(2 * drawn + 1, second.shape[1]) if bias_variance.any() else 0.0
        drawn += 1
    return packed


def _weights(networks: Networks, tensor: int, shape: tuple[int, ...], layer, how: Initialisation) -> np.ndarray:
    """Float64 (networks, fan-in, fan-out)."""
    fan_in, outputs = shape
    fan_out = outputs * layer.side**2 if isinstance(layer, Convolution) else outputs
    variance = 2 / (fan_in + fan_out) if how == "xavier" else 2 / fan_in
    normals = networks.normals(tensor, fan_in, outputs)
    if how == "orthogonal":
        from sweeps.networks.weights import orthogonal  # torch, which takes seconds to import

        normals = orthogonal(normals)
    return np.multiply(normals, math.sqrt(variance), dtype=np.float64)
