"""Lengths and angles of k inputs after every layer of an infinitely wide random network.

Pre-activations of a wide layer are Gaussian with covariances (h, h' activations of the layer before)
    weight_variance <h, h'>/fan_in + bias_variance,
and the next inner products are dual activations of these (`duals`). A limit, exact at no width, but that the mean
square is the exact mean of one in the cases of `finite.exact_mean_square`; it is the same for all laws of the weights.
Fully connected: Neal 1996; Cho and Saul, NeurIPS 2009; Lee et al., ICLR 2018 (arXiv 1711.00165).
Convolutional: covariances per pixel, <h, h'> over a patch being a sum of them; Nachum, Hazla, Gastpar, Khina, ICLR 2022
(arXiv 2111.02155) for one layer, Garriga-Alonso, Rasmussen, Aitchison, ICLR 2019 (arXiv 1808.05587) for many.
Average pooling takes covariances between pixels: Novak et al., ICLR 2019 (arXiv 1810.05148). Max pooling has no closed
form that we know of, and gives NaN.

What is carried: an image's log mean square, maps of its squares over pixels relative to that, and maps of angles. For a
box of pixels, |u - v|^2 and |u + v|^2 are sums of those of its pixels,
    |u -+ v|^2 = (|u| - |v|)^2 + 4 |u| |v| sin^2(theta/2)    (cos^2 for +),
so angles near 0 and near pi are never differences of larger numbers. Nothing overflows at any depth.
Precision of small angles theta, relative: fully connected, rounding a layer times what `duals.angle` says;
convolutional, about 1e-16/theta; after average pooling about 1e-16/theta^2.
"""

from __future__ import annotations

import numpy as np

from sweeps.networks.architecture import Architecture, Geometry
from sweeps.theory import duals


def fnn(log_square: np.ndarray, angle: np.ndarray, architecture: Architecture) -> Geometry:
    """Geometry (depth, ...) of inputs with log mean squares (k,) and angles (pairs,) in a fully connected network."""
    kind, slope = architecture.activation, architecture.slope
    log_square, theta = np.asarray(log_square, dtype=np.float64), np.asarray(angle, dtype=np.float64)
    i, j = np.triu_indices(len(log_square), 1)
    layers = []
    for _ in range(architecture.depth):
        log_variance, weight, bias = _shares(log_square, architecture)
        aligned = np.sqrt(weight[i] * weight[j] * bias[i] * bias[j])
        across = weight[i] * weight[j] * np.sin(theta) ** 2 + 4 * aligned * np.sin(theta / 2) ** 2
        across += (np.sqrt(weight[i] * bias[j]) - np.sqrt(weight[j] * bias[i])) ** 2  # |u|^2 |v|^2 sin^2
        along = np.sqrt(weight[i] * weight[j]) * np.cos(theta) + np.sqrt(bias[i] * bias[j])
        theta = np.where(bias[i] * bias[j] > 0, np.arctan2(np.sqrt(across), along), theta)
        theta = duals.angle(kind, log_variance[i], log_variance[j], theta, slope)
        log_square = duals.log_square(kind, log_variance, slope)
        layers.append((log_square, theta))
    return _geometry(layers, i, j)


def cnn(images: np.ndarray, architecture: Architecture) -> Geometry:
    """Geometry (depth, ...) of `images` (k, channels, rows, cols) in a convolutional network, pooling included.

    The time goes with pairs x pixels, with average pooling times (2^(pool_layers + 1) - 1)^2 neighbours of a pixel.
    """
    images = np.asarray(images, dtype=np.float64)
    i, j = np.triu_indices(len(images), 1)
    if architecture.pool == "max" and architecture.pool_layers:
        nothing = np.full((architecture.depth, len(images)), np.nan)
        return _geometry([(row, np.full(len(i), np.nan)) for row in nothing], i, j)
    maps, layers = _Maps.of(images, architecture), []
    for layer in range(architecture.depth):
        maps = maps.convolved(architecture)
        if layer < architecture.pool_layers:
            maps = maps.pooled(architecture.padding)
        layers.append((maps.log_square, maps.whole_angles()))
    return _geometry(layers, i, j)


def box(maps: np.ndarray, side: int) -> np.ndarray:
    """Mean over every side x side neighbourhood inside maps (..., rows, cols)."""
    for axis in (-2, -1):
        maps = np.lib.stride_tricks.sliding_window_view(maps, side, axis=axis).mean(-1)
    return maps


def padded(maps: np.ndarray, edge: int, padding: str) -> np.ndarray:
    """Maps (..., rows, cols) with `edge` more pixels on each side, wrapped round or zero."""
    widths = [(0, 0)] * (maps.ndim - 2) + [(edge, edge)] * 2
    return np.pad(maps, widths, mode="wrap" if padding == "circular" else "constant") if edge else maps


def _geometry(layers: list[tuple[np.ndarray, np.ndarray]], i: np.ndarray, j: np.ndarray) -> Geometry:
    log_square, theta = (np.stack(each) for each in zip(*layers, strict=True))
    log_square = np.where(np.isneginf(log_square), np.nan, log_square)
    theta = np.where(np.isnan(log_square[:, i] + log_square[:, j]), np.nan, theta)
    return Geometry(log_square, np.cos(theta), theta)


def _shares(log_square: np.ndarray, architecture: Architecture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logarithm of the variance at inputs of log mean square (k,), and the shares of weights and of the bias in it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.log(architecture.weight_variance) + log_square
        bias = np.log(architecture.bias_variance)
        total = np.logaddexp(weights, bias)
        shares = [np.where(np.isneginf(total), 0, np.exp(x - total)) for x in (weights, bias)]
    return total, shares[0], shares[1]


class _Maps:
    """Activations of k images at one layer.

    `squares` (k, rows, cols): mean square over channels at each pixel, relative to exp(log_square), of mean one.
    `angles` (pairs, 2 reach + 1, 2 reach + 1, rows, cols): angle of image i at p and image j at p + d, for every offset
    d up to `reach` in both directions. Pairs are (0, 1), (0, 2), ...; and (0, 0), (1, 1), ... too if there is a reach.
    """

    def __init__(self, log_square: np.ndarray, squares: np.ndarray, angles: np.ndarray) -> None:
        self.log_square, self.squares, self.angles = log_square, squares, angles
        self.reach = angles.shape[1] // 2
        self.i, self.j = _pairs(len(squares), self.reach)

    @classmethod
    def of(cls, images: np.ndarray, architecture: Architecture) -> _Maps:
        sizes = [images.shape[-2:]]
        for _ in range(architecture.pool_layers):
            sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
        reach = 0
        for rows, cols in sizes[-2::-1]:
            reach = 2 * reach + 1 + max(rows % 2, cols % 2)  # an odd image loses a pixel, where it wraps round
        scale = np.abs(images).max((1, 2, 3), keepdims=True)  # a square may overflow
        scale[scale == 0] = 1
        images = images / scale
        squares = (images * images).mean(1)
        units = images / np.sqrt(images.shape[1] * np.where(squares > 0, squares, 1))[:, None]
        log_square, squares = _normalised(2 * np.log(scale[:, 0]), squares)
        i, j = _pairs(len(images), reach)
        far = _shifted(units, reach, 0, architecture.padding)[j]
        near = units[i][:, None, None]
        return cls(log_square, squares, _half_angle(((near - far) ** 2).sum(3), ((near + far) ** 2).sum(3)))

    def convolved(self, architecture: Architecture) -> _Maps:
        """After a convolution and the activation."""
        kind, slope, padding = architecture.activation, architecture.slope, architecture.padding
        i, j, edge = self.i, self.j, architecture.side // 2
        log_scale, weight, bias = _shares(self.log_square, architecture)
        lengths = np.sqrt(weight[:, None, None] * self.squares)
        near, far = padded(lengths, edge, padding)[i][:, None, None], _shifted(lengths, self.reach, edge, padding)[j]
        minus, plus = _distances(near, far, padded(self.angles, edge, padding))
        each = np.sqrt(bias[i]), np.sqrt(bias[j])
        minus = box(minus, architecture.side) + ((each[0] - each[1]) ** 2)[:, None, None, None, None]
        plus = box(plus, architecture.side) + ((each[0] + each[1]) ** 2)[:, None, None, None, None]
        variances = box(padded(lengths**2, edge, padding), architecture.side) + bias[:, None, None]
        norms = np.sqrt(variances)
        radial = (norms[i][:, None, None] - _shifted(norms, self.reach, 0, padding)[j]) ** 2
        theta = _half_angle(np.maximum(minus - radial, 0), np.maximum(plus - radial, 0))
        with np.errstate(divide="ignore"):
            log_variance = np.log(variances) + np.where(np.isneginf(log_scale), 0, log_scale)[:, None, None]
        far_variance = _shifted(log_variance, self.reach, 0, "circular")[j]  # outside, where nothing is, any will do
        theta = duals.angle(kind, log_variance[i][:, None, None], far_variance, theta, slope)
        log_squares = duals.log_square(kind, log_variance, slope)
        top = log_squares.max((1, 2), keepdims=True)
        top = np.where(np.isneginf(top), 0, top)
        return _Maps(*_normalised(top, np.exp(log_squares - top)), theta)

    def pooled(self, padding: str) -> _Maps:
        """After 2 x 2 average pooling of stride 2, from covariances of neighbours."""
        lengths = np.sqrt(self.squares)
        far = _shifted(lengths, self.reach, 0, padding)[self.j]
        covariances = lengths[self.i][:, None, None] * far * np.cos(self.angles)
        rows, cols = (size // 2 for size in self.squares.shape[-2:])
        reach = (self.reach - 1) // 2
        over_rows, over_cols = (_pooling(size, self.reach, reach, padding) for size in self.squares.shape[-2:])
        pooled = np.zeros((len(covariances), 2 * reach + 1, 2 * reach + 1, rows, cols))
        for row_offset, row, row_inside in over_rows:
            for col_offset, col, col_inside in over_cols:
                at = (row_offset[:, None, :, None], col_offset[:, None], row[None, None, :, None], col)
                inside = row_inside[:, None, :, None] & col_inside[:, None]
                pooled += np.where(inside, covariances[:, *at], 0) / 16
        own = self.i == self.j
        lengths = np.sqrt(pooled[own, reach, reach])
        log_square, squares = _normalised(self.log_square[:, None, None], lengths**2)
        i, j = _pairs(len(lengths), reach)
        pooled = pooled if reach else pooled[~own]
        bound = lengths[i][:, None, None] * _shifted(lengths, reach, 0, padding)[j]
        across = np.sqrt(np.maximum((bound - pooled) * (bound + pooled), 0))
        return _Maps(log_square, squares, np.arctan2(across, pooled))

    def whole_angles(self) -> np.ndarray:
        """Angles (pairs,) of whole images."""
        different = self.i != self.j
        lengths = np.sqrt(self.squares)
        i, j = self.i[different], self.j[different]
        minus, plus = _distances(lengths[i], lengths[j], self.angles[different, self.reach, self.reach])
        return _half_angle(minus.mean((1, 2)), plus.mean((1, 2)))


def _pairs(k: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    i, j = np.triu_indices(k, 1)
    own = np.arange(k if reach else 0)
    return np.concatenate([i, own]), np.concatenate([j, own])


def _distances(u: np.ndarray, v: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|u - v|^2 and |u + v|^2 of lengths and angles."""
    radial, product = (u - v) ** 2, 4 * u * v
    return radial + product * np.sin(theta / 2) ** 2, radial + product * np.cos(theta / 2) ** 2


def _half_angle(minus: np.ndarray, plus: np.ndarray) -> np.ndarray:
    return 2 * np.arctan2(np.sqrt(minus), np.sqrt(plus))


def _normalised(log_scale: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log mean squares (k,) and maps of mean one, from squares (k, rows, cols) relative to exp(log_scale) (k, 1, 1)."""
    mean = squares.mean((1, 2), keepdims=True)
    with np.errstate(divide="ignore"):
        log_square = (log_scale + np.log(mean))[:, 0, 0]
    return log_square, squares / np.where(mean > 0, mean, 1)


def _shifted(maps: np.ndarray, reach: int, edge: int, padding: str) -> np.ndarray:
    """maps at p + d, (k, 2 reach + 1, 2 reach + 1, ..., rows, cols), for p up to `edge` outside and all offsets d."""
    rows, cols = (size + 2 * edge for size in maps.shape[-2:])
    wide, offsets = padded(maps, reach + edge, padding), range(2 * reach + 1)
    return np.stack([np.stack([wide[..., r : r + rows, c : c + cols] for c in offsets], 1) for r in offsets], 1)


def _pooling(size: int, reach: int, new: int, padding: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For the pixels a, b = 0, 1 of two cells along an axis: index of their offset (offsets, cells), that of the first
    pixel (cells,), and whether the second cell is inside (offsets, cells)."""
    cells = np.arange(size // 2)
    other = cells + np.arange(-new, new + 1)[:, None]
    inside = (other >= 0) & (other < size // 2) | (padding == "circular")
    other = other % (size // 2)
    found = []
    for a in (0, 1):
        for b in (0, 1):
            offset = 2 * other + b - (2 * cells + a)
            if padding == "circular":
                offset = (offset + size // 2) % size - size // 2
            found.append((np.clip(offset, -reach, reach) + reach, 2 * cells + a, inside))
    return found
