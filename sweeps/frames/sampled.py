"""Maximal bias of a layer by sampling: every direction needs the n rows most correlated with it.

For a direction u, |u| = 1, let I(u) be the n rows of largest <u, phi_i>, which for rows in general position are a basis
of R^n. With alpha_i <= min {<u, phi_i>: i in I(u)} over some directions, I(u) is active at each of them, and the layer
x -> ReLU(<x, phi_i> - alpha_i) loses nothing there. The minimum over a sample falls to that over the domain as the
sample grows. Haider, Ehler, Balazs, "Injectivity of ReLU-layers: Perspectives from Frame Theory" (arXiv 2406.15856).

Of rows that may be dependent I(u) is the basis that takes rows in falling correlation and leaves out those in the span
of those taken.

A direction lowers a bias if a row with <u, phi_i> < alpha_i is in I(u), which soon is rare. So products are taken in
float32, off by less than EPS = (n + 8) 2^-24 for rows and directions of length 1 (Higham, "Accuracy and Stability of
Numerical Algorithms", section 3.1), and most directions are put aside: where the rows with products above c + 2 EPS
have rank n, c the largest product below alpha_i + EPS of its row. What decides of the others is computed in float64,
row by row. So the answer depends neither on how products are made nor on how directions are cut into chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.compiled import compiled
from sweeps.errors import OutsideError
from sweeps.frames.active import frame

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 2**22  # entries of a chunk of directions and of their products
PART = 2**18  # the same of what a CPU works on at once, which stays in its cache
FIRST = 2**10  # directions that a GPU looks at first; then as many as it has seen
DEPENDENT = 1e-9  # largest distance of a row of length 1 from a span that it lies in
NONE = np.float32(-9.0)  # below any product

unordered = partial(compiled, fastmath=("nnan", "nsz"))  # maxima of as many numbers at a time as vectors hold
reordered = partial(compiled, fastmath=("contract", "reassoc"))  # sums in as many parts as vectors hold


def chunk(m: int, n: int) -> int:
    """Directions to make at a time."""
    return max(1, CHUNK // (m + n))


def sampled_bias(
    rows: np.ndarray, directions: Iterable[np.ndarray | Tensor], *, general: bool, device: str = "cpu"
) -> np.ndarray:
    """The least <u, phi_i> of every row over the directions u that need it, float64 (m,); +inf for a row of none.

    `rows` are (m, n), of length 1; `directions` come in chunks (k, n) of any k, of length 1, on the CPU or on `device`.
    `general` says that the rows are in general position, which is faster, and alone makes use of a GPU. Of rows that
    are equally correlated with u at the n-th place all are taken then, and the first one otherwise.

    Raises:
        OutsideError: the rows do not span R^n.
    """
    rows = np.ascontiguousarray(rows, np.float64)
    m, n = rows.shape
    if (rank := frame(rows)[0]) < n:
        raise OutsideError(f"the {m} rows must span all {n} dimensions, and span {rank}")
    bias, narrow, lower = np.full(m, np.inf), rows.astype(np.float32), _lower_general if general else _lower_any
    if device == "cpu" or not general:
        parts = map(_as_array, _cut(directions, lambda _: max(1, PART // (m + n))))
    else:
        doubtful = partial(Screen(rows, device).doubtful, bias=bias)
        parts = map(doubtful, _cut(directions, lambda seen: max(FIRST, seen)))
    for part in parts:
        lower(bias, rows, part, part.astype(np.float32) @ narrow.T, error(n))
    return bias


def _cut(directions: Iterable[Any], size: Callable[[int], int]) -> Iterator[Any]:
    """Parts of the chunks, `size` of the number of directions before."""
    seen = 0
    for block in directions:
        first = 0
        while first < len(block):
            part = block[first : first + size(seen)]
            first, seen = first + len(part), seen + len(part)
            yield part


def _as_array(block: np.ndarray | Tensor) -> np.ndarray:
    return np.ascontiguousarray(block if isinstance(block, np.ndarray) else block.cpu().numpy(), np.float64)


def error(n: int) -> float:
    """EPS."""
    return (n + 8) * 2.0**-24


class Screen:
    """Puts directions aside on a device, many at once, for rows in general position."""

    def __init__(self, rows: np.ndarray, device: str) -> None:
        import torch

        exact = torch.backends.cuda.matmul.allow_tf32  # products in float32 would be off by more than EPS
        self.rows = torch.from_numpy(rows).to(device, torch.float64 if exact else torch.float32)
        self.eps = error(rows.shape[1])

    def doubtful(self, part: np.ndarray | Tensor, bias: np.ndarray) -> np.ndarray:
        """The directions that may lower a bias by themselves, float64 (k, n)."""
        import torch

        part = torch.as_tensor(part, device=self.rows.device)
        products = part.to(self.rows.dtype) @ self.rows.T
        near = torch.from_numpy(bias + self.eps).to(products)
        best = torch.where(products < near, products, float(NONE)).amax(1, keepdim=True)
        above = (products > best + 2 * self.eps).sum(1)
        return _as_array(part[(above < self.rows.shape[1]) & (best[:, 0] > float(NONE))])


@compiled
def _lower_general(bias, rows, directions, products, eps):
    """Lower biases by what directions need, given their products, for rows in general position."""
    m, n = rows.shape
    near = _near(bias, eps, np.empty(m, np.float32))
    for k in range(len(directions)):
        looked_at = 0
        while True:  # at one row after the other, in falling correlation, until all others are out
            best = _best_below(products[k], near)
            if best == NONE or _count_above(products[k], best + np.float32(2 * eps)) >= n:
                break
            i, looked_at = _find(products[k], near, best), looked_at + 1
            near[i] = NONE
            value = _dot(rows[i], directions[k])
            if value < bias[i] and _is_among_largest(rows, directions[k], products[k], i, value, eps):
                bias[i] = value
        if looked_at:
            _near(bias, eps, near)


@compiled
def _lower_any(bias, rows, directions, products, eps):
    """The same for any rows that span all dimensions."""
    m, n = rows.shape
    near = _near(bias, eps, np.empty(m, np.float32))
    basis, exact = np.empty((n, n)), np.empty(m)
    for k in range(len(directions)):
        best = _best_below(products[k], near)
        limit = best + np.float32(2 * eps)
        if best == NONE or (_count_above(products[k], limit) >= n and _span(rows, products[k], limit, basis)):
            continue
        for i in range(m):
            exact[i] = _dot(rows[i], directions[k])
        _take_basis(bias, rows, exact, basis)
        _near(bias, eps, near)


@compiled
def _near(bias, eps, near):
    """What products are held against."""
    for i in range(len(bias)):
        near[i] = bias[i] + eps
    return near


@unordered
def _best_below(products, near):
    """The largest product below what it is held against."""
    best = NONE
    for i in range(len(products)):
        best = max(best, products[i] if products[i] < near[i] else NONE)
    return best


@compiled
def _find(products, near, best):
    """Whose it is."""
    for i in range(len(products)):
        if products[i] == best and best < near[i]:
            return i
    return -1


@compiled
def _count_above(products, limit):
    count = np.int32(0)
    for i in range(len(products)):
        count += np.int32(products[i] > limit)
    return count


@compiled
def _is_among_largest(rows, u, products, i, value, eps):
    """Whether fewer than n rows are more correlated with u than row i is, by `value`."""
    above = 0
    for j in range(len(rows)):
        if products[j] > products[i] + 2 * eps:
            above += 1
        elif products[j] > products[i] - 2 * eps:
            above += _dot(rows[j], u) > value
    return above < rows.shape[1]


@compiled
def _span(rows, products, limit, basis):
    """Whether the rows with products above a limit have rank n; `basis` is room."""
    rank = 0
    for i in range(len(rows)):
        if products[i] > limit and _extends(rows[i], basis, rank):
            rank += 1
            if rank == rows.shape[1]:
                return True
    return False


@compiled
def _take_basis(bias, rows, exact, basis):
    """Lower the biases of the basis that takes rows in falling order of `exact`, which is used up."""
    rank = 0
    for _ in range(len(exact)):
        i = 0
        for j in range(1, len(exact)):
            i = j if exact[j] > exact[i] else i
        if _extends(rows[i], basis, rank):
            rank += 1
            bias[i] = min(bias[i], exact[i])
            if rank == rows.shape[1]:
                return
        exact[i] = NONE


@compiled
def _extends(row, basis, rank):
    """Whether a row is outside the span of the first `rank` of an orthonormal basis; then it becomes the next."""
    new = basis[rank]
    for c in range(len(row)):
        new[c] = row[c]
    before, length = np.inf, 1.0
    while 10 * length < before:  # once more where much cancelled
        before = length
        for j in range(rank):
            _project_out(new, basis[j])
        length = math.sqrt(_dot(new, new))
        if length <= DEPENDENT:
            return False
    for c in range(len(row)):
        new[c] /= length
    return True


@compiled
def _project_out(new, unit):
    along = _dot(new, unit)
    for c in range(len(new)):
        new[c] -= along * unit[c]


@reordered
def _dot(a, b):
    total = 0.0
    for c in range(len(a)):
        total += a[c] * b[c]
    return total
