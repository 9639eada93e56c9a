"""Fewest active neurons, and injectivity, of any ReLU layer x -> ReLU(W x): rows may repeat, oppose or depend.

Directions x that no row is orthogonal to fall into open cells, on each of which the set A of active rows, <w_i, x> > 0,
is one and the same. Moving x a little never makes a strictly positive row inactive, so the layer is injective iff A
spans R^n in every open cell (Puthawala et al., arXiv 2006.08464, Theorem 2), and
    k* = min over the open cells of #A
is Tukey's halfspace depth of the origin among the rows that are not zero. In general position the two are one question:
A spans iff #A >= n. Elsewhere they are not. [B; -B] with B orthogonal has k* = n and is injective; copies of
two rows, however many, span no more than a plane.

On the non-negative orthant the cells are those that meet its interior. (Two inputs with one output have a whole segment
of such between them, and rows not constant on it are negative inside it. If the segment lies in a face of the orthant,
points of the interior nearby have the same active rows, and these do not span R^n either.) The coordinate vectors join
the arrangement as rows that must be positive.

*Vertices and flats.* Parallel rows are one line with two weights, the rows active on either side. Once the rows span,
a cell is pointed: it has a vertex, a ray v on which n-1 independent lines vanish. Let Z be all the lines that vanish
at v. The cells around v are those of the arrangement Z in the hyperplane of v; the other lines have one sign there. So
    k* = min over v of (weights of the other lines on the side of v) + k*(Z),
where k*(Z) is the sum of the smaller weights if Z is independent (every choice of sides is a cell), and else a smaller
problem of the same kind. The spanning test goes the same way, with the lines on the side of v handed down. A flat that
can have no fewer active rows than the least known, and where the rows handed down span already, is not gone into.
Each vertex is looked at once, from the first independent subset of Z in the order of lines: subsets are taken in order,
their rows projected out one at a time, and with two dimensions left the vertices are the normals of the lines.

Float64 throughout. A row of length 1 within TOLERANCE of a subspace is taken to lie in it: right for small whole
numbers such as signs, and for rows whose dependences hold to rounding.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sweeps.compiled import compiled

TOLERANCE = 1e-9
FORBIDDEN = 2**40
"""Weight of the side of a coordinate hyperplane that lies outside the orthant."""

LEAST, DEFICIENT, RAYS = 0, 1, 2  # what is known so far: fewest active rows; a cell that does not span; rays below n


def examine(W: np.ndarray, *, orthant: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(k*, whether the layer is injective, rays on which fewer than n rows are strictly positive), by network.

    `W` is float64 (networks, m, n), with any rows; k* and the rays are int64 (networks,). With `orthant` inputs are
    those x >= 0, and rays those in it. Where the rows do not span R^n, and inputs are all of R^n, there are infinitely
    many rays, told as -1.
    """
    found = [_examined(w, orthant)[0] for w in W]
    known = np.array(found, np.int64).reshape(len(W), 3)
    return known[:, LEAST], known[:, DEFICIENT] == 0, known[:, RAYS]


def deficient_direction(W: np.ndarray, *, orthant: bool = False) -> np.ndarray | None:
    """A direction, float64 (n,), in an open cell whose active rows do not span R^n; None if the layer is injective.

    `W` is float64 (m, n). With `orthant` the direction is positive.
    """
    known, steps = _examined(W, orthant)
    if not known[DEFICIENT]:
        return None
    return _inside(_units(np.concatenate([W, np.eye(W.shape[1])]) if orthant else W), steps)


def _examined(W: np.ndarray, orthant: bool) -> tuple[np.ndarray, np.ndarray]:
    m, n = W.shape
    units = _units(np.concatenate([np.eye(n), W]) if orthant else W)
    lines, plus, minus = _merge(units, n if orthant else 0, FORBIDDEN)
    return _cells(lines, plus, minus, m + 1)


def _units(W: np.ndarray) -> np.ndarray:
    """The rows that are not zero, scaled to length 1."""
    largest = np.abs(W).max(axis=1, keepdims=True, initial=0)
    W = np.where(largest > 0, W / np.where(largest > 0, largest, 1), 0)[largest[:, 0] > 0]
    return np.ascontiguousarray(W / np.linalg.norm(W, axis=1, keepdims=True))


def _inside(units: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The point of the cell that is reached by ever smaller steps, from a vertex of the arrangement into a flat's."""
    x = np.zeros(units.shape[1])
    for step in steps[::-1]:
        if not step.any():
            continue
        here, further = units @ step, units @ x
        away = np.abs(here) > TOLERANCE
        room = np.abs(here[away]) / np.maximum(np.abs(further[away]), 1e-300)
        x = step + min(0.5 * room.min(initial=1.0), 1.0) * x
    return x / np.linalg.norm(x) if x.any() else np.full(len(x), len(x) ** -0.5)  # no rows: any direction


@compiled
def _copy(row, out):
    for q in range(len(row)):
        out[q] = row[q]


@compiled
def _merge(units, constraints, forbidden):
    """Lines (count, n), and the rows active on either side; the first `constraints` rows must be positive."""
    total, n = units.shape
    lines, count = np.empty((total, n)), 0
    plus, minus = np.zeros(total, np.int64), np.zeros(total, np.int64)
    for i in range(total):
        at, along = count, 1.0
        for j in range(count):
            same, opposite = 0.0, 0.0
            for q in range(n):
                same = max(same, abs(units[i, q] - lines[j, q]))
                opposite = max(opposite, abs(units[i, q] + lines[j, q]))
            if min(same, opposite) <= TOLERANCE:
                at, along = j, 1.0 if same <= opposite else -1.0
                break
        if at == count:
            _copy(units[i], lines[count])
            count += 1
        if i < constraints:
            minus[at] += forbidden
        elif along > 0:
            plus[at] += 1
        else:
            minus[at] += 1
    return lines[:count].copy(), plus[:count].copy(), minus[:count].copy()


@compiled
def _extend(base, rank, row):
    """Rank of base[:rank], orthonormal, with `row`, which is added to it if it is independent."""
    n = base.shape[1]
    rest = row.copy()
    for _ in range(2):  # twice is enough
        for k in range(rank):
            product = 0.0
            for q in range(n):
                product += base[k, q] * rest[q]
            for q in range(n):
                rest[q] -= product * base[k, q]
    square = 0.0
    for q in range(n):
        square += rest[q] * rest[q]
    norm = np.sqrt(square)
    if norm <= TOLERANCE:
        return rank
    for q in range(n):
        base[rank, q] = rest[q] / norm
    return rank + 1


@compiled
def _rank(rows):
    n = rows.shape[1]
    base, rank = np.zeros((n, n)), 0
    for i in range(len(rows)):
        if rank < n:
            rank = _extend(base, rank, rows[i])
    return rank


@compiled
def _project(rows, i, out):
    """Every row's part orthogonal to row i; what is within TOLERANCE of it becomes zero."""
    square = 0.0
    for q in range(rows.shape[1]):
        square += rows[i, q] * rows[i, q]
    for z in range(len(rows)):
        product, rest = 0.0, 0.0
        for q in range(rows.shape[1]):
            product += rows[z, q] * rows[i, q]
        product /= square
        for q in range(rows.shape[1]):
            out[z, q] = rows[z, q] - product * rows[i, q]
            rest += out[z, q] * out[z, q]
        if z == i or rest <= TOLERANCE * TOLERANCE:
            for q in range(rows.shape[1]):
                out[z, q] = 0.0


@compiled
def _is_zero(row):
    zero = True
    for q in range(len(row)):
        zero &= row[q] == 0
    return zero


@compiled
def _repeats(rows, out, i):
    """Whether a row before i vanishes just now: then the subset is not the first that gives its vertices."""
    found = False
    for z in range(i):
        found |= not _is_zero(rows[z]) and _is_zero(out[z])
    return found


@compiled
def _plane(rows):
    """An orthonormal basis (2, n) of the plane that the rows span, and their coordinates (2, lines) in it."""
    total, n = rows.shape
    axes, at = np.zeros((2, n)), np.zeros((2, total))
    for axis in range(2):
        longest, most = 0.0, -1
        for z in range(total):
            square = -at[0, z] * at[0, z]
            for q in range(n):
                square += rows[z, q] * rows[z, q]
            if square > longest:
                longest, most = square, z
        square = 0.0
        for q in range(n):
            axes[axis, q] = rows[most, q] - at[0, most] * axes[0, q]
            square += axes[axis, q] * axes[axis, q]
        for q in range(n):
            axes[axis, q] /= np.sqrt(square)
        for z in range(total):
            for q in range(n):
                at[axis, z] += rows[z, q] * axes[axis, q]
    return axes, at


@compiled
def _least(plus, minus):
    least = 0
    for z in range(len(plus)):
        least += min(plus[z], minus[z])
    return least


@compiled
def _into_corner(lines, plus, minus, out):
    """A direction on that side of each of the independent lines where fewer rows are active."""
    base = np.zeros((len(lines), lines.shape[1]))
    for z in range(len(lines)):
        _extend(base, z, lines[z])
        here, slope = 0.0, 0.0
        for q in range(lines.shape[1]):
            here += out[q] * lines[z, q]
            slope += base[z, q] * lines[z, q]
        side = 1.0 if plus[z] <= minus[z] else -1.0
        for q in range(lines.shape[1]):
            out[q] += (side - here) / slope * base[z, q]


@compiled
def _corner(lines, plus, minus, flat, found, known):
    """Independent lines: any choice of sides is a cell. The one with fewest active rows has the least rank too."""
    count, _, level, rank, base, steps = flat
    count += _least(plus, minus)
    known[LEAST] = min(known[LEAST], count)
    if known[DEFICIENT] or count >= FORBIDDEN:
        return
    for z in range(len(lines)):
        if rank < lines.shape[1] and min(plus[z], minus[z]) > 0:
            rank = _extend(base, rank, lines[z])
    if rank < lines.shape[1]:
        known[DEFICIENT] = 1
        for i in range(len(steps)):
            _copy(steps[i], found[i])
        _into_corner(lines, plus, minus, found[level])


@njit(inline="always")
def _weight(plus, minus, sides, turn, z):
    """Active rows of line z at a vertex, on its side `turn`; none where the line vanishes."""
    side = sides[z] * turn
    return plus[z] if side > 0 else minus[z] if side < 0 else 0


@compiled
def _spans(basis, plus, minus, sides, turn):
    """Whether lines that were found to span what was missing are active here too."""
    found = True
    for z in basis:
        found &= z >= 0 and _weight(plus, minus, sides, turn, z) > 0
    return found


@compiled
def _around(lines, plus, minus, sides, turn, vanish, flat, basis, todo, found, known):
    """The cells around a vertex, on a side where `vanish` lines vanish and `flat[0]` others are active: looked at, or
    put down where those lines are dependent."""
    count, d, level, rank, base, steps = flat
    n, base, first = lines.shape[1], base.copy(), rank
    for z in range(len(lines)):
        if rank < n and _weight(plus, minus, sides, turn, z) > 0:
            before, rank = rank, _extend(base, rank, lines[z])
            if rank > before:
                basis[before - first] = z
    if rank < n:
        for k in range(len(basis)):
            basis[k] = -1
    kept, at = np.empty((vanish, n)), 0
    one, other = np.empty(vanish, np.int64), np.empty(vanish, np.int64)
    for z in range(len(lines)):
        if sides[z] == 0:
            _copy(lines[z], kept[at])
            one[at], other[at] = plus[z], minus[z]
            at += 1
    if rank < n or count + _least(one, other) < known[LEAST]:
        below = (count, d - 1, level + 1, rank, base, steps)
        if vanish == d - 1:
            _corner(kept, one, other, below, found, known)
        else:
            todo.append((kept, one, other, below))


@compiled
def _sides(at, x, y, i, sides, plus, minus):
    """Signs of the lines at the normal (x, y) of line i, and the numbers of active rows on either side of it."""
    one, other = 0, 0
    for z in range(len(sides)):
        h = x * at[0, z] + y * at[1, z]
        positive, negative = (h > TOLERANCE) & (z != i), (h < -TOLERANCE) & (z != i)
        sides[z] = positive - np.int8(negative)
        one += positive * plus[z] + negative * minus[z]
        other += positive * minus[z] + negative * plus[z]
    return one, other


@compiled
def _vanishing(at, i, sides, plus, minus):
    """(how many lines vanish, at least how many of their rows are active, whether i is the first with this normal)."""
    vanish, least, first = 0, 0, True
    for z in range(len(sides)):
        if sides[z] == 0:
            vanish += 1
            least += min(plus[z], minus[z])
            first &= z >= i or (at[0, z] == 0 and at[1, z] == 0)
    return vanish, least, first


@compiled
def _leaf(rows, start, lines, plus, minus, flat, bases, todo, found, known):
    """All the vertices in a plane, on both sides."""
    count, d, level, rank, base, steps = flat
    missing, sides = lines.shape[1] - rank, np.empty(len(lines), np.int8)
    axes, at = _plane(rows)
    for i in range(start, len(lines)):
        if at[0, i] == 0 and at[1, i] == 0:
            continue
        norm = np.hypot(at[0, i], at[1, i])
        x, y = -at[1, i] / norm, at[0, i] / norm
        one, other = _sides(at, x, y, i, sides, plus, minus)
        vanish, least, first = _vanishing(at, i, sides, plus, minus)
        if not first:
            continue
        for turn, here in ((1, count + one), (-1, count + other)):
            known[RAYS] += level == 0 and here < lines.shape[1]
            basis = bases[(turn + 1) // 2, :missing]
            if here + least >= min(known[LEAST], FORBIDDEN) and (
                here + least >= FORBIDDEN or known[DEFICIENT] or _spans(basis, plus, minus, sides, turn)
            ):
                continue
            further = steps.copy()
            for q in range(lines.shape[1]):
                further[level, q] = turn * (x * axes[0, q] + y * axes[1, q])
            vertex = (here, d, level, rank, base, further)
            _around(lines, plus, minus, sides, turn, vanish, vertex, basis, todo, found, known)


@compiled
def _vertices(lines, plus, minus, flat, todo, found, known):
    """Go through the vertices of the lines in the d dimensions that they span."""
    total, n = lines.shape
    d = flat[1]
    rows, bases = np.zeros((d, total, n)), np.full((2, n), -1)  # by the number of lines projected out; by side
    for z in range(total):
        _copy(lines[z], rows[0, z])
    chosen, depth = np.full(d, -1), 0
    while depth >= 0:
        if depth == d - 2:
            start = chosen[depth - 1] + 1 if depth else 0
            _leaf(rows[depth], start, lines, plus, minus, flat, bases, todo, found, known)
            depth -= 1
            continue
        chosen[depth] += 1
        i = chosen[depth]
        if i >= total:
            depth -= 1
        elif not _is_zero(rows[depth, i]):
            _project(rows[depth], i, rows[depth + 1])
            if not _repeats(rows[depth], rows[depth + 1], i):
                depth += 1
                chosen[depth] = i


@compiled
def _cells(lines, plus, minus, most):
    """What is known in the end, and the steps from a vertex into a cell that does not span; `most` is too many."""
    n = lines.shape[1]
    known, found, rank = np.array([most, 0, 0]), np.zeros((n + 1, n)), _rank(lines)
    todo = [(lines, plus, minus, (0, rank, 0, 0, np.zeros((n, n)), np.zeros((n + 1, n))))]
    while len(todo):
        lines, plus, minus, flat = todo.pop()
        if len(lines) == flat[1] and flat[1] < 2:
            _corner(lines, plus, minus, flat, found, known)
        elif not known[DEFICIENT] or flat[0] + _least(plus, minus) < known[LEAST]:
            _vertices(lines, plus, minus, flat, todo, found, known)
    if rank < n:
        known[RAYS] = -1
    return known, found
