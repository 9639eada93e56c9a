"""Fewest active rows of a layer with a bias over the cells of a domain K, exactly: whether every cell has n of them.

The hyperplanes <x, phi_i> = b_i cut K in open cells; on a cell the active rows, <x, phi_i> > b_i, are the same. In
general position they span R^n where they are n or more, so that the rows are alpha-rectifying on K (Haider, Ehler,
Balazs, arXiv 2307.09672) if and only if no cell has fewer than n.

The closure of a cell has a face of least dimension inside K, and that face is whole: no other hyperplane crosses it.
It is one of

- the part in the ball of a flat on which k < n rows vanish, seen at x0, its point nearest to the origin, where |x0| is
  at least the donut's inner radius;
- the points |x| = r of such a flat, k < n-1, on the sphere of radius r, or the donut's inner one: any of them will do;
- for k = n-1 an end of what is in K of a line, or for k = n a vertex on it: between two of them the count is constant.

Beside it the k rows can all be off, so the count is that of the others, which are the same all over it. Conversely,
beside any point of a flat where no further row vanishes there is such a cell. Of the non-negative ball, the n planes
x_j = 0 take part as walls that are approached from inside and do not count. sweeps.frames.cells_search enumerates.

Position need not be general. All biases are lowered by random amounts of about LOWERED, which makes it so. Lowering
activates rows and never silences one, so no cell of the lowered biases has fewer than its part of the cells that were
there; and the best of those keeps its count, unless it is as thin as LOWERED. Where x is, is counted with the biases
as they are, at the analytic centre of its cell, which Newton's method finds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sweeps.frames.cells_search import levels, search
from sweeps.frames.domain import Domain, Kind

LOWERED = 1e-9
"""In units of K's radius: far above the rounding of flats, far below the width of cells."""
STEPS = 100
"""Most steps to a cell's centre; from a corner it takes some 10 to 40."""


def fewest_active(rows: np.ndarray, bias: np.ndarray | float, domain: Domain) -> tuple[int, np.ndarray]:
    """Least number of rows with <x, phi_i> > bias_i over the open cells of K, and x (n,) of K with that number.

    `rows` are float64 (m, n) of length 1, `bias` (m,) or one number for all. x is at the centre of a cell, away from
    where rows vanish; of data the least is over the inputs, and x is one of them. Exact but for cells thinner than
    1e-9 of the radius. `seconds` says what it costs.
    """
    return _found(rows, bias, domain, len(rows) + 1, 0)


def decided(rows: np.ndarray, bias: np.ndarray | float, domain: Domain) -> np.ndarray | None:
    """x (n,) of K with fewer than n active rows; None where every cell has n: in general position, alpha-rectifying.

    The arguments are those of `fewest_active`; the first such cell ends the search.
    """
    n = rows.shape[1]
    count, x = _found(rows, bias, domain, n, n - 1)
    return x if count < n else None


def candidates(m: int, n: int, kind: Kind) -> float:
    """How many flats of m rows in R^n there are at most to look at, lines the most of them."""
    hyperplanes = m + n if kind == "nonnegative" else m
    return 1.0 if kind == "data" else float(min(sum(math.comb(hyperplanes, k) for k in range(n)), 10**300))


def seconds(m: int, n: int, kind: Kind) -> float:
    """About how long a search of all of them takes on one core; it takes longest with biases near 0."""
    return 1e-3 + 1e-7 * m * candidates(m, n, kind)


def _found(rows: np.ndarray, bias: np.ndarray | float, domain: Domain, above: int, stop: int) -> tuple[int, np.ndarray]:
    """A count below `above` and where it is, the first of at most `stop` or the least; `above` and zeros if none is."""
    bias = np.broadcast_to(np.asarray(bias, np.float64), len(rows))
    if domain.data is not None:
        counts = (domain.data @ rows.T > bias).sum(axis=1)
        return int(counts.min()), domain.data[counts.argmin()]
    cut = _Cut.of(np.ascontiguousarray(rows, np.float64), bias, domain)
    n = rows.shape[1]
    subset, point = np.zeros(n, np.int64), np.zeros(n)
    count, size = search(levels(cut.normals, cut.bias), len(rows), cut.inner, above, stop, subset, point)
    if count == above:
        return above, point
    x = domain.radius * _centred(_beside(point, subset[:size], cut), cut)
    return min(count, int((rows @ x > bias).sum())), x


@dataclass(frozen=True)
class _Cut:
    """K in units of its radius, and what cuts it: the m rows with lowered biases, and behind them the walls."""

    normals: np.ndarray
    bias: np.ndarray
    m: int
    inner: float

    @staticmethod
    def of(rows: np.ndarray, bias: np.ndarray, domain: Domain) -> _Cut:
        m, n = rows.shape
        lowered = np.clip(bias / domain.radius, -2, 2)
        if n > 1 or domain.smallest < domain.radius:  # of two points there is no beside
            lowered = lowered - LOWERED * np.random.default_rng(0).uniform(1, 2, m)
        walls = np.eye(n) if domain.positive else np.zeros((0, n))
        bounds = np.concatenate([lowered, np.zeros(len(walls))])
        return _Cut(np.concatenate([rows, walls]), bounds, m, domain.smallest / domain.radius)

    @property
    def sphere(self) -> bool:
        return self.inner == 1

    def onto(self, points: np.ndarray) -> np.ndarray:
        return points / np.linalg.norm(points, axis=-1, keepdims=True) if self.sphere else points

    def borders(self, x: np.ndarray) -> list[float]:
        """How far |x|^2 is within the outer and, of a donut, the inner border; a sphere has none."""
        square = float(x @ x)
        both = [1 - square, square - self.inner**2]
        return [] if self.sphere else both if self.inner else both[:1]

    def counts(self, points: np.ndarray) -> np.ndarray:
        """Active rows at points (k, n); more than there are outside K."""
        heights = points @ self.normals.T - self.bias
        length = np.linalg.norm(points, axis=1)
        inside = (heights[:, self.m :] > 0).all(axis=1)
        if not self.sphere:
            inside &= (length < 1) & (length > self.inner)
        return np.where(inside, (heights[:, : self.m] > 0).sum(axis=1), self.m + 1)


def _beside(point: np.ndarray, subset: np.ndarray, cut: _Cut) -> np.ndarray:
    """A point of the cell of fewest active rows beside a point of the flat where those of `subset` vanish."""
    normals, signs = cut.normals[subset], np.where(subset < cut.m, -1.0, 1.0)
    gap = cut.inner**2 - float(point @ point)
    if gap > LOWERED:  # no row crosses the flat, so that any point of the sphere will do
        along = np.linalg.svd(normals)[2][-1] if len(subset) else np.eye(len(point))[0]
        point = point + math.sqrt(gap) * along
    if cut.inner and gap > -LOWERED:  # on the sphere: along it, or out of it
        normals, signs = np.vstack([normals, point]), np.append(signs, 0.0 if cut.sphere else 1.0)
    toward = np.linalg.lstsq(normals, signs, rcond=None)[0] if len(normals) else np.zeros_like(point)
    points = cut.onto(point + 0.5 ** np.arange(50)[:, None] * toward)
    return points[cut.counts(points).argmin()]


def _centred(x: np.ndarray, cut: _Cut) -> np.ndarray:
    """The analytic centre of the cell that x is in, by damped Newton steps, in the tangent space on a sphere."""
    sides = np.where(cut.normals @ x > cut.bias, 1.0, -1.0)
    normals, bias = sides[:, None] * cut.normals, sides * cut.bias
    value = _barrier(x, normals, bias, cut)
    for _ in range(STEPS if value < math.inf else 0):
        step, slope = _newton(x, normals, bias, cut)
        for shrink in 0.5 ** np.arange(40):
            tried = cut.onto(x + shrink * step)
            lower = _barrier(tried, normals, bias, cut)
            if lower < value + 0.1 * shrink * slope:
                break
        else:
            return x
        x, value = tried, lower
        if slope > -1e-3:
            return x
    return x


def _barrier(x: np.ndarray, normals: np.ndarray, bias: np.ndarray, cut: _Cut) -> float:
    """Minus the sum of the logarithms of what separates x from the hyperplanes and K's borders; inf outside."""
    rooms = np.concatenate([normals @ x - bias, cut.borders(x)])
    return -float(np.log(rooms).sum()) if (rooms > 0).all() else math.inf


def _newton(x: np.ndarray, normals: np.ndarray, bias: np.ndarray, cut: _Cut) -> tuple[np.ndarray, float]:
    """The step and the slope along it; what is not convex in the barrier of the inner sphere is left out."""
    scaled = normals / (normals @ x - bias)[:, None]
    slope, curve = -scaled.sum(axis=0), scaled.T @ scaled
    curve += (1 + 1e-15 * np.trace(curve)) * np.eye(len(x))  # never singular, even in a corner
    for room, sign in zip(cut.borders(x), (1, -1), strict=False):
        border = 2 * x / room
        slope, curve = slope + sign * border, curve + np.outer(border, border) + (sign > 0) * 2 / room * np.eye(len(x))
    tangent = np.linalg.svd(x[None])[2][1:].T if cut.sphere else np.eye(len(x))
    slope = tangent.T @ slope
    step = -np.linalg.solve(tangent.T @ curve @ tangent, slope)
    return tangent @ step, float(slope @ step)
