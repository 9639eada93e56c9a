"""Expansion ratios at which random duality theory says that the layers of a deep ReLU net stop being injective.

z_0 = x in R^n, z_i = ReLU(A_i z_{i-1}), A_i Gaussian of alpha_i n rows, n -> infinity. A layer is asked to keep at
least K n of its neurons active at everything the layers before it put out: K = 1 makes every linear piece injective
(local injectivity), K = 2 at the last layer makes the net so if the layers before it are (global). At a first layer
K = 1 is injectivity itself. The answer is an upper bound on the ratio needed. Gordon's comparison, as in Stojnic,
"Injectivity capacity of ReLU gates", arXiv 2410.20646, for one layer; the passage from layer to layer was derived
here, and its numbers are not those of "Deep ReLU networks - injectivity capacity upper bounds", arXiv 2412.19677,
which were not compared.

**Plain.** Of the directions Z_i that layer i puts out only the squared width counts, omega_i = lim (max over z in Z_i
of h.z)^2/n with h Gaussian; omega_0 = 1. With u, g, h in R^(alpha n),
    omega_i = W(alpha_i, omega_{i-1}) = max of (h.u_+)^2/(n |u_+|^2) over |u - g|^2 <= omega_{i-1} n.
By Lagrange, with a = gamma + lambda and kappa = 2 (gamma + sqrt(gamma a)), row by row and with h for -h,
    u = (2 gamma g - h)/(2a) where g > 0, h < 2 gamma g and where g < 0, h < kappa g;
    u = 0 where g > 0, h > 2 gamma g;  u = g elsewhere;
    lambda = c/(2R),  D = omega_{i-1},  W = c^2/R,  for D = alpha E(u-g)^2, R = alpha E u_+^2, c = -alpha E[h u_+].
All regions are cones. Where alpha <= 4 omega/3 the ball does not bind, and W = alpha/2. At the last layer
    alpha P(z > tau) = K,  alpha E[z^2; 0 < z < tau] = omega_{l-1}.

**Lifted.** The same comparison for exponentials, with one parameter x and
Lambda_i(t) = lim (1/n) log E exp(t sqrt(n) max over z in Z_i of h.z):
    Lambda_0(t) = t r - r^2/2 + log r + 1/2,  r = (t + sqrt(t^2 + 4))/2,
    Lambda_i(t) = stat over beta, gamma, R, mu of Lambda_{i-1}(beta) - beta^2/2 - beta^2/(4 gamma) + mu R
                  + alpha_i log E exp(max over u of (t/sqrt R) h u_+ - mu u_+^2 - gamma (u-g)^2),
    alpha_l = stat over chi, x, beta of (K - S)/(-F),  S = (chi + x) beta^2/2 - Lambda_{l-1}(x beta)/x,
    F = (1/x) log E exp(x f(z)), f as f_k in sweeps.theory.perceptron.
The limit x -> 0 is the plain value, and is the answer where lifting does not lower it. At one layer S is
-log(1 + x/chi)/(2x): one step of replica symmetry breaking with q_0 = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from scipy.optimize import root
from scipy.special import ndtr

from sweeps.theory.calculus import gradient, zero
from sweeps.theory.perceptron import first_step, truncated_square
from sweeps.theory.solved import kept

Notion = Literal["local", "global"]


def chain_capacities(depth: int, notion: Notion = "local", lifted: bool = False) -> list[float]:
    """Ratios of layers 1 to `depth`, each the last one's of a net whose earlier layers have theirs."""
    found: list[float] = []
    for _ in range(depth):
        found.append(last_layer_capacity(found, notion, lifted))
    return found


def last_layer_capacity(alphas: Sequence[float], notion: Notion = "local", lifted: bool = False) -> float:
    """Ratio m_l/n that the last layer needs behind layers of ratios `alphas`, which may be none.

    ValueError at a ratio that is not positive and finite, or another notion; lifted, also at an earlier layer of
    alpha <= 4 omega/3. Plain: 12 digits. Lifted: 9, in seconds, and kept.
    """
    if notion not in ("local", "global"):
        raise ValueError(f"notion must be local or global, got {notion!r}")
    if any(not 0 < alpha < np.inf for alpha in alphas):
        raise ValueError(f"ratios must be positive and finite, got {list(alphas)}")
    count = 2.0 if notion == "global" and alphas else 1.0
    if not lifted:
        return _plain(squared_widths(alphas)[-1], count)[0]
    if any(3 * alpha <= 4 * omega for alpha, omega in zip(alphas, squared_widths(alphas), strict=False)):
        raise ValueError(f"lifted needs earlier ratios above 4/3 of the squared width before them, got {list(alphas)}")
    return _lifted(count, *map(float, alphas))


def squared_widths(alphas: Sequence[float]) -> list[float]:
    """omega_0 to omega_len(alphas)."""
    found = [1.0]
    for alpha in alphas:
        found.append(squared_width(alpha, found[-1]))
    return found


def squared_width(alpha: float, omega: float) -> float:
    """W(alpha, omega), the squared width behind a layer of ratio `alpha` that gets one of `omega`; 13 digits."""
    if 3 * alpha <= 4 * omega:
        return alpha / 2
    v, p = _slopes(alpha, omega)
    gg, gh, hh = _kept(v, p)
    return alpha * (hh - v * gh) ** 2 / (v * v * gg - 2 * v * gh + hh)


def _slopes(alpha: float, omega: float) -> tuple[float, float]:
    """v = 2 gamma and p = gamma/a, so that u = p (g - h/v) on the cones that are kept."""

    def stationary(v: float) -> float:
        """p with lambda = c/(2R)."""

        def excess(log_p: float) -> float:
            gg, gh, hh = _kept(v, np.exp(log_p))
            return log_p - np.log((v * v * gg - v * gh) / (v * v * gg - 2 * v * gh + hh))

        return np.exp(zero(excess, -200, 0))

    def excess(log_v: float) -> float:
        v = np.exp(log_v)
        p = stationary(v)
        gg, gh, hh = _kept(v, p)
        lost = _cone(np.arctan(v), np.pi / 2)[0]
        q = p / v
        return alpha * ((1 - p) ** 2 * gg + 2 * (1 - p) * q * gh + q * q * hh + lost) - omega

    v = np.exp(zero(excess, -60, 20))
    return v, stationary(v)


def _kept(v: float, p: float) -> np.ndarray:
    """E[g^2], E[g h], E[h^2] where u is neither 0 nor g."""
    return _cone(-np.pi / 2, np.arctan(v)) + _cone(np.pi + np.arctan(v + v / np.sqrt(p)), 1.5 * np.pi)


def _cone(low: float, high: float) -> np.ndarray:
    """E[g^2], E[g h], E[h^2] over the angles from `low` to `high`."""
    turn = (np.sin(2 * high) - np.sin(2 * low)) / 2
    cross = np.sin(high) ** 2 - np.sin(low) ** 2
    return np.array([high - low + turn, cross, high - low - turn]) / (2 * np.pi)


def _plain(omega: float, count: float) -> tuple[float, float]:
    """alpha and tau of the last layer."""
    tau = zero(lambda t: truncated_square(t) * count - omega * ndtr(-t), 1e-9, 30)
    return float(count / ndtr(-tau)), tau


# From here on: lifted. Free are the logarithms of chi, x, beta, and of beta, gamma, R, mu of every earlier layer.

_RISE = (0.02, 0.05, *np.arange(0.1, 1.5, 0.1))  # of x
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(60)


@kept("sweeps.theory.perceptron", "sweeps.theory.calculus")
def _lifted(count: float, *alphas: float) -> float:
    """Follow the stationary points from nearly plain to larger x, as far as the ratio falls."""
    slope = partial(gradient, partial(_ratio, count, alphas))
    free = _stationary(slope, _nearly_plain(count, alphas))
    if slope(free)[1] >= 0:
        return _plain(squared_widths(alphas)[-1], count)[0]
    for x, following in pairwise(_RISE):
        free = _stationary(slope, _scaled(free, following / x))
        if slope(free)[1] >= 0:
            break
    found = root(slope, free, tol=1e-12)
    if np.abs(slope(found.x)).max() > 1e-9:
        raise ArithmeticError(f"no stationary point found behind ratios {alphas}")
    return float(_ratio(count, alphas, found.x))


def _ratio(count: float, alphas: Sequence[float], free: np.ndarray) -> Any:
    """(K - S)/(-F)."""
    chi, x, beta = np.exp(free[:3])
    layers = np.exp(free[3:]).reshape(-1, 4)
    S = (chi + x) * beta**2 / 2 - _growth(x * beta, alphas, layers) / x
    return (S - count) / first_step(0.0, chi, 1.0, x)


def _growth(t: Any, alphas: Sequence[float], layers: np.ndarray) -> Any:
    """Lambda_i(t) at the multipliers of `layers`, (i, 4)."""
    if not len(alphas):
        r = (t + np.sqrt(t * t + 4)) / 2
        return t * r - r * r / 2 + np.log(r) + 0.5
    beta, gamma, R, mu = layers[-1]
    before = _growth(beta, alphas[:-1], layers[:-1])
    return before - beta**2 / 2 - beta**2 / (4 * gamma) + mu * R + alphas[-1] * row_growth(t / np.sqrt(R), gamma, mu)


def row_growth(s: Any, gamma: Any, mu: Any) -> Any:
    """log E exp(max over u of s h u_+ - mu u_+^2 - gamma (u-g)^2), g and h standard normal.

    The maximum is |(g, h)|^2 A(angle), so that E is the mean of 1/(1 - 2A) over the angle; A < 1/2 is assumed.
    """
    a = gamma + mu
    turn, back = np.arctan(2 * gamma / s), np.arctan(2 * (gamma + np.sqrt(gamma * a)) / s)

    def linear(angle: Any) -> Any:
        g, h = np.cos(angle), np.sin(angle)
        return (s * h + 2 * gamma * g) ** 2 / (4 * a) - gamma * g * g

    positive = _mean(linear, -turn, np.pi / 2) + _mean(linear, np.pi / 2, np.pi - back)
    lost = _mean(lambda angle: -gamma * np.cos(angle) ** 2, -np.pi / 2, -turn)
    return np.log((positive + lost + np.pi / 2 + back) / (2 * np.pi))


def _mean(A: Any, low: Any, high: Any) -> Any:
    angle = (high + low) / 2 + (high - low) / 2 * _NODES
    return (high - low) / 2 * (_WEIGHTS @ (1 / (1 - 2 * A(angle))))


def _nearly_plain(count: float, alphas: Sequence[float]) -> np.ndarray:
    """Plain multipliers, scaled for the least x."""
    omegas = squared_widths(alphas)
    chi = _plain(omegas[-1], count)[1] ** 2 / 2
    beta, layers = np.sqrt(omegas[-1]) / chi, []
    t = _RISE[0] * beta
    for alpha, omega in reversed(list(zip(alphas, omegas, strict=False))):
        v, p = _slopes(alpha, omega)
        gg, gh, hh = _kept(v, p)
        R = alpha * p * p * (gg - 2 * gh / v + hh / v**2)
        s = t / np.sqrt(R)
        t = np.sqrt(omega) * v * s
        layers = [t, v * s / 2, R, v * (1 - p) / (2 * p) * s, *layers]
    return np.log([chi, _RISE[0], beta, *layers])


def _scaled(free: np.ndarray, by: float) -> np.ndarray:
    """At another x, to first order: of a layer all but R is proportional to it."""
    scaled = free.copy()
    scaled[1] += np.log(by)
    scaled[3:].reshape(-1, 4)[:, [0, 1, 3]] += np.log(by)
    return scaled


def _stationary(slope: Any, free: np.ndarray) -> np.ndarray:
    """In all but x."""
    others = np.arange(len(free)) != 1
    found = free.copy()

    def of_others(values: np.ndarray) -> np.ndarray:
        found[others] = values
        return slope(found)[others]

    found[others] = root(of_others, free[others], tol=1e-11).x
    return found
