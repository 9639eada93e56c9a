"""Laws of the rows of a random layer W, m x n; lengths of rows do not matter to what is active, so scales are left out.

- gaussian: independent N(0, 1) entries.
- sphere: the same rows scaled to length 1, uniform on the sphere.
- orthogonal: blocks of n rows, each a Haar orthogonal matrix, the last one cut; from Gaussian rows by Gram and Schmidt
  (Mezzadri, "How to generate random matrices from the classical compact groups", Notices AMS 2007).
- rademacher: independent signs.
- sparse: entries N(0, 1) with probability `density`, else 0.
- convolution: circular convolution of one channel with m/n Gaussian filters as a matrix; the inputs are an image of
  `image_rows` rows, a filter has `taps` entries along each side that the image has more than one pixel of.
- file: m rows of a user's matrix, without replacement, in an order of their own in every draw.

The first three are in general position almost surely; the others may repeat, oppose or lose rows.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from sweeps.compiled import compiled
from sweeps.statistic import Networks

Law = Literal["gaussian", "sphere", "orthogonal", "rademacher", "sparse", "convolution", "file"]
LAWS: tuple[str, ...] = get_args(Law)
GENERAL = frozenset({"gaussian", "sphere", "orthogonal"})
"""Laws whose rows are in general position almost surely."""


def gaussian(networks: Networks, m: int, n: int) -> np.ndarray:
    return networks.normals(0, m, n).astype(np.float64)


def sphere(networks: Networks, m: int, n: int) -> np.ndarray:
    W = gaussian(networks, m, n)
    return W / np.sqrt(np.sum(W**2, axis=2, keepdims=True))


def orthogonal(networks: Networks, m: int, n: int) -> np.ndarray:
    blocks = -(-m // n)
    return _orthonormal(gaussian(networks, blocks * n, n).reshape(-1, n, n)).reshape(len(networks), -1, n)[:, :m]


def rademacher(networks: Networks, m: int, n: int) -> np.ndarray:
    return 1.0 - 2.0 * (networks.words(0, m, n) >> np.uint32(31))


def sparse(networks: Networks, m: int, n: int, density: float) -> np.ndarray:
    kept = networks.words(1, m, n) < density * 2.0**32
    return np.where(kept, networks.normals(0, m, n), np.float32(0)).astype(np.float64)


def convolution(networks: Networks, m: int, n: int, taps: int, image_rows: int) -> np.ndarray:
    sides = [min(taps, size) for size in (image_rows, n // image_rows)]
    return convolution_matrix(networks.normals(0, m // n, *sides).astype(np.float64), (image_rows, n // image_rows))


def convolution_matrix(filters: np.ndarray, image: tuple[int, int]) -> np.ndarray:
    """The matrix of a circular convolution, float64 (..., filters * pixels, pixels), filter by filter.

    `filters` is (..., filters, rows, columns); row p of a filter's block has its entry (i, j) at pixel p + (i, j).
    """
    rows, columns = image
    pixel = np.arange(rows * columns).reshape(image)
    out = np.zeros((*filters.shape[:-2], rows * columns, rows * columns))
    for i in range(filters.shape[-2]):
        for j in range(filters.shape[-1]):
            reached = np.roll(pixel, (-i, -j), axis=(0, 1)).ravel()
            out[..., pixel.ravel(), reached] += filters[..., i, j, None]
    return out.reshape(*filters.shape[:-3], -1, rows * columns)


def subset(networks: Networks, m: int, matrix: np.ndarray) -> np.ndarray:
    """Random m of the rows of `matrix` (rows, n), float64 (networks, m, n)."""
    order = np.argsort(networks.words(0, len(matrix)), axis=1, kind="stable")
    return matrix[order[:, :m]]


@compiled
def _orthonormal(blocks):
    """Gram and Schmidt along every block's rows, twice."""
    out = blocks.copy()
    for b in range(len(out)):
        for i in range(out.shape[1]):
            for _ in range(2):
                for k in range(i):
                    out[b, i] -= np.sum(out[b, i] * out[b, k]) * out[b, k]
                out[b, i] /= np.sqrt(np.sum(out[b, i] * out[b, i]))
    return out
