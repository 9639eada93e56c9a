"""A witness that a network is not injective: two different inputs with one output.

A layer x -> ReLU(W x) whose active rows at x do not span R^n has a direction d orthogonal to them. As long as the
inactive rows stay inactive, x + t d and x - t d have one output. The entries of W and x are floats, so rational
numbers: d comes from fraction-free elimination (Bareiss, Math. Comp. 1968), and equality is checked without rounding.
Beyond EXACT inputs the numbers would get too long, and where rows depend on one another to rounding only there is no
such d; then it comes from a singular value decomposition, and the outputs are equal to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

Vector = list[Fraction]
TOLERANCE = 1e-9
"""Rows of length 1 this near to a subspace are taken to lie in it, as in sweeps.networks.degenerate."""
EXACT = 128
"""Most inputs for which the witness is exact; it takes some ten seconds there."""


@dataclass(frozen=True)
class Witness:
    """`first` and `second`, float64 (n,), are inputs with one output; `why` says what makes them so.

    `exact` holds them as the rational numbers for which equality was checked without rounding; without it they are
    what they are, and their outputs are equal to within `difference`, the largest absolute one in float64.
    """

    first: np.ndarray
    second: np.ndarray
    difference: float
    why: str
    exact: tuple[Vector, Vector] | None = None

    @property
    def distance(self) -> float:
        """|first - second|."""
        return float(np.linalg.norm(self.first - self.second))


def of_layer(W: np.ndarray, x: np.ndarray, *, orthant: bool = False) -> Witness:
    """Two inputs with one output, found from a direction x whose active rows do not span R^n.

    `W` is float64 (m, n) and `x` float64 (n,); with `orthant` x is positive, and so are the two inputs.

    Raises:
        ValueError: the rows that are active at x do span.
    """
    if W.shape[1] > EXACT:
        return _rounded(W, x, orthant)
    rows = [[Fraction(v) for v in row] for row in W.tolist()]
    middle = [Fraction(v) for v in x.tolist()]
    heights = [_dot(row, middle) for row in rows]
    active = [row for row, h in zip(rows, heights, strict=True) if h > 0]
    d = _orthogonal_to(active, len(middle))
    if d is None:  # or they do to rounding
        return _rounded(W, x, orthant)
    d = [v / max(map(abs, d)) for v in d]
    walls = [(h, _dot(row, d)) for row, h in zip(rows, heights, strict=True) if h <= 0]
    if orthant:
        walls += list(zip(middle, d, strict=True))
    room = min([Fraction(1), *(abs(h / slope) for h, slope in walls if slope)])
    step = Fraction(float(room)) * Fraction(1023, 1024)  # below room, whichever way that is rounded
    first, second = ([v + sign * step * w for v, w in zip(middle, d, strict=True)] for sign in (1, -1))
    if first == second or _outputs(rows, first) != _outputs(rows, second):
        raise ValueError("x lies on the border of its cell; give a direction on which no row vanishes")
    one, other = (np.array([float(v) for v in end]) for end in (first, second))
    return Witness(one, other, _difference(W, one, other), _why(len(active), W), (first, second))


def _rounded(W: np.ndarray, x: np.ndarray, orthant: bool) -> Witness:
    heights = W @ x
    active = W[heights > 0]
    lengths = np.linalg.norm(active, axis=1, keepdims=True)
    if len(active) and np.linalg.matrix_rank(active / lengths, tol=TOLERANCE) == W.shape[1]:
        raise ValueError(f"the {len(active)} rows active at x span R^{W.shape[1]}; there is no witness in its cell")
    d = np.linalg.svd(active / lengths)[2][-1] if len(active) else np.eye(len(x))[0]
    slopes = W[heights <= 0] @ d
    room = np.abs(heights[heights <= 0]) / np.maximum(np.abs(slopes), 1e-300)
    if orthant:
        room = np.concatenate([room, x / np.maximum(np.abs(d), 1e-300)])
    step = 0.999 * min(room.min(initial=np.inf), np.linalg.norm(x))
    first, second = x + step * d, x - step * d
    return Witness(first, second, _difference(W, first, second), _why(len(active), W))


def _why(active: int, W: np.ndarray) -> str:
    return f"{active} of {len(W)} neurons are active between them, and do not span R^{W.shape[1]}"


def of_network(weights: Sequence[np.ndarray], first: np.ndarray, second: np.ndarray) -> Witness:
    """Two inputs that became one in some layer; `weights` are float64 (m_i, m_{i-1}), one array a layer."""
    one, other = np.asarray(first), np.asarray(second)
    for W in weights:
        one, other = np.maximum(W @ one, 0), np.maximum(W @ other, 0)
    difference = float(np.abs(one - other).max())
    return Witness(first, second, difference, f"their outputs differ by rounding in {len(weights)} layers")


def of_piece(weights: Sequence[np.ndarray], x: np.ndarray) -> Witness:
    """Two inputs in the linear piece of x (n,) where the Jacobian of a layer does not have rank n.

    `weights` are float64 (m_i, m_{i-1}), one array a layer.

    Raises:
        ValueError: every layer's Jacobian has rank n.
    """
    z, jacobian, walls = x, np.eye(len(x)), list[tuple[np.ndarray, np.ndarray]]()
    for W in weights:
        heights, slopes = W @ z, W @ jacobian
        walls.append((heights, slopes))
        z, jacobian = np.maximum(heights, 0), slopes * (heights > 0)[:, None]
        if (heights > 0).sum() < len(x):
            break
    else:
        raise ValueError(f"at x every layer has {len(x)} active neurons or more; there is no witness in its piece")
    d = np.linalg.svd(jacobian)[2][-1]
    room = [np.abs(heights) / np.maximum(np.abs(slopes @ d), 1e-300) for heights, slopes in walls]
    step = 0.999 * min(np.concatenate(room).min(), np.linalg.norm(x))
    if not step > 0:
        raise ValueError("x lies on the border of its piece; give an input at which no pre-activation is zero")
    return of_network(weights, x + step * d, x - step * d)


def _outputs(rows: list[Vector], x: Vector) -> Vector:
    return [max(_dot(row, x), Fraction(0)) for row in rows]


def _difference(W: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(np.maximum(W @ first, 0) - np.maximum(W @ second, 0)).max())


def _dot(a: Vector, b: Vector) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def _whole(row: Vector) -> list[int]:
    """The row times the least common multiple of its denominators, powers of two where it came from floats."""
    scale = max((v.denominator for v in row), default=1)
    return [int(v * scale) for v in row]


def _orthogonal_to(rows: list[Vector], n: int) -> Vector | None:
    """A vector orthogonal to all rows, or None if they span R^n."""
    left, pivots, previous = [_whole(row) for row in rows], list[int](), 1
    reduced = list[list[int]]()
    for column in range(n):
        at = next((i for i, row in enumerate(left) if row[column]), None)
        if at is None:
            continue
        top = left.pop(at)
        left = [
            [(top[column] * v - row[column] * t) // previous for v, t in zip(row, top, strict=True)] for row in left
        ]
        previous = top[column]
        pivots.append(column)
        reduced.append(top)
    free = next((c for c in range(n) if c not in pivots), None)
    if free is None:
        return None
    d = [Fraction(int(c == free)) for c in range(n)]
    for column, row in zip(reversed(pivots), reversed(reduced), strict=True):
        d[column] = -sum((row[c] * d[c] for c in range(column + 1, n)), Fraction(0)) / row[column]
    return d
