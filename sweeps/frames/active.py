"""The rows of a ReLU layer that are active at a point: their number, rank and frame bounds.

Rows w_i with <w_i, x> > alpha_i let x -> ReLU(<w_i, x> - alpha_i) through. With W_I the matrix of these rows, A and B
are the extreme eigenvalues of W_I^T W_I: A |x|^2 <= |W_I x|^2 <= B |x|^2. The layer loses n - rank dimensions at x.

The eigenvalues come from the Gram matrix, whose rounding hides singular values below sqrt(2^-53) of the largest; where
they come near that, they come from singular values. A, B and the rank of a point do not depend on the other points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sweeps.compiled import compiled

TOLERANCE = 1e-9
"""Rows of length 1 with singular values that small, compared with the largest, depend on one another."""
CLEAR = 1e-8
"""Eigenvalues of a Gram matrix above that, compared with the largest, are good to seven digits or so."""


SMALL, MANY = 32, 1024
"""Inputs up to which Gram matrices of so many points are made in one go, with less ado a point."""


class Active(NamedTuple):
    """What is active at each of k points, arrays (k,)."""

    count: np.ndarray  # pyright: ignore[reportIncompatibleMethodOverride] tuples count otherwise
    rank: np.ndarray
    smallest: np.ndarray
    """A, 0 where the rows do not span."""
    largest: np.ndarray
    """B."""


def active(W: np.ndarray, alpha: np.ndarray, points: np.ndarray) -> Active:
    """The active rows of the layer W, float64 (m, n), alpha (m,) at `points` (k, n)."""
    few = W.shape[1] <= SMALL
    found = _together(W, alpha, points) if few else [_at(W, alpha, x) for x in points]
    count, rank, smallest, largest = np.array(found, np.float64).reshape(-1, 4).T
    return Active(count.astype(np.int64), rank.astype(np.int64), smallest, largest)


def _at(W: np.ndarray, alpha: np.ndarray, x: np.ndarray) -> tuple[int, int, float, float]:
    rows = W[W @ x > alpha]
    return len(rows), *frame(rows)


def _together(W: np.ndarray, alpha: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(k, 4), as `_at` of every point: from the Gram matrices of many where these tell, else one by one."""
    n, found = W.shape[1], np.empty((len(points), 4))
    for start in range(0, len(points), MANY):
        some = points[start : start + MANY]
        counts, grams = _grams(W, alpha, some)
        values = np.linalg.eigvalsh(grams)
        largest = np.where(counts > 0, values[:, -1], 0)
        rank = (values > CLEAR * values[:, -1:]).sum(1) * (counts > 0)
        smallest = np.where(rank == n, values[:, 0], 0)
        found[start : start + MANY] = np.stack([counts, rank, smallest, largest], axis=1)
        for i in np.flatnonzero(rank < np.minimum(counts, n)):  # or so near to dependent that they may be
            found[start + i] = _at(W, alpha, some[i])
    return found


@compiled
def _grams(W, alpha, points):
    """How many rows are active at every point, and the lower half of their Gram matrices (k, n, n)."""
    m, n = W.shape
    counts, grams = np.zeros(len(points), np.int64), np.zeros((len(points), n, n))
    for k in range(len(points)):
        for i in range(m):
            height = 0.0
            for c in range(n):
                height += W[i, c] * points[k, c]
            if height > alpha[i]:
                counts[k] += 1
                for c in range(n):
                    for d in range(c + 1):
                        grams[k, c, d] += W[i, c] * W[i, d]
    return counts, grams


def frame(rows: np.ndarray) -> tuple[int, float, float]:
    """Rank and frame bounds of `rows`, float64 (count, n), none of them zero; A = 0 where they do not span."""
    if not len(rows):
        return 0, 0.0, 0.0
    spans = len(rows) >= rows.shape[1]
    values = np.linalg.eigvalsh(rows.T @ rows if spans else rows @ rows.T)
    if values[0] > CLEAR * values[-1]:
        return min(rows.shape), float(values[0]) if spans else 0.0, float(values[-1])
    singular = np.linalg.svd(rows, compute_uv=False)
    rank = rank_of(rows)
    return rank, float(singular[-1] ** 2) if rank == rows.shape[1] else 0.0, float(singular[0] ** 2)


def rank_of(rows: np.ndarray) -> int:
    """Whatever the rows' lengths, which may differ by more than the tolerance."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    singular = np.linalg.svd(unit, compute_uv=False)
    return int(np.sum(singular > TOLERANCE * singular[0]))
