"""Bounds on the cosine of two images after one ReLU CNN layer of infinitely many filters.

With x_p the patch at pixel p, Z = sqrt(sum |x_p|^2 sum |y_p|^2), rho = sum <x_p, y_p>/Z, W = sum |x_p| |y_p|/Z,
    max(rho, 0)  <=  W kappa1(rho/W)  <=  cosine  <=  (W + rho)/2  <=  (1 + rho)/2.
Outer ones: Nachum, Hazla, Gastpar, Khina, ICLR 2022 (arXiv 2111.02155). Inner ones: Jensen's inequality and the chord,
kappa1 being convex. With filters of side 1, or circular padding, rho is the cosine of the images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sweeps.networks.architecture import Architecture
from sweeps.theory.arccos import kappa1
from sweeps.theory.limit import box, padded


def alignment(x: np.ndarray, y: np.ndarray, architecture: Architecture) -> tuple[np.ndarray, np.ndarray]:
    """(rho, W), W in [|rho|, 1], of images (..., channels, rows, cols); NaN where one of them is zero."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    xx, yy, xy = (
        box(padded(product.sum(-3), architecture.side // 2, architecture.padding), architecture.side)
        for product in (x * x, y * y, x * y)
    )
    z = np.sqrt(xx.sum((-2, -1))) * np.sqrt(yy.sum((-2, -1)))
    z = np.where(z > 0, z, np.nan)
    return xy.sum((-2, -1)) / z, (np.sqrt(xx) * np.sqrt(yy)).sum((-2, -1)) / z


def bounds(rho: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(lower, upper) bounds that know rho alone; both are attained."""
    rho = np.asarray(rho, dtype=np.float64)
    return np.maximum(rho, 0), (1 + rho) / 2


def sharp_bounds(rho: ArrayLike, w: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(lower, upper) bounds that also know W (see `alignment`)."""
    rho, w = np.broadcast_arrays(np.asarray(rho, dtype=np.float64), np.asarray(w, dtype=np.float64))
    share = np.divide(rho, w, out=np.zeros(w.shape), where=w != 0)  # with W = 0 rho is 0, and so is the lower bound
    return w * kappa1(share), (w + rho) / 2
