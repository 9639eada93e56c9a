"""How random layers change the angle of two inputs: infinite width at any depth, finite width in one layer.

Notation: rho = cos(theta) the cosine in, N = width or number of filters, x_p the r x r patch of x at pixel
p, J_ab = E[relu(G)^a relu(G')^b] for standard normals of correlation rho.

Infinite width: a limit, exact at no N.
- Fully connected, ReLU: theta_l = angle_map(theta_{l-1}). Cho & Saul, NeurIPS 2009.
- Fully connected, linear: theta_l = theta_0.
- Convolutional: maps over pixels K = (K_xx, K_yy, K_xy), at first the channel means of x^2, y^2, xy. A
  layer is K <- box_r(K), and for ReLU K_xy <- sqrt(K_xx K_yy) kappa1(K_xy/sqrt(K_xx K_yy)), the common
  factor 1/2 left out. Then rho_l = sum K_xy / sqrt(sum K_xx sum K_yy).
  One layer: Nachum, Hazla, Gastpar, Khina, ICLR 2022 (arXiv 2111.02155). Many layers: Garriga-Alonso,
  Rasmussen, Aitchison, ICLR 2019 (arXiv 1808.05587).

One layer of finite width with weights N(0, 1): exact at every N.
- ReLU: (1/N) <relu(Wx), relu(Wy)> has mean |x||y| J11 and variance |x|^2 |y|^2 (J22 - J11^2)/N.
- Linear: the cosine has mean rho (2/N) [Gamma((N+1)/2)/Gamma(N/2)]^2 2F1(1/2, 1/2; (N+2)/2; rho^2), as the
  correlation coefficient of N + 1 normal pairs has. Hotelling 1953.
- Linear CNN: with M = r^-2 sum_p x_p y_p^T, <Fx, Fy>/(N r^2) has mean tr M and variance (|M|_F^2 + tr M^2)/N.

One layer of finite width, asymptotic: mean and variance of the ReLU cosine, variance of the linear one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, hyp2f1

from sweeps.theory.arccos import angle_map, kappa1


def fnn_angles(theta: float, depth: int, activation: str) -> np.ndarray:
    """Angles (depth,) after every layer of an infinitely wide fully connected network; radians."""
    angles = []
    for _ in range(depth):
        theta = float(angle_map(theta)) if activation == "relu" else theta
        angles.append(theta)
    return np.array(angles)


def cnn_cosines(x: np.ndarray, y: np.ndarray, depth: int, *, side: int, padding: str, activation: str) -> np.ndarray:
    """Cosines (depth,) after every layer of a CNN of infinitely many filters; images (channels, rows, cols).

    Accurate to rounding in the cosine, hence only to about 1e-8 in the angle of nearly parallel images.
    """
    kernels, cosines = start_kernels(x, y), []
    for _ in range(depth):
        kernels = box(kernels, side, padding)
        if activation == "relu":
            kernels = relu_kernels(kernels)
        cosines.append(cosine_of(kernels))
    return np.array(cosines)


def start_kernels(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(K_xx, K_yy, K_xy) per pixel, float64 (3, rows, cols), of images (channels, rows, cols)."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return np.stack([(x * x).mean(0), (y * y).mean(0), (x * y).mean(0)])


def box(kernels: np.ndarray, side: int, padding: str) -> np.ndarray:
    """Mean over the side x side neighbourhood of every pixel, wrapping round or with zeros outside."""
    edge = side // 2
    mode = "wrap" if padding == "circular" else "constant"
    for axis in (-2, -1):
        pad = [(0, 0)] * kernels.ndim
        pad[axis] = (edge, edge)
        padded = np.pad(kernels, pad, mode=mode)
        kernels = np.lib.stride_tricks.sliding_window_view(padded, side, axis=axis).mean(-1)
    return kernels


def relu_kernels(kernels: np.ndarray) -> np.ndarray:
    """Kernels after a ReLU, up to the common factor 1/2; a pixel where an image is zero adds nothing."""
    k_xx, k_yy, k_xy = kernels
    scale = np.sqrt(k_xx) * np.sqrt(k_yy)
    cosine = np.divide(k_xy, scale, out=np.zeros_like(k_xy), where=scale > 0)
    return np.stack([k_xx, k_yy, scale * kappa1(cosine)])


def cosine_of(kernels: np.ndarray) -> float:
    """Cosine of the two whole images; NaN if one of them is zero."""
    k_xx, k_yy, k_xy = kernels.sum((-2, -1))
    norm = math.sqrt(k_xx) * math.sqrt(k_yy)
    return k_xy / norm if norm > 0 else math.nan


def alignment(x: np.ndarray, y: np.ndarray, *, side: int, padding: str) -> tuple[float, float]:
    """(rho, W) of Nachum et al.: weighted mean patch cosine, and W = sum |x_p||y_p| / Z in [|rho|, 1]."""
    kernels = box(start_kernels(x, y), side, padding)
    k_xx, k_yy, _ = kernels
    z = math.sqrt(k_xx.sum() * k_yy.sum())
    return cosine_of(kernels), float((np.sqrt(k_xx) * np.sqrt(k_yy)).sum() / z)


def bounds(rho: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(lower, upper) bounds on the cosine after a wide ReLU CNN layer; Nachum et al., ICLR 2022."""
    rho = np.asarray(rho, dtype=np.float64)
    return np.maximum(rho, 0), (1 + rho) / 2


def sharp_bounds(rho: ArrayLike, w: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Bounds that also know W (see `alignment`): Jensen and the chord, kappa1 being convex."""
    rho, w = np.asarray(rho, dtype=np.float64), np.asarray(w, dtype=np.float64)
    return w * kappa1(rho / w), (w + rho) / 2


def relu_moments(theta: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(J11, J22, J31) at angle `theta`: J_ab = E[relu(G)^a relu(G')^b]; exact."""
    theta = np.asarray(theta, dtype=np.float64)
    c, s, rest = np.cos(theta), np.sin(theta), np.pi - theta
    j11 = (s + rest * c) / (2 * np.pi)
    j22 = (rest * (2 * c * c + 1) + 3 * s * c) / (2 * np.pi)
    j31 = (3 * rest * c + s * c * c + 2 * s) / (2 * np.pi)
    return j11, j22, j31


def relu_inner_product(theta: ArrayLike, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact (mean, variance) of (1/N) <relu(Wx), relu(Wy)> for unit vectors at angle `theta`."""
    j11, j22, _ = relu_moments(theta)
    return j11, (j22 - j11**2) / width


def relu_cosine(theta: ArrayLike, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Asymptotic (mean, variance) of the cosine after one ReLU layer; the errors are O(N^-2)."""
    j11, j22, j31 = relu_moments(theta)
    mean = 2 * j11 * (1 + (4.5 + j22 - 2 * j31 / j11) / width)
    return mean, 4 * j11**2 / width * (j22 / j11**2 + 2 * j22 - 4 * j31 / j11 + 3)


def linear_cosine(rho: ArrayLike, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(exact mean, asymptotic variance) of the cosine after one linear layer."""
    rho = np.asarray(rho, dtype=np.float64)
    gammas = math.exp(2 * (gammaln((width + 1) / 2) - gammaln(width / 2)))
    mean = rho * 2 / width * gammas * hyp2f1(0.5, 0.5, width / 2 + 1, rho**2)
    return mean, (1 - rho**2) ** 2 / width


def linear_cnn_inner_product(
    x: np.ndarray, y: np.ndarray, filters: int, *, side: int, padding: str
) -> tuple[float, float]:
    """Exact (mean, variance) of <Fx, Fy>/(N r^2) of one linear CNN layer; images (channels, rows, cols)."""
    m = _patches(x, side, padding).T @ _patches(y, side, padding) / side**2
    return float(np.trace(m)), float(((m * m).sum() + np.trace(m @ m)) / filters)


def _patches(image: np.ndarray, side: int, padding: str) -> np.ndarray:
    """All patches, float64 (pixels, channels side^2)."""
    edge = side // 2
    mode = "wrap" if padding == "circular" else "constant"
    padded = np.pad(np.asarray(image, dtype=np.float64), ((0, 0), (edge, edge), (edge, edge)), mode=mode)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    return windows.transpose(1, 2, 0, 3, 4).reshape(image.shape[1] * image.shape[2], -1)
