"""Laws of the weights of a random layer: entries of mean 0 and variance 1, float32 (networks, width, fan-in).

- gaussian: independent N(0, 1).
- uniform: independent, uniform on [-sqrt(3), sqrt(3)].
- rademacher: independent signs.
- student: independent, Student's t with any real `freedom` > 2, times sqrt((freedom - 2)/freedom); from two uniforms by
  sqrt(freedom (U^(-2/freedom) - 1)) cos(2 pi V), Bailey, "Polar generation of random variates with the t-distribution",
  Math. Comp. 1994. U has 32 bits: what lies beyond its quantile at 2^-32 is missing.
- orthogonal: the rows of a Haar orthogonal matrix if width <= fan-in, its columns if not, times sqrt(fan-in) or
  sqrt(width): delta-orthogonal, flattened, for a convolution. From Gaussian matrices by QR with a positive diagonal
  (Mezzadri, "How to generate random matrices from the classical compact groups", Notices AMS 2007).
- sparse: N(0, 1)/sqrt(density) with probability `density`, else 0.

Layer l draws tensor l, in the order (filter, entry), and from SECOND + l what a law needs besides; biases, which are
N(0, 1) with every law, come from BIASES + l. Gaussian weights are made on the device that uses them, the others on
the CPU.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sweeps.compiled import compiled
from sweeps.networks.architecture import Architecture
from sweeps.statistic import Networks

SECOND, BIASES = 2**16, 2**17


def weights(networks: Networks, device: str, layer: int, fan_in: int, architecture: Architecture) -> Tensor:
    """The weights of a layer on `device`, float32 (networks, width, fan-in)."""
    shape = architecture.width, fan_in
    if architecture.law == "gaussian":
        return networks.normals_on(device, layer, *shape)
    return torch.from_numpy(_made(networks, layer, shape, architecture)).to(device)


def biases(networks: Networks, device: str, layer: int, width: int) -> Tensor:
    return networks.normals_on(device, BIASES + layer, width)


def _made(networks: Networks, layer: int, shape: tuple[int, int], architecture: Architecture) -> np.ndarray:
    match architecture.law:
        case "uniform":
            return _uniform(networks.words(layer, *shape))
        case "rademacher":
            return np.float32(1) - np.float32(2) * (networks.words(layer, *shape) >> np.uint32(31)).astype(np.float32)
        case "student":
            return _student(networks.words(layer, *shape), networks.words(SECOND + layer, *shape), architecture.freedom)
        case "orthogonal":
            return orthogonal(networks.normals(layer, *shape))
        case "sparse":
            kept = networks.words(SECOND + layer, *shape) < architecture.density * 2.0**32
            return np.where(
                kept, networks.normals(layer, *shape) * np.float32(architecture.density**-0.5), np.float32(0)
            )
    raise AssertionError(architecture.law)


@compiled
def _uniform(words):
    out = np.empty(words.shape, np.float32)
    flat, given = out.reshape(-1), words.reshape(-1)
    for i in range(len(flat)):
        flat[i] = math.sqrt(3.0) * ((given[i] + 0.5) / 2.0**31 - 1)
    return out


@compiled
def _student(radii, directions, freedom):
    out = np.empty(radii.shape, np.float32)
    flat, u, v = out.reshape(-1), radii.reshape(-1), directions.reshape(-1)
    for i in range(len(flat)):
        radius = math.sqrt((freedom - 2) * math.expm1(-2 / freedom * math.log((u[i] + 0.5) / 2.0**32)))
        flat[i] = radius * math.cos(2 * math.pi * (v[i] + 0.5) / 2.0**32)
    return out


def orthogonal(normals: np.ndarray) -> np.ndarray:
    """Orthogonal matrices (networks, rows, columns) of normal ones, entries of mean square 1.

    One matrix at a time, in memory aligned alike, as LAPACK's last bits may depend on it.
    """
    out = np.empty_like(normals)
    rows, columns = normals.shape[1:]
    for i, matrix in enumerate(normals):
        tall = torch.from_numpy(matrix if rows > columns else matrix.T).to(torch.float64, copy=True)
        q, r = torch.linalg.qr(tall)
        q *= r.diagonal().sign() * math.sqrt(max(rows, columns))
        out[i] = q if rows > columns else q.T
    return out
