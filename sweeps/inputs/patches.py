"""Patches of images: all squares of p x p pixels that lie inside, of all channels, in the order channel, row, column.

An image of r x s pixels has (r - p + 1)(s - p + 1) of them, vectors of d = channels x p x p entries. Their covariance,
about the mean patch of all the images and over their number, has eigenvectors u_i, the components, with eigenvalues
lambda_i^2: the basis in which Chowers and Weiss, "What do CNNs Learn in the First Layer and Why?" (arXiv 2206.02454),
describe first layers. Sums are in float64, and a part of the images is looked at at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

PART = 2**22  # float64 entries in use at a time
CLASSES = 10  # deciles
_TIE = 1e-9


class Basis(NamedTuple):
    """Components of patches, of the largest variance first."""

    eigenvalues: np.ndarray
    """(d,), falling, none below 0."""
    vectors: np.ndarray
    """(d, d), orthonormal columns; the entry of largest magnitude is positive, the first where several have it."""


def covariance(images: np.ndarray, side: int) -> np.ndarray:
    """Covariance (d, d), float64, of all patches of images (n, channels, rows, cols).

    Raises:
        ValueError: patches are larger than the images; so all functions here.
    """
    down, across = _places(images, side)
    d = images.shape[1] * side**2
    mean = averages(images, side).mean(axis=0)
    total = np.zeros((d, d))
    for part in _parts(images, down * across * d):
        windows = sliding_window_view(part, (side, side), axis=(2, 3))  # (n, channels, down, across, side, side)
        patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, d) - mean
        total += patches.T @ patches
    return total / (len(images) * down * across)


def averages(images: np.ndarray, side: int) -> np.ndarray:
    """Average patch of every image, float64 (n, d)."""
    down, across = _places(images, side)
    found = []
    for part in _parts(images, images[0].size * side):
        rows = np.stack([part[:, :, i : i + down].sum(axis=2, dtype=np.float64) for i in range(side)], axis=2)
        sums = np.stack([rows[..., j : j + across].sum(axis=3) for j in range(side)], axis=3)
        found.append(sums.reshape(len(part), -1) / (down * across))
    return np.concatenate(found)


def basis(covariance: np.ndarray) -> Basis:
    """Eigenvectors and eigenvalues of a covariance (d, d)."""
    eigenvalues, vectors = np.linalg.eigh(covariance)
    eigenvalues, vectors = np.maximum(eigenvalues[::-1], 0), vectors[:, ::-1]
    magnitudes = np.abs(vectors)
    largest = np.argmax(magnitudes >= (1 - _TIE) * magnitudes.max(axis=0), axis=0)  # the first of equal ones
    return Basis(eigenvalues, vectors * np.sign(vectors[largest, np.arange(len(vectors))]))


def energies(images: np.ndarray, vector: np.ndarray, side: int) -> np.ndarray:
    """Energy (n,) of a component in every image: mean over its patches of (u . (patch - mean patch))^2.

    The mean patch is that of all the images, so for an eigenvector the mean energy is the eigenvalue.
    """
    down, across = _places(images, side)
    mean = averages(images, side).mean(axis=0) @ vector
    filters = vector.reshape(-1, side, side)
    found = []
    for part in _parts(images, down * across):
        projected = np.full((len(part), down, across), -mean)
        for channel, i, j in np.ndindex(filters.shape):
            projected += filters[channel, i, j] * part[:, channel, i : i + down, j : j + across]
        found.append(np.square(projected).mean(axis=(1, 2)))
    return np.concatenate(found)


def deciles(energies: np.ndarray) -> np.ndarray:
    """Classes int64 (n,), 0 of the smallest energies to 9, of as equal sizes as can be; of equal energies the first is
    taken for the smaller."""
    ranks = np.empty(len(energies), np.int64)
    ranks[np.argsort(energies, kind="stable")] = np.arange(len(energies))
    return ranks * CLASSES // len(energies)


def amplified(images: np.ndarray, vector: np.ndarray, side: int, gain: float) -> np.ndarray:
    """Images with a component stronger, or weaker, by a gain: float32, of the same shape.

    x + (gain - 1) C^T C x / |C^T C|, where C is the circular correlation of an image's channels with the component, one
    map, and |C^T C| its largest gain, over frequencies. So a gain of 0 removes what the component sees best, and one of
    1 gives the images themselves.
    """
    _places(images, side)
    if gain == 1:
        return images
    _, channels, rows, cols = images.shape
    seen = np.fft.rfft2(vector.reshape(channels, side, side), (rows, cols))  # (channels, rows, frequencies)
    change = (gain - 1) * seen / np.square(np.abs(seen)).sum(axis=0).max()
    result = np.empty(images.shape, np.float32)
    for part, into in zip(_parts(images, images[0].size), _parts(result, images[0].size), strict=True):
        maps = (seen.conj() * np.fft.rfft2(part)).sum(axis=1, keepdims=True)
        into[:] = part + np.fft.irfft2(change * maps, (rows, cols))
    return result


def _places(images: np.ndarray, side: int) -> tuple[int, int]:
    """How many patches lie below and beside each other."""
    rows, cols = images.shape[2:]
    if side > min(rows, cols):
        raise ValueError(f"patches of {side} x {side} pixels do not fit into images of {rows} x {cols}")
    return rows - side + 1, cols - side + 1


def _parts(images: np.ndarray, entries: int) -> Iterator[np.ndarray]:
    """Successive images, as many at a time as are `PART` entries, at least one."""
    step = max(1, PART // entries)
    return (images[i : i + step] for i in range(0, len(images), step))
