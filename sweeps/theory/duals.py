"""Dual activations: E[phi(u) phi(v)] of Gaussian pre-activations u, v, and the angle that it leaves.

u and v have variances a, b and covariance c = sqrt(a b) cos(theta). In infinitely wide layers phi(u) and phi(v) are
vectors with inner product E[phi(u) phi(v)], lengths |phi(u)| = sqrt(E phi(u)^2), and an angle theta' between them.

Homogeneous activations, kappa = cos(theta'), g(t) = sin t - t cos t:
- slope s below zero (linear 1, leaky-relu, relu 0, abs -1): kappa = cos(theta) + w g(theta), w = (1-s)^2/(pi (1+s^2));
- sign: 1 - 2 theta/pi;  step: 1 - theta/pi;
- relu2: [3 sin(theta) cos(theta) + (pi - theta)(1 + 2 cos^2(theta))]/(3 pi).
Cho and Saul, NeurIPS 2009 (orders 0, 1, 2); Tsuchida, Roosta-Khorasani, Gallagher, ICML 2018 (leaky).

- erf: (2/pi) arcsin(c/sqrt((a + 1/2)(b + 1/2))). Williams, NIPS 1996.
- tanh: tanh(x) = E erf(x/(sqrt(2) K)), K the supremum of a Brownian bridge, since a logistic variable is 2 K times a
  normal one (Andrews and Mallows, JRSS B 1974). So the dual is (2/pi) E arcsin(c/sqrt((a + K^2)(b + K'^2))), with K, K'
  independent: smooth at every variance, and summed over an even grid in ln K, which converges exponentially.
- gelu, x Phi(x): c (pi - psi)/(2 pi) + [a b - c^2 + c^2 (1/(1+a) + 1/(1+b))]/(2 pi sqrt(D)), D = (1+a)(1+b) - c^2,
  cos(psi) = c/sqrt((1+a)(1+b)). Tsuchida, Pearce, van der Heide, Roosta, Gallagher, AAAI 2021 (arXiv 2002.08517);
  derived anew by Stein's lemma.

Nearly parallel inputs. Homogeneous: 1 - kappa and 1 + kappa without cancellation, theta' to rounding at every theta.
Others: 1 - cos(theta') = R + T/(|phi(u)| |phi(v)|). T is what the dual loses between angle 0 and theta, in closed form
(for tanh in sums) as a difference that does not cancel. R is the same between x = sqrt(a) z and y = sqrt(b) z of one
normal z: half the mean of (phi(x)/|phi(x)| - phi(y)/|phi(y)|)^2, by quadrature, zero where a = b.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erf, ndtr

from sweeps.networks.architecture import DEGREES
from sweeps.theory.arccos import sin_minus_t_cos

_FAR = 92.0  # of log variances: beyond, erf, tanh and gelu are homogeneous to rounding
_CHUNK = 2048  # elements whose sums over the grid of (K, K') are in memory at once


def below_zero(activation: str, slope: float) -> float | None:
    """Slope below zero of an activation that is max(z, 0) above; None for the others."""
    return {"linear": 1.0, "relu": 0.0, "abs": -1.0, "leaky-relu": slope}.get(activation)


def inner_product(activation: str, a: ArrayLike, b: ArrayLike, c: ArrayLike, slope: float = 0.01) -> np.ndarray:
    """E[phi(u) phi(v)] for variances `a`, `b` and covariance `c`, any shapes that broadcast.

    Exact to rounding of |phi(u)| |phi(v)|, tanh too. Of nearly parallel inputs the angle is lost in c: use `angle`.
    """
    a, b, c = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (a, b, c)))
    theta = np.arctan2(np.sqrt(np.maximum((np.sqrt(a * b) - c) * (np.sqrt(a * b) + c), 0)), c)
    if activation in DEGREES:
        scale = np.where((a > 0) & (b > 0), np.sqrt(a * b) ** DEGREES[activation], 0.0)
        below, above = _gaps(activation, theta, slope)
        return scale * _unit_square(activation, slope) * (above - below) / 2
    return _smooth(activation, a, b, theta)


def log_square(activation: str, log_variance: ArrayLike, slope: float = 0.01) -> np.ndarray:
    """ln E[phi(u)^2] of ln a; -inf at a = 0. Exact to rounding; nothing overflows."""
    log_variance = np.asarray(log_variance, dtype=np.float64)
    if activation in DEGREES:
        with np.errstate(invalid="ignore"):
            square = np.log(_unit_square(activation, slope)) + DEGREES[activation] * log_variance
        return np.where(np.isneginf(log_variance), -np.inf, square)
    inside = np.clip(log_variance, -_FAR, _FAR)
    a = np.exp(inside)
    outside = log_variance - inside
    outside = outside if activation == "gelu" else np.minimum(outside, 0)
    return np.log(_smooth(activation, a, a, np.zeros_like(a))) + outside


def angle(activation: str, log_a: ArrayLike, log_b: ArrayLike, theta: ArrayLike, slope: float = 0.01) -> np.ndarray:
    """Angle of phi(u) and phi(v), radians, for pre-activations at angle `theta` with variances of logarithms given.

    Homogeneous activations: to rounding, relative to theta', near pi too. Others: to a relative 1e-14, with gelu times
    sqrt(a), where a = b; else to an absolute 1e-16 besides. Angles of gelu near pi, with variances near 0: to 1e-8.
    Where a variance is zero there is no angle, and what is returned means nothing.
    """
    log_a, log_b, theta = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (log_a, log_b, theta)))
    if activation in DEGREES:
        below, above = _gaps(activation, theta, slope)
        return 2 * np.arctan2(np.sqrt(np.maximum(below, 0)), np.sqrt(np.maximum(above, 0)))
    a, b = (np.exp(np.clip(x, -_FAR, _FAR)) for x in (log_a, log_b))
    odd = activation != "gelu"
    folded = np.where(odd & (theta > np.pi / 2), np.pi - theta, theta)
    norms = [np.sqrt(_smooth(activation, x, x, np.zeros_like(x))) for x in (a, b)]
    lost = _lost(activation, a, b, folded) / (norms[0] * norms[1])
    radial = np.where(a == b, 0, 1 - _smooth(activation, a, b, np.zeros_like(a)) / (norms[0] * norms[1]))
    near = (a != b) & (lost + radial < 1e-3)  # elsewhere the difference has 13 digits
    radial[near] = _radial(activation, *(x[near][:, None] for x in (a, b, *norms)))
    out = 2 * np.arcsin(np.sqrt(np.clip((lost + radial) / 2, 0, 1)))
    return np.where(folded == theta, out, np.pi - out)


# --- homogeneous ------------------------------------------------------------------------------------------


def _unit_square(activation: str, slope: float) -> float:
    """E[phi(z)^2] of a standard normal."""
    below = below_zero(activation, slope)
    return (1 + below**2) / 2 if below is not None else {"sign": 1.0, "step": 0.5, "relu2": 1.5}[activation]


def _gaps(activation: str, theta: np.ndarray, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """1 - kappa and 1 + kappa, each without cancellation."""
    below = below_zero(activation, slope)
    if below is not None:
        theta = np.minimum(theta, np.pi - theta) if activation == "abs" else theta
        bent = (1 - below) ** 2 / (np.pi * (1 + below**2)) * sin_minus_t_cos(theta)
        return 2 * np.sin(theta / 2) ** 2 - bent, 2 * np.cos(theta / 2) ** 2 + bent
    if activation == "sign":
        return 2 * theta / np.pi, 2 * (np.pi - theta) / np.pi
    if activation == "step":
        return theta / np.pi, (2 * np.pi - theta) / np.pi
    lost = 2 / 3 * np.sin(theta) ** 2 + _relu2_bend(theta) / (-3 * np.pi)
    return lost, 2 - lost


# h(t) = sum_k (-1)^k (k - 1)/(2k + 1)! (2 t)^(2k + 1), from k = 2
_BEND = np.cumprod([1.0, *(-1 / ((2 * k) * (2 * k + 1)) for k in range(1, 16))]) * (np.arange(16) - 1.0)


def _relu2_bend(theta: np.ndarray) -> np.ndarray:
    """-h."""
    small = 2 * np.where(theta < 1, theta, 0.0)
    series = small * np.polynomial.polynomial.polyval(small**2, np.where(np.arange(16) < 2, 0, _BEND))
    c, s = np.cos(theta), np.sin(theta)
    return np.where(theta < 1, -series, 3 * s * c - theta * (1 + 2 * c * c))


# --- erf, tanh, gelu --------------------------------------------------------------------------------------


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """K^2 and its weights, that sum to one."""
    step = 0.12
    k = np.exp(np.arange(np.log(0.175), np.log(4.6), step))[:, None]
    odd = 2 * np.arange(1, 8) - 1.0
    q = (odd * np.pi) ** 2 / (4 * k * k)
    small = np.sqrt(2 * np.pi) / k**2 * ((q - 1) * np.exp(-q / 2)).sum(-1, keepdims=True)
    n = np.arange(1, 12.0)
    large = 8 * k * (-((-1) ** n) * n * n * np.exp(-2 * (n * k) ** 2)).sum(-1, keepdims=True)
    density = np.where(k < 1, small, large)
    return k[:, 0] ** 2, (density * k)[:, 0] * step


MIXTURES = {"erf": (np.array([0.5]), np.array([1.0])), "tanh": _grid()}
"""k and weights w, with phi(x) = sum_k w erf(x/sqrt(2 k)): the mean sign of x + sqrt(k) z, z a standard normal."""


def _smooth(activation: str, a: np.ndarray, b: np.ndarray, theta: np.ndarray) -> np.ndarray:
    if activation == "gelu":
        c = np.sqrt(a * b) * np.cos(theta)
        root, psi, _ = _psi(a, b, theta, 1.0, 1.0)
        rest = a * b * np.sin(theta) ** 2 + c * c * (1 / (1 + a) + 1 / (1 + b))
        return c * (np.pi - psi) / (2 * np.pi) + rest / (2 * np.pi * root)

    def sine(a: np.ndarray, b: np.ndarray, theta: np.ndarray, k: np.ndarray, m: np.ndarray) -> np.ndarray:
        root, _, c = _psi(a, b, theta, k, m)
        return np.arctan2(c, root)

    return 2 / np.pi * _mixed(sine, activation, a, b, theta)


def _lost(activation: str, a: np.ndarray, b: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """The dual at angle 0 less that at `theta`."""
    if activation != "gelu":
        return 2 / np.pi * _mixed(_turn, activation, a, b, theta)
    ab, e = a * b, 1 / (1 + a) + 1 / (1 + b)
    root, psi, _ = _psi(a, b, theta, 1.0, 1.0)
    root0 = np.sqrt(1 + a + b)
    bend = ab * np.sin(theta) ** 2 / root * (ab * e / (root0 * (root0 + root)) - (1 - e))
    straight = 2 * np.sqrt(ab) * np.sin(theta / 2) ** 2 * (np.pi - psi)
    return (straight + np.sqrt(ab) * _turn(a, b, theta, 1.0, 1.0) + bend) / (2 * np.pi)


def _psi(a: np.ndarray, b: np.ndarray, theta: np.ndarray, k: Any, m: Any) -> tuple[np.ndarray, ...]:
    """sqrt((a + k)(b + m) - c^2), the angle psi whose tangent is that over c, and c."""
    ab = a * b
    root, c = np.sqrt(k * b + m * a + np.multiply(k, m) + ab * np.sin(theta) ** 2), np.sqrt(ab) * np.cos(theta)
    return root, np.arctan2(root, c), c


def _turn(a: np.ndarray, b: np.ndarray, theta: np.ndarray, k: Any, m: Any) -> np.ndarray:
    """psi(theta) - psi(0), from cos psi(0) - cos psi(theta)."""
    norm = np.sqrt((a + k) * (b + m))
    middle = (_psi(a, b, theta, k, m)[1] + _psi(a, b, np.zeros_like(theta), k, m)[1]) / 2
    return 2 * np.arcsin(np.minimum(np.sqrt(a * b) * np.sin(theta / 2) ** 2 / (norm * np.sin(middle)), 1))


def _mixed(function: Callable[..., Any], activation: str, *at: np.ndarray) -> np.ndarray:
    """Mean of function(a, b, theta, k, m) over the mixture, at = (a, b, theta)."""
    k, w = MIXTURES[activation]
    flat = [np.ravel(x)[:, None, None] for x in at]
    out = np.empty(len(flat[0]))
    for start in range(0, len(out), _CHUNK):
        some = slice(start, start + _CHUNK)
        out[some] = function(*(x[some] for x in flat), k[:, None], k) @ w @ w
    return out.reshape(np.shape(at[0]))


def _radial(activation: str, a: np.ndarray, b: np.ndarray, norm_a: np.ndarray, norm_b: np.ndarray) -> np.ndarray:
    """R (n,), by the trapezoid rule in ln |z|, of columns (n, 1)."""
    start = np.minimum(0, -np.log(np.maximum(a, b)) / 2) - 12  # the integrand falls like z^3 below 1/sqrt(a)
    step = (np.log(9.0) - start) / 400
    z = np.exp(start + step * np.arange(401))
    weights = step * z * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    gaps = [phi(activation, np.sqrt(a) * x) / norm_a - phi(activation, np.sqrt(b) * x) / norm_b for x in (z, -z)]
    return (weights * (gaps[0] ** 2 + gaps[1] ** 2)).sum(-1) / 2


def phi(activation: str, z: np.ndarray) -> np.ndarray:
    """The activation itself, of those that are not homogeneous."""
    return z * ndtr(z) if activation == "gelu" else {"erf": erf, "tanh": np.tanh}[activation](z)
