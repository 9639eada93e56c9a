"""Arc-cosine kernel of order 1: what one infinitely wide ReLU layer does to the angle of two inputs.

For Gaussian weights and no bias, inputs at angle theta (cosine rho) leave a ReLU layer with cosine
    kappa1(rho) = [sin(theta) + (pi - theta) cos(theta)] / pi,
so one layer maps angles by f(theta) = arccos kappa1(cos theta) = theta - theta^2/(3 pi) + ...
Cho & Saul, "Kernel Methods for Deep Learning", NeurIPS 2009, equation (6).

Both are written with g(t) = sin(t) - t cos(t), which keeps full relative precision at either end:
    kappa1 = g(pi - theta)/pi,    1 - kappa1 = 2 sin^2(theta/2) - g(theta)/pi.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

# g(t) = sum_k (-1)^(k+1) 2k/(2k+1)! t^(2k+1); eight terms reach float64 precision for |t| < 1.
_SERIES = [(-1) ** (k + 1) * 2 * k / math.factorial(2 * k + 1) for k in range(1, 9)]


def kappa1(rho: ArrayLike) -> np.ndarray:
    """Cosine after one wide ReLU layer, given the cosine `rho` before it; any shape, clipped to [-1, 1]."""
    reflected = np.arccos(-np.clip(np.asarray(rho, dtype=np.float64), -1.0, 1.0))  # pi - theta
    return sin_minus_t_cos(reflected) / np.pi


def angle_map(theta: ArrayLike) -> np.ndarray:
    """Angle after one wide ReLU layer, given the angle `theta` in [0, pi] before it; radians, any shape."""
    theta = np.asarray(theta, dtype=np.float64)
    one_minus_kappa = 2 * np.sin(theta / 2) ** 2 - sin_minus_t_cos(theta) / np.pi
    return 2 * np.arcsin(np.sqrt(one_minus_kappa / 2))


def sin_minus_t_cos(t: np.ndarray) -> np.ndarray:
    small = np.where(np.abs(t) < 1, t, 0.0)
    series = small**3 * np.polynomial.polynomial.polyval(small**2, _SERIES)
    return np.where(np.abs(t) < 1, series, np.sin(t) - t * np.cos(t))
