"""What is exact at every width about the folding of random ReLU networks.

Layers have any widths N_1, ..., N_L. Weights are Gaussian, or orthogonal: uniformly distributed matrices with
orthonormal rows, or orthonormal columns where a layer is wider than its inputs, times a constant.

First layer, with Gaussian biases. A bit differs at x and y with probability angle/pi, where the angle is that of
(sigma_w x/sqrt(n), sigma_b) and (sigma_w y/sqrt(n), sigma_b); n inputs, sigma_w^2/n the variance of a weight. Neurons
are independent, so the bits that differ are Binomial(N, angle/pi), and so it is at every layer given the activations
before it. Orthogonal weights without biases: the same mean, as a row's direction is uniform; not the same law.

Spherical length, without biases. Networks see directions only, and a segment whose ends are at angle theta_0 is an arc
of that length. If k neurons are active, the speed of the arc after a Gaussian ReLU layer is a quotient of independent
chi variables with k - 1 and k degrees of freedom, of mean 1 for k >= 2; a single active neuron has one direction, and
with none the layer is dead. So, with s_l = 2^(-N_l),
    length_l = length_(l-1) [1 - (N_l + 1) s_l],
    deaths_l = 2 s_l N_l length_(l-1)/pi + deaths_(l-1) (1 - s_l),
where deaths counts passages between dead and alive, at each of which half of the next layer's bits flip, all together:
    E breakpoints_l = N_l length_(l-1)/pi,    E r2_l = E breakpoints_l + deaths_(l-1) N_l/2.
With the absolute value all neurons pass: the factor is 1 for N_l >= 2 and 0 for one neuron, and nothing dies.
Orthogonal weights give the same means. Two columns of Gaussians are an orthonormal pair times an upper triangular
matrix R independent of it, and the speed is that of the pair times R_22/R_11, of mean 1; so is it for the columns of
an orthogonal matrix. Crossings and deaths need only that signs of rows are free.

Euclidean length, with biases of any symmetric law. Along a curve with velocity h' the next pre-activations have
velocities z' = W h', and a row's sign of z is a fair coin given |z'|, since (w, b) and (-w, -b) are equally likely. So
the speed is |h'| sigma_w/sqrt(n) times a root of Q = chi^2_k + s^2 chi^2_(N-k), k ~ Binomial(N, 1/2), for slope s below
zero, and the mean lengths multiply:
    E length_l = length_0 prod_l sigma_w/sqrt(N_(l-1)) E sqrt(Q_l).
Orthogonal weights sigma_w O: E sqrt(Q)/E chi_max(N, n) in place of E sqrt(Q)/sqrt(n), as a Gaussian vector is a uniform
direction times an independent length. From the Laplace transform of a term of Q,
    p(x) = [(1 + 2 x)^(-1/2) + (1 + 2 s^2 x)^(-1/2)]/2,
    E sqrt(Q) = 1/(2 sqrt(pi)) int_0^inf (1 - p(x)^N) x^(-3/2) dx.

Crofton's formula layer by layer: Hanin and Rolnick, "Complexity of Linear Regions in Deep Networks", ICML 2019
(arXiv 1901.09021). Euclidean length: Hanin, Jeong, Rolnick, "Deep ReLU Networks Preserve Expected Length", ICLR 2022
(arXiv 2102.10492), who bound it. The factors at finite width were derived here, and simulation tests them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln
from scipy.stats import binom


def lifted(a, b, theta, bias: float):
    """Lengths and angle of (u, bias) and (v, bias), for vectors of lengths `a`, `b` at angle `theta`; any shapes."""
    apart = np.hypot(a - b, 2 * np.sqrt(a * b) * np.sin(theta / 2))
    across = np.hypot(a * b * np.sin(theta), bias * apart)
    return np.hypot(a, bias), np.hypot(b, bias), np.arctan2(across, a * b * np.cos(theta) + bias**2)


def biased_angle(
    angle: float, weight_variance: float, bias_variance: float, norms: tuple[float, float] = (1.0, 1.0)
) -> float:
    """Angle of (sigma_w x, sigma_b) and (sigma_w y, sigma_b), for x and y of lengths `norms` at `angle`."""
    a, b = np.sqrt(weight_variance) * np.asarray(norms)
    return float(lifted(a, b, angle, math.sqrt(bias_variance))[2])


def hamming(width: int, angle: float) -> np.ndarray:
    """Exact probabilities (width + 1,) of how many bits of a Gaussian layer differ, given the angle before it.

    `angle` is between the inputs of the layer, each with its bias's standard deviation as one more entry.
    """
    return binom.pmf(np.arange(width + 1), width, angle / np.pi)


def mean_folds(widths: Sequence[int], angle: float, slope: float = 0.0) -> dict[str, np.ndarray]:
    """Exact means (depth,) by layer, without biases: breakpoints, r2, and arc, the spherical length after the layer.

    `slope` below zero: 0 (ReLU) or -1 (absolute value).

    Raises:
        ValueError: another slope.
    """
    if slope not in (0, -1):
        raise ValueError(f"exact means are known for slopes 0 and -1, got {slope}")
    length, deaths, rows = angle, 0.0, []
    for width in widths:
        rate, dead = width * length / np.pi, 0.5**width if slope == 0 else 0.0
        together = deaths * width / 2
        deaths = 2 * dead * rate + deaths * (1 - dead)
        length *= (1 - (width + 1) * dead) if slope == 0 else float(width > 1)
        rows.append((rate, rate + together, length))
    return dict(zip(("breakpoints", "r2", "arc"), np.array(rows).T, strict=True))


def mean_breakpoints(widths: Sequence[int], angle: float, slope: float = 0.0) -> dict[str, float]:
    """Exact means of breakpoints and r2 of the whole network; see `mean_folds`."""
    means = mean_folds(widths, angle, slope)
    return {name: float(means[name].sum()) for name in ("breakpoints", "r2")}


def mean_lengths(
    widths: Sequence[int],
    inputs: int,
    length: float,
    weight_variance: float = 2.0,
    slope: float = 0.0,
    orthogonal: bool = False,
) -> np.ndarray:
    """Exact mean Euclidean lengths (depth,) of the hidden curves of a curve of `length`; biases change nothing.

    `weight_variance` is sigma_w^2: the weights' variance times fan-in, or the square of an orthogonal matrix's factor.
    """
    lengths = []
    for fan_in, width in zip([inputs, *widths[:-1]], widths, strict=True):
        scale = _mean_chi(max(fan_in, width)) if orthogonal else math.sqrt(fan_in)
        length *= math.sqrt(weight_variance) * mean_norm(width, slope) / scale
        lengths.append(length)
    return np.array(lengths)


def mean_norm(width: int, slope: float = 0.0) -> float:
    """E sqrt(chi^2_k + slope^2 chi^2_(width - k)), k ~ Binomial(width, 1/2): to 1e-14 for every width.

    The trapezoid rule in ln x; the integrand is analytic and bounded for |Im ln x| < pi/2.
    """
    log_x = np.arange(-80, 80, 0.25) - math.log(width)
    x = np.exp(log_x)
    lost = np.expm1(-np.log1p(2 * x) / 2) + np.expm1(-np.log1p(2 * slope**2 * x) / 2)
    log_p = np.log1p(np.maximum(lost / 2, np.nextafter(-1, 0)))
    integrand = -np.expm1(width * log_p) * np.exp(-log_x / 2)
    return float(integrand.sum() * 0.25 / (2 * math.sqrt(math.pi)))


def _mean_chi(n: int) -> float:
    return math.sqrt(2) * math.exp(gammaln((n + 1) / 2) - gammaln(n / 2))
