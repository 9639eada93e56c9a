"""The input x of a ReLU layer from its output y = ReLU(W x - alpha), from the rows that are active.

For I = {i: y_i > 0} the layer says <w_i, x> = y_i + alpha_i. Where these rows span R^n, x is the sum over I of
(y_i + alpha_i) dual_i, for every dual frame of theirs (Haider, Ehler, Balazs, arXiv 2307.09672):

- canonical: the canonical dual, which is least squares.
- facet: the dual basis of a facet of the rows' polytope (sweeps.frames.facets) all of whose rows are active, zero for
  the others: one n x n system. Of several facets it is the best conditioned, by its extreme singular values.
- iterative: the frame algorithm (sweeps.frames.frame_algorithm).
- constrained: its variant that also knows <w_i, x> <= alpha_i of the inactive rows. Where the active rows do not span,
  x is what the layer says only if these inequalities leave no other: if the rows that hold with equality at x,
  projected on what is orthogonal to the active ones, span it and have a vanishing combination with positive
  coefficients (Stiemke, Math. Ann. 1915). That is decided, and nothing is given where it is not so. Of x drawn from a
  density it never is.

Direct methods scale the rows to length 1 first, the iterations take W as it is. Dependence is a matter of rounding:
singular values of rows of length 1 below 1e-9 of the largest count as zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np
from scipy.linalg import get_lapack_funcs
from scipy.optimize import nnls

from sweeps.errors import NotInjectiveError, NotInRangeError, unknown
from sweeps.frames.active import TOLERANCE, frame, rank_of
from sweeps.frames.frame_algorithm import first_inside, frame_algorithm
from sweeps.frames.layers import numbers

Method = Literal["canonical", "facet", "iterative", "constrained"]
METHODS: tuple[Method, ...] = get_args(Method)
RANGE = 1e-6
"""Outputs that far off, compared with |w_i| |x| + |alpha_i| + y_i, are not in the layer's range; float32 is nearer."""
TIGHT, EXACT = 1e-6, 1e-12
"""Inactive rows as near as TIGHT to their bias at the iterate, compared with |x| + |alpha_i|, are tried as equalities,
which must then hold to EXACT."""
_GELS, _LWORK = get_lapack_funcs(("gels", "gels_lwork"), dtype=np.float64)
_FACETS = 1 << 14  # whose singular values are computed at a time


@dataclass(frozen=True)
class Reconstruction:
    """Of one output, or arrays with an entry for each of k outputs."""

    x: np.ndarray
    """Float64 (n,), or (k, n)."""
    iterations: int | np.ndarray
    """Steps made; 0 for direct methods. As many as `most`: the iteration was not finished, and x is where it stood."""
    residual: float | np.ndarray
    """The largest |ReLU(W x - alpha) - y|."""


def reconstruct(
    W: Any,
    alpha: Any,
    y: Any,
    method: Method = "canonical",
    *,
    facets: Any = None,
    tolerance: float = 1e-12,
    most: int = 100_000,
) -> Reconstruction:
    """The x with ReLU(W x - alpha) = y.

    `W` is (m, n), its rows of any length but 0; `alpha` (m,) or a number, in units of W x; `y` (m,) or (k, m).
    `facets`, integers (facets, n), are those of sweeps.frames.facets where none are given; only for "facet". Iterations
    stop where a step is not longer than `tolerance` |x|, or after `most`.

    Raises:
        NotInjectiveError: the active rows of an output do not span R^n, so that several x have it.
        NotInRangeError: no x has that output.
        OutsideError: there are no facets around 0.
        UnknownNameError, ValueError: the method, or arrays that do not fit it; no facet is active.
    """
    layer = _layer(W, alpha, method, facets, tolerance, most)
    outputs = _array("y", y)
    if outputs.ndim not in (1, 2) or outputs.shape[-1] != len(layer.W):
        raise ValueError(f"y must be ({len(layer.W)},) or (k, {len(layer.W)}), as W has rows, got {outputs.shape}")
    every = np.atleast_2d(outputs)
    _check_signs(every)
    found = [layer.solved(method, row) for row in every]
    residual = [_checked(layer, method, i, row, *one) for i, (row, one) in enumerate(zip(every, found, strict=True))]
    x = np.array([x for x, _ in found]).reshape(len(every), layer.W.shape[1])
    steps = np.array([steps for _, steps in found], np.int64)
    if outputs.ndim == 1:
        return Reconstruction(x[0], int(steps[0]), residual[0])
    return Reconstruction(x, steps, np.array(residual, np.float64))


def reconstructed(
    W: np.ndarray,
    alpha: np.ndarray,
    y: np.ndarray,
    method: Method,
    facets: np.ndarray | None = None,
    tolerance: float = 1e-12,
    most: int = 100_000,
) -> tuple[np.ndarray, np.ndarray]:
    """x (k, n), NaN where the method does not tell it, and steps (k,) of outputs of a layer, as of `reconstruct`.

    `y` (k, m) is taken to be in the layer's range. What is found for one output does not depend on the others.
    """
    layer = _Layer(W, np.broadcast_to(alpha, len(W)), tolerance, most, facets)
    found = [layer.solved(method, row) for row in y]
    x = np.array([x for x, _ in found], np.float64).reshape(len(y), W.shape[1])
    return x, np.array([steps for _, steps in found], np.int64)


@dataclass(frozen=True)
class _Layer:
    W: np.ndarray
    alpha: np.ndarray
    tolerance: float
    most: int
    given: np.ndarray | None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(self.W @ x - self.alpha, 0)

    def solved(self, method: Method, y: np.ndarray) -> tuple[np.ndarray, int]:
        """x (n,), NaN where the method does not tell it, and steps."""
        return _METHODS[method](self, y)

    @property
    def unknown(self) -> np.ndarray:
        return np.full(self.W.shape[1], np.nan)

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.linalg.norm(self.W, axis=1)

    @cached_property
    def unit(self) -> np.ndarray:
        return self.W / self.lengths[:, None]

    @cached_property
    def largest(self) -> float:
        """The largest eigenvalue of W^T W."""
        return frame(self.W)[2]

    @cached_property
    def facets(self) -> np.ndarray:
        """The best conditioned first; those without volume left out."""
        if self.given is None:
            from sweeps.frames.facets import facets

            found = facets(self.unit)
        else:
            found = self.given
        condition = np.concatenate(
            [self._condition(found[i : i + _FACETS]) for i in range(0, max(len(found), 1), _FACETS)]
        )
        order = np.argsort(-condition, kind="stable")
        return np.ascontiguousarray(found[order[condition[order] > TOLERANCE]], np.int64)

    def _condition(self, facets: np.ndarray) -> np.ndarray:
        singular = np.linalg.svd(self.unit[facets], compute_uv=False)
        return singular[:, -1] / singular[:, 0]

    def solution(self, chosen: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Least squares on the `chosen` rows, which span."""
        goals = (y + self.alpha)[chosen] / self.lengths[chosen]
        n = self.W.shape[1]
        return _GELS(self.unit[chosen], goals[:, None], lwork=int(_LWORK(len(chosen), n, 1)[0]))[1][:n, 0]


def _canonical(layer: _Layer, y: np.ndarray) -> tuple[np.ndarray, int]:
    chosen = np.flatnonzero(y > 0)
    if frame(layer.unit[chosen])[0] < layer.W.shape[1]:
        return layer.unknown, 0
    return layer.solution(chosen, y), 0


def _facet(layer: _Layer, y: np.ndarray) -> tuple[np.ndarray, int]:
    at = first_inside(layer.facets, y > 0)
    return (layer.unknown if at < 0 else layer.solution(layer.facets[at], y)), 0


def _iterative(layer: _Layer, y: np.ndarray) -> tuple[np.ndarray, int]:
    chosen = np.flatnonzero(y > 0)
    rank, A, B = frame(layer.W[chosen])
    if rank < layer.W.shape[1]:
        return layer.unknown, 0
    goals = (y + layer.alpha)[chosen]
    return frame_algorithm(layer.W[chosen], goals, len(chosen), (A, B, layer.largest), layer.tolerance, layer.most)


def _constrained(layer: _Layer, y: np.ndarray) -> tuple[np.ndarray, int]:
    active = y > 0
    rank, A, B = frame(layer.W[active])
    order = np.argsort(~active, kind="stable")
    x, steps = frame_algorithm(
        layer.W[order],
        (y + layer.alpha)[order],
        int(active.sum()),
        (A, B, layer.largest),
        layer.tolerance,
        layer.most,
    )
    return (x if rank == layer.W.shape[1] else _pinned(layer, y, x)), steps


_METHODS: dict[str, Callable[[_Layer, np.ndarray], tuple[np.ndarray, int]]] = {
    "canonical": _canonical,
    "facet": _facet,
    "iterative": _iterative,
    "constrained": _constrained,
}


def _pinned(layer: _Layer, y: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The one x `near` that active and inactive rows leave, or NaN."""
    active = y > 0
    goals = (y + layer.alpha) / layer.lengths
    tight = ~active & (_relative(layer, goals, near) <= TIGHT)
    chosen = np.flatnonzero(active | tight)
    if frame(layer.unit[chosen])[0] < layer.W.shape[1] or not _surround(layer.unit[active], layer.unit[tight]):
        return layer.unknown
    x = layer.solution(chosen, y)
    return x if (_relative(layer, goals, x)[chosen] <= EXACT).all() else layer.unknown


def _relative(layer: _Layer, goals: np.ndarray, x: np.ndarray) -> np.ndarray:
    scale = np.linalg.norm(x) + np.abs(goals)
    return np.abs(layer.unit @ x - goals) / np.where(scale > 0, scale, 1.0)


def _surround(active: np.ndarray, tight: np.ndarray) -> bool:
    """Whether `tight` rows, projected on what is orthogonal to the `active`, vanish with positive coefficients.

    Coefficients 1 + c with c >= 0 will do: they may be scaled.
    """
    rank = rank_of(active) if len(active) else 0
    lost = np.linalg.svd(active)[2][rank:] if len(active) else np.eye(tight.shape[1])
    projected = lost @ tight.T
    return nnls(projected, -projected.sum(axis=1), maxiter=100 * len(tight))[1] <= TOLERANCE * len(tight)


def _layer(W: Any, alpha: Any, method: str, facets: Any, tolerance: float, most: int) -> _Layer:
    if method not in get_args(Method):
        raise unknown("method", method, get_args(Method))
    if not isinstance(tolerance, Real) or not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be a number between 0 and 1, got {tolerance!r}")
    if not isinstance(most, Integral) or most < 1:
        raise ValueError(f"most must be a whole number, at least 1, got {most!r}")
    rows, biases = _array("W", W), _array("alpha", alpha)
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"W must be (m, n), a row for each neuron, got {rows.shape}")
    if not rows.any(axis=1).all():
        raise ValueError(f"row {int(np.argmin(rows.any(axis=1)))} of W is zero; leave it out")
    if biases.shape not in ((), (len(rows),)):
        raise ValueError(f"alpha must be a number or ({len(rows)},), as W has rows, got {biases.shape}")
    if facets is not None and method != "facet":
        raise ValueError(f'facets are for the method "facet", and the method is "{method}"; leave them out')
    given = None if facets is None else _facets(np.asarray(facets), *rows.shape)
    return _Layer(rows, np.broadcast_to(biases, len(rows)), tolerance, most, given)


def _array(name: str, values: Any) -> np.ndarray:
    array = numbers(values, f"{name} must be an array of real numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
    return array


def _facets(facets: np.ndarray, m: int, n: int) -> np.ndarray:
    if facets.ndim != 2 or facets.shape[1] != n or facets.dtype.kind not in "iu" or not len(facets):
        raise ValueError(f"facets must be integers (facets, {n}), at least one, got {facets.dtype} {facets.shape}")
    if facets.min() < 0 or facets.max() >= m:
        raise ValueError(f"facets must name rows 0 to {m - 1}, got {facets.min()} to {facets.max()}")
    return facets


def _check_signs(outputs: np.ndarray) -> None:
    if (outputs < 0).any():
        i, row = np.argwhere(outputs < 0)[0]
        raise NotInRangeError(
            f"no input has output {i}: its entry {row} is {outputs[i, row]:.6g}, and none may be below 0"
        )


def _checked(layer: _Layer, method: str, i: int, y: np.ndarray, x: np.ndarray, steps: int) -> float:
    """The residual of the x found for output i, if it is one."""
    if np.isnan(x).any():
        raise _untold(layer, method, i, y)
    direct = _canonical(layer, y)[0] if steps == layer.most else x
    _check_range(layer, i, y, x if np.isnan(direct).any() else direct)
    return float(np.abs(layer(x) - y).max())


def _check_range(layer: _Layer, i: int, y: np.ndarray, x: np.ndarray) -> None:
    got, scale = layer(x), layer.lengths * np.linalg.norm(x) + np.abs(layer.alpha) + y
    worst = int(np.argmax(np.abs(got - y) - RANGE * scale))
    if abs(got[worst] - y[worst]) > RANGE * scale[worst]:
        raise NotInRangeError(
            f"no input has output {i}: where its {int(np.sum(y > 0))} active rows are met best, "
            f"row {worst} gives {got[worst]:.6g} and not {y[worst]:.6g}"
        )


def _untold(layer: _Layer, method: str, i: int, y: np.ndarray) -> ValueError:
    count, (m, n) = int(np.sum(y > 0)), layer.W.shape
    rank = frame(layer.unit[y > 0])[0]
    if rank == n:
        return ValueError(
            f"no {method} of {len(layer.facets)} has all its rows active at output {i}, though the {count} active rows "
            f'span R^{n}; the method "canonical" takes all of them'
        )
    return NotInjectiveError(
        f"output {i} does not tell its input: its {count} active rows of {m} span {rank} of {n} dimensions, "
        f"{n - rank} {'is' if n - rank == 1 else 'are'} lost"
    )
