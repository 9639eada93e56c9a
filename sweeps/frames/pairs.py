"""Two inputs of a domain K with one output of a layer x -> ReLU(W x - alpha), from an input whose active rows do not
span R^n.

Inputs with one output have one set of active rows, and on it one W x. So the second input is x + d with d in the null
space N of the rows active at x, where the inactive rows stay inactive.

- In a ball, a donut or a non-negative ball there is room both ways along a d unless x is on K's border.
- A sphere is kept by moving the part y of x in N on the sphere |y| = const of N. Where N is a plane or more, y turns
  as far as the inactive rows let it. Where N is a line, the only other point is x - 2 y, which inactive rows may
  forbid: then x has no partner, though its active rows have rank n-1 only.
"""

from __future__ import annotations

import math

import numpy as np

from sweeps.frames.domain import Domain
from sweeps.witness import TOLERANCE, Witness

EQUAL = 1e-12
"""Outputs this near, in units of the largest |w_i| |x| + |alpha_i|, are equal: a thousand times what rounding does."""
APART = 1e-6
"""Inputs at least this far apart, in units of K's radius, are different: a million times as far as outputs may be."""
Pair = tuple[np.ndarray, np.ndarray]
SHY = 0.999
"""How far of the way to what forbids it, so that no row turns active by rounding."""


def pair(W: np.ndarray, alpha: np.ndarray | float, domain: Domain, x: np.ndarray) -> Witness | None:
    """Two different inputs of K with one output, found from x in K; None where x gives none.

    `W` is float64 (m, n) with rows of any length, `alpha` (m,) or one number in units of W x, `x` float64 (n,). None
    is for data, an x outside K or whose active rows span R^n, for a sphere where x has no partner (the layer
    may still be injective on it), and for what would be too near to tell apart from rounding.
    """
    alpha = np.broadcast_to(np.asarray(alpha, np.float64), len(W))
    if domain.kind == "data" or not _contains(domain, x):
        return None
    on = W @ x > alpha
    null = _null_space(W[on], len(x))
    if domain.smallest == domain.radius:
        ends = _on_sphere(W[~on], alpha[~on], x, null)
    else:
        ends = _on_lines(W[~on], alpha[~on], x, null, domain)
    first, second = max(ends, key=lambda both: float(np.linalg.norm(both[0] - both[1])), default=(x, x))
    gaps = np.abs(np.maximum(W @ first - alpha, 0) - np.maximum(W @ second - alpha, 0))
    scale = np.linalg.norm(W, axis=1) * domain.radius + np.abs(alpha)
    why = f"{on.sum()} of {len(W)} rows are active at both, and do not span R^{len(x)}"
    found = Witness(first, second, float(gaps.max(initial=0.0)), why)
    inside = _contains(domain, first) and _contains(domain, second)
    return found if inside and (gaps <= EQUAL * scale).all() and found.distance > APART * domain.radius else None


def _contains(domain: Domain, x: np.ndarray) -> bool:
    length, slack = float(np.linalg.norm(x)), EQUAL * domain.radius
    near = domain.smallest - slack <= length <= domain.radius + slack
    return near and (not domain.positive or bool((x >= 0).all()))


def _null_space(rows: np.ndarray, n: int) -> np.ndarray:
    """An orthonormal basis (d, n) of what is orthogonal to the rows; within TOLERANCE of a subspace they lie in it."""
    rows = rows[rows.any(axis=1)]
    if not len(rows):
        return np.eye(n)
    _, values, basis = np.linalg.svd(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return basis[(values > TOLERANCE).sum() :]


def _on_lines(off: np.ndarray, alpha: np.ndarray, x: np.ndarray, null: np.ndarray, domain: Domain) -> list[Pair]:
    """The ends of what is in K of lines through x, along the basis of the null space and along x's part in it."""
    if domain.positive:
        off, alpha = np.vstack([off, -np.eye(len(x))]), np.append(alpha, np.zeros(len(x)))
    part = null.T @ (null @ x)
    length = float(np.linalg.norm(part))
    lines = [*null, *([part / length] if length > APART * domain.radius else [])]
    spans = [_span(off @ v, alpha - off @ x, x, v, domain) for v in lines]
    return [(x + SHY * low * v, x + SHY * high * v) for v, (low, high) in zip(lines, spans, strict=True)]


def _span(slopes: np.ndarray, rooms: np.ndarray, x: np.ndarray, v: np.ndarray, domain: Domain) -> tuple[float, float]:
    """For which t around 0 x + t v is in K and t slopes <= rooms."""
    up, down = slopes > 0, slopes < 0
    c, square = float(x @ v), float(x @ x)
    outer = math.sqrt(max(0.0, c * c + domain.radius**2 - square))
    low = max([-c - outer, *(rooms[down] / slopes[down])])
    high = min([-c + outer, *(rooms[up] / slopes[up])])
    inner = c * c + domain.smallest**2 - square
    if inner > 0 and c < 0:
        high = min(high, -c - math.sqrt(inner))
    elif inner > 0:
        low = max(low, -c + math.sqrt(inner))
    return min(low, 0.0), max(high, 0.0)


def _on_sphere(off: np.ndarray, alpha: np.ndarray, x: np.ndarray, null: np.ndarray) -> list[Pair]:
    """x's reflection, and the ends of what is allowed of great circles along the null space."""
    y = null.T @ (null @ x)
    length = float(np.linalg.norm(y))
    if length == 0:
        return []
    turned = null - np.outer(null @ y, y) / length**2
    basis = np.linalg.svd(turned)[2][: len(null) - 1]
    rooms = alpha - off @ (x - y)
    spans = [_turns(off @ y, length * (off @ u), rooms) for u in basis]
    ends = [[_turned(x, y, length * u, SHY * t) for t in span] for u, span in zip(basis, spans, strict=True)]
    mirror = [(x, x - 2 * y)] if (off @ y >= -rooms).all() else []
    return mirror + [(first, second) for first, second in ends]


def _turned(x: np.ndarray, y: np.ndarray, aside: np.ndarray, t: float) -> np.ndarray:
    return x - y + math.cos(t) * y + math.sin(t) * aside


def _turns(a: np.ndarray, b: np.ndarray, rooms: np.ndarray) -> tuple[float, float]:
    """For which t around 0, a quarter turn at most, a cos t + b sin t <= rooms."""
    most = np.hypot(a, b)
    cut = (most > rooms) & (most > 0)
    middle, half = np.arctan2(b, a)[cut], np.arccos(np.clip(rooms[cut] / most[cut], -1, 1))
    high, low = (middle - half) % math.tau, (middle + half) % math.tau - math.tau
    return max([-math.pi / 2, *low]), min([math.pi / 2, *high])
