"""Moments E[phi(u)^i phi(v)^j] of activations of two Gaussian pre-activations, for the laws at finite width.

u and v have variances a, b and angle theta, cov(u, v) = sqrt(a b) cos(theta).
- Homogeneous activations: from J_ij = E[relu(G)^i relu(G')^j] of standard normals at angle theta. In polar coordinates
  J_ij = 2^(n/2) Gamma(n/2 + 1)/(2 pi) integral of cos^i(t) cos^j(t - theta) over pi - theta, n = i + j: a trigonometric
  polynomial, which Gauss's rule integrates to rounding. J_11 and J_22 are the arc-cosine kernels of Cho and Saul 2009.
- erf, tanh, gelu: the trapezoid rule in two dimensions, which converges exponentially, at a time that grows like
  max(a, b): 0.01 s at 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from sweeps.networks.architecture import DEGREES
from sweeps.theory.duals import below_zero, phi

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def relu_moment(i: int, j: int, theta: ArrayLike) -> np.ndarray:
    """J_ij at angle `theta` in [0, pi], relative to rounding; for i or j = 0 on u, v > 0 alone."""
    half = (np.pi - np.asarray(theta, dtype=np.float64)[..., None]) / 2
    t = half * _NODES  # from the middle of the arc where both are positive
    shift = np.pi / 2 - half
    arc = (np.cos(t - shift) ** i * np.cos(t + shift) ** j) @ _WEIGHTS * half[..., 0]
    return 2 ** ((i + j) / 2) * math.gamma((i + j) / 2 + 1) / (2 * np.pi) * arc


def moment(
    activation: str, i: int, j: int, theta: ArrayLike, a: float = 1.0, b: float = 1.0, slope: float = 0.01
) -> np.ndarray:
    """E[phi(u)^i phi(v)^j] for i, j not both 0, at any shape of `theta`."""
    theta = np.asarray(theta, dtype=np.float64)
    if activation not in DEGREES:
        return np.vectorize(lambda t: _smooth(activation, i, j, t, a, b), otypes=[float])(theta)
    scale = a ** (DEGREES[activation] * i / 2) * b ** (DEGREES[activation] * j / 2)
    if i == 0 or j == 0:
        theta = np.zeros_like(theta)
    if activation == "relu2":
        return scale * relu_moment(2 * i, 2 * j, theta)
    if activation == "step":
        return relu_moment(0, 0, theta)
    if activation == "sign":
        both = relu_moment(0, 0, theta)
        return (1 + (-1) ** (i + j)) * both + ((-1) ** i + (-1) ** j) * (0.5 - both)
    below = -float(below_zero(activation, slope) or 0)
    mixed = (below**i + below**j) * relu_moment(i, j, np.pi - theta) if i and j else 0
    return scale * ((1 + below ** (i + j)) * relu_moment(i, j, theta) + mixed)


def _smooth(activation: str, i: int, j: int, theta: float, a: float, b: float) -> float:
    step = min(0.25, 0.25 / math.sqrt(max(a, b)))
    z = np.arange(-9, 9 + step, step)
    weights = step * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    u = phi(activation, math.sqrt(a) * z) ** i * weights
    total = 0.0
    for rows in np.array_split(np.arange(len(z)), 1 + len(z) // 256):
        v = phi(activation, math.sqrt(b) * (math.cos(theta) * z[rows, None] + math.sin(theta) * z))
        total += float(u[rows] @ (v**j @ weights))
    return total
