"""What one random layer of finite width does to lengths and angles, and what that makes of an angle over depth.

Weights are Gaussian but where said otherwise; N = width or number of filters. A layer's N neurons are independent, so
for k inputs the inner products are means of N independent products phi(u) phi(v).

Exact at every N:
- mean and variance of an inner product, from E[phi(u) phi(v)] and E[phi(u)^2 phi(v)^2]: fully connected layers;
- the same of a CNN layer, mean: any activation; variance: linear, (|M|_F^2 + tr M^2)/N, where M is the mean over pixels
  of x_p y_p^T, of patches with the bias as one more entry;
- the mean cosine of a linear layer: rho (2/N) [Gamma((N+1)/2)/Gamma(N/2)]^2 2F1(1/2, 1/2; (N+2)/2; rho^2), as the
  correlation coefficient of N + 1 normal pairs has. Hotelling, JRSS B 1953;
- mean squares at every layer of deep networks (`exact_mean_square`);
- ln(sin^2 theta'/sin^2 theta) of nearly parallel inputs at a ReLU layer, in the limit theta -> 0.

Asymptotic, with an error O(N^-2) a layer: mean and variance of the cosine, and of ln sin^2(theta) of a ReLU layer, by
the delta method; the latter over depth: Li, Nica, Roy, NeurIPS 2022 (arXiv 2206.02768), Jakub and Nica (arXiv
2302.09712). Derived here anew, in a form that nearly parallel inputs do not cancel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import digamma, gammaln, hyp2f1, polygamma

from sweeps.networks.architecture import Architecture
from sweeps.theory import duals, limit
from sweeps.theory.arccos import angle_map
from sweeps.theory.moments import moment

PARALLEL = -100.0  # ln sin^2 of angles of 1e-22
_SECOND = ("zz", "zx", "zy", "xx", "yy", "xy")
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


# --- inner products and cosines ---------------------------------------------------------------------------


def inner_product(
    activation: str, theta: ArrayLike, width: int, a: float = 1.0, b: float = 1.0, slope: float = 0.01
) -> tuple[np.ndarray, np.ndarray]:
    """Exact (mean, variance) of (1/N) sum phi(u_i) phi(v_i), for pre-activations of variances a, b at angle `theta`.

    Homogeneous activations in closed form, the others by quadrature (`moments`).
    """
    mean = moment(activation, 1, 1, theta, a, b, slope)
    return mean, (moment(activation, 2, 2, theta, a, b, slope) - mean**2) / width


def cosine(
    activation: str, theta: ArrayLike, width: int, a: float = 1.0, b: float = 1.0, slope: float = 0.01
) -> tuple[np.ndarray, np.ndarray]:
    """Asymptotic (mean, variance) of the cosine after one layer; errors O(N^-2).

    Rounding adds about 1e-15/N to the variance, which is of order theta^4/N: it means nothing below theta = 1e-3.
    """
    m = {(i, j): moment(activation, i, j, theta, a, b, slope)
         for i, j in [(1, 1), (2, 0), (0, 2), (2, 2), (3, 1), (1, 3), (4, 0), (0, 4)]}  # fmt: skip
    z, x, y = m[1, 1], m[2, 0], m[0, 2]
    covariances = {
        "zz": m[2, 2] - z * z, "zx": m[3, 1] - z * x, "zy": m[1, 3] - z * y,
        "xx": m[4, 0] - x * x, "yy": m[0, 4] - y * y, "xy": m[2, 2] - x * y,
    }  # fmt: skip
    return _of_ratio(z, x, y, covariances, width)


def linear_cosine(rho: ArrayLike, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(exact mean, asymptotic variance) of the cosine after one fully connected linear layer without bias."""
    rho = np.asarray(rho, dtype=np.float64)
    gammas = math.exp(2 * (gammaln((width + 1) / 2) - gammaln(width / 2)))
    mean = rho * 2 / width * gammas * hyp2f1(0.5, 0.5, width / 2 + 1, rho**2)
    return mean, (1 - rho**2) ** 2 / width


def cnn_inner_product(x: np.ndarray, y: np.ndarray, architecture: Architecture) -> tuple[float, float]:
    """Exact (mean, variance) of the mean of h(x) h(y) over filters and pixels after one layer, before pooling.

    Images (channels, rows, cols). The variance is NaN unless the activation is linear.
    """
    a = architecture
    patches = [_patches(image, a) for image in (x, y)]
    if a.activation == "linear":
        m = _covariance(*patches)
        return float(np.trace(m)), float(((m * m).sum() + np.trace(m @ m)) / a.width)
    xx, yy, xy = ((patches[i] * patches[j]).sum(1) for i, j in ((0, 0), (1, 1), (0, 1)))
    return float(duals.inner_product(a.activation, xx, yy, xy, a.slope).mean()), math.nan


def linear_cnn_cosine(x: np.ndarray, y: np.ndarray, architecture: Architecture) -> tuple[np.ndarray, np.ndarray]:
    """Asymptotic (mean, variance) of the cosine of images (channels, rows, cols) after one linear CNN layer."""
    patches = {"x": _patches(x, architecture), "y": _patches(y, architecture)}
    m = {"z": ("x", "y"), "x": ("x", "x"), "y": ("y", "y")}
    m = {name: _covariance(patches[p], patches[q]) for name, (p, q) in m.items()}
    covariances = {p + q: (m[p] * m[q]).sum() + (m[p] * m[q].T).sum() for p, q in _SECOND}
    return _of_ratio(np.trace(m["z"]), np.trace(m["x"]), np.trace(m["y"]), covariances, architecture.width)


def _of_ratio(z: Any, x: Any, y: Any, covariances: dict[str, Any], width: int) -> tuple[np.ndarray, np.ndarray]:
    """(mean, variance) of Z/sqrt(X Y) to order 1/N, from means and from N times the covariances."""
    means = {"z": z, "x": x, "y": y}
    zz, zx, zy, xx, yy, xy = (covariances[p + q] / (means[p] * means[q]) for p, q in _SECOND)
    ratio = z / np.sqrt(x * y)
    mean = ratio * (1 + (3 * (xx + yy) / 8 + xy / 4 - (zx + zy) / 2) / width)
    return mean, ratio**2 * (zz + (xx + yy) / 4 + xy / 2 - zx - zy) / width


def _patches(image: np.ndarray, architecture: Architecture) -> np.ndarray:
    """Patches and the bias, (pixels, channels side^2 + 1), so scaled that w . patch is a pre-activation."""
    image, side = np.asarray(image, dtype=np.float64), architecture.side
    wide = limit.padded(image, side // 2, architecture.padding)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (side, side), axis=(1, 2))
    patches = windows.transpose(1, 2, 0, 3, 4).reshape(image.shape[1] * image.shape[2], -1)
    bias = np.full((len(patches), 1), math.sqrt(architecture.bias_variance))
    return np.concatenate([patches * math.sqrt(architecture.weight_variance / patches.shape[1]), bias], axis=1)


def _covariance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x.T @ y / len(x)


# --- mean squares at every layer --------------------------------------------------------------------------


def exact_mean_square(architecture: Architecture) -> np.ndarray:
    """Layers (depth,) whose mean square at infinite width is the exact mean at this width, dead networks counted as 0.

    Activations max(z, 0) + s min(z, 0): E[phi(u)^2 | h] is linear in the squares of h, so that every layer is exact for
    every law of weights with variance 1 that is symmetric, all of `Law`. Average pooling mixes neuron values of several
    pixels: exact again for linear networks, for others where their covariance is known, behind the first layer, with
    Gaussian weights. Any other activation: the first layer, with Gaussian weights. Max pooling: none.
    """
    a, layers = architecture, np.zeros(architecture.depth, dtype=bool)
    gaussian, bent = a.law == "gaussian", duals.below_zero(a.activation, a.slope) is not None
    if a.pool_layers and a.pool == "max":
        return layers
    layers[0] = gaussian or (bent and not a.pool_layers) or a.activation == "linear"
    layers[1:] = layers[0] and bent and (a.pool_layers < 2 or a.activation == "linear")
    return layers


def log_mean_square(inputs: np.ndarray, architecture: Architecture) -> np.ndarray:
    """Logarithm of the exact mean of the mean square (depth, k); NaN where it is not known, see `exact_mean_square`.

    `inputs` are images (k, channels, rows, cols), or log mean squares (k,) for a fully connected network.
    """
    if inputs.ndim == 1:
        each = [limit.fnn(inputs[[i]], np.zeros(0), architecture) for i in range(len(inputs))]
    else:
        each = [limit.cnn(inputs[[i]], architecture) for i in range(len(inputs))]
    found = np.concatenate([geometry.log_square for geometry in each], axis=1)
    return np.where(exact_mean_square(architecture)[:, None], found, np.nan)


# --- the law of ln sin^2 theta, fully connected ReLU networks without bias --------------------------------


def log_sin2_step(theta: ArrayLike, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Asymptotic (mean, variance) of ln sin^2 theta' after a ReLU layer at inputs of angle `theta` in (0, pi).

    With L = ln(1 - q), q = cos^2 theta': mean ln sin^2 - [T m + T (1 + T) v/2]/N and variance T^2 v/N, T = cot^2 of the
    limit's theta', m and v N times the mean and the variance of the change of ln q. For theta -> 0 they become
    ln sin^2(theta) - 2/N and 8/N. Errors are O(N^-2): at N = 64 the variance is 7% low for theta up to 1, 18% at pi/2,
    and 64% at 2.5, where there is little of it. Given that both inputs are alive.
    """
    after = angle_map(theta)
    drift, spread = _noise(np.asarray(theta, dtype=np.float64), after)
    return 2 * np.log(np.sin(after)) + drift / width, spread / width


def log_sin2(theta: float, width: int, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Asymptotic (mean, variance), each (depth,), of ln sin^2 of the angle after every layer, from `theta` in (0, pi).

    A layer's mean and variance at the mean of the one before, with the curvature of the map:
        mean' = g(mean) + g''(mean) variance/2 + drift/N,    variance' = g'(mean)^2 variance + spread/N.
    Both gather the errors of a layer: valid for depth well below N.
    """
    means, variances = np.empty(depth), np.empty(depth)
    mean, variance = log_sin2_step(theta, width)
    for layer in range(depth):
        means[layer], variances[layer] = mean, variance
        if mean < PARALLEL:  # beside which what one step adds to -2/N and 8/N is nothing
            mean, variance = mean - 2 / width, variance + 8 / width
            continue
        here = np.arcsin(np.exp(mean / 2))
        slope, curvature = _derivatives(here)
        mean, fresh = log_sin2_step(here, width)
        mean, variance = mean + curvature * variance / 2, slope**2 * variance + fresh
    return means, variances


def nearly_parallel(width: int) -> tuple[float, float]:
    """Exact (mean, variance) of ln(sin^2 theta'/sin^2 theta) at a ReLU layer for theta -> 0; about -2/N and 8/N.

    Of N neurons n are active on both inputs, binomial; then sin^2 theta' is sin^2 theta times the ratio of independent
    chi-squares with n - 1 and n degrees of freedom. Given n >= 2: with n = 1 the angle becomes 0, with n = 0 undefined.
    """
    n = np.arange(2, width + 1)
    weights = stats.binom.pmf(n, width, 0.5)
    weights /= weights.sum()
    means = digamma((n - 1) / 2) - digamma(n / 2)
    mean = weights @ means
    return float(mean), float(weights @ (polygamma(1, (n - 1) / 2) + polygamma(1, n / 2) + (means - mean) ** 2))


def _noise(theta: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-T m - T (1 + T) v/2 and T^2 v, as means of squares and products that are small where theta is.

    With x = 2 relu(u)^2, y = 2 relu(v)^2, z = relu(u) relu(v)/J11 of mean 1 and w = 2 z - x - y of mean 0,
    v = E w^2 and m = E[(x - y)^2/4 - (x + y) w/2 - w^2/4].
    """
    theta, after = theta[..., None], after[..., None]
    m, v = 0.0, 0.0
    arcs = [(-np.pi / 2, theta - np.pi / 2), (theta - np.pi / 2, np.pi / 2), (np.pi / 2, theta + np.pi / 2)]
    for which, (low, high) in enumerate(arcs):  # u > 0 alone, both, v > 0 alone
        t = (low + high) / 2 + (high - low) / 2 * _NODES
        weights = 8 * _WEIGHTS * (high - low) / 2 / (2 * np.pi)  # E r^4 = 8
        u, v_ = np.cos(t) * (which < 2), np.cos(t - theta) * (which > 0)
        gap = -2 * np.sin(t - theta / 2) * np.sin(theta / 2) if which == 1 else u - v_
        w = -2 * gap**2 + 4 * u * v_ * 2 * np.sin(after / 2) ** 2 / np.cos(after)
        m = m + (weights * ((gap * (u + v_)) ** 2 - (u * u + v_ * v_) * w - w * w / 4)).sum(-1)
        v = v + (weights * w * w).sum(-1)
    t = 1 / np.tan(after[..., 0]) ** 2
    return -t * m - t * (1 + t) * v / 2, t * t * v


def _derivatives(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivative of ln sin^2 theta' in ln sin^2 theta, for theta in (0, pi/2)."""
    after = angle_map(theta)
    turn = (1 - theta / np.pi) * np.sin(theta) / np.sin(after)  # d theta'/d theta
    slope = turn * np.tan(theta) / np.tan(after)
    log_slope = (
        np.tan(theta) - turn * np.tan(after) - 1 / (np.pi - theta) + 2 / np.tan(theta) - 2 * turn / np.tan(after)
    )
    return slope, slope * log_slope * np.tan(theta) / 2
