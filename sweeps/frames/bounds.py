"""`bias_bounds`: how much bias each row of a given layer bears on a domain, such as a user's own trained layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal

import numpy as np

from sweeps import randomness
from sweeps.devices import resolve
from sweeps.errors import OutsideError, unknown
from sweeps.frames.domain import Domain, Kind
from sweeps.frames.facets import MOST, expected_facets, facets
from sweeps.frames.layers import matrix_of
from sweeps.frames.on_data import polytope_bias_on_data
from sweeps.frames.polytope import polytope_bias
from sweeps.frames.sampled import chunk, sampled_bias

Method = Literal["polytope", "sampled"]
LARGEST = 8
"""Most inputs for which facets are few enough to list."""


@dataclass(frozen=True)
class Bounds:
    """Bias in ReLU(W x - bias), row by row."""

    bias: np.ndarray = field(repr=False)
    """The largest found with which the active rows span everywhere on the domain, in units of W x; float64 (m,)."""
    unit: np.ndarray = field(repr=False)
    """The same for rows of length 1; float64 (m,)."""
    layer: np.ndarray = field(repr=False)
    """The layer's own bias, in units of W x; float64 (m,)."""
    method: Method
    certified: bool
    """Whether it is proven that the active rows span; a sampled bias may be too large."""

    @property
    def holds(self) -> np.ndarray:
        """Which rows of the layer have no larger bias, bool (m,): if all have and it is certified, it is injective."""
        return self.layer <= self.bias


def bias_bounds(
    W: Any,
    domain: Domain | Kind = "ball",
    method: Method | None = None,
    *,
    samples: int = 100_000,
    seed: int = 0,
    image: tuple[int, int] | None = None,
    general: bool = False,
    device: str = "cpu",
) -> Bounds:
    """How much bias a layer's rows bear on a domain.

    Args:
        W: float (m, n), the path of a .npy file, a torch.nn.Linear, or a torch.nn.Conv2d on an `image` (rows, columns).
        domain: a Domain, or the kind of one of radius 1.
        method: "polytope" (certified, to a million facets) or "sampled" (certified on finite data only); None: of up to
            8 inputs the polytope's, where it can be had.
        samples: random directions of the sampled estimate, from `seed`; of finite data all inputs are taken.
        general: take it that any n rows are independent, as those of a trained dense layer, but not of a convolution;
            with hundreds of inputs much faster, and alone makes use of a GPU as `device`.

    Raises:
        ValueError, in one line: W, domain or method are none of these; a row is zero; with method "polytope" too many
            facets, or some inputs are in none of their cones (OutsideError: 0 is not inside the hull of the rows).

    Haider, Ehler, Balazs, arXiv 2307.09672 and 2406.15856.
    """
    matrix, own = matrix_of(W, image)
    if not isinstance(domain, Domain | str):
        raise ValueError(f"domain must be a Domain or the name of a kind, got {type(domain).__qualname__}")
    where = domain if isinstance(domain, Domain) else Domain(domain)
    lengths = np.linalg.norm(matrix, axis=1)
    rows = matrix / lengths[:, None]
    _check(where, rows, method, samples, seed)
    device = resolve(device)
    unit = _exact_if_any(rows, where) if method is None else None
    if method == "polytope":
        unit = exact_bias(rows, where)
    method = "sampled" if unit is None else "polytope"
    if unit is None:
        unit = where.scaled(sampled_bias(rows, _directions(rows, where, samples, seed), general=general, device=device))
    return Bounds(unit * lengths, unit, own, method, method == "polytope" or where.data is not None)


def _exact_if_any(rows: np.ndarray, domain: Domain) -> np.ndarray | None:
    """The polytope's bias where there is one, and it is better than a sampled one."""
    m, n = rows.shape
    if domain.data is not None or n > LARGEST or expected_facets(n, m) > MOST:
        return None
    try:
        return exact_bias(rows, domain)
    except OutsideError:
        return None


def exact_bias(rows: np.ndarray, domain: Domain, given: np.ndarray | None = None) -> np.ndarray:
    """The polytope's bias (m,) of rows of length 1 on a domain; `given` are their facets, if known.

    Raises as `facets` does.
    """
    found = facets(rows, positive=domain.positive) if given is None else given
    if domain.data is not None:
        return domain.scaled(polytope_bias_on_data(rows, found, domain.shrunk))
    return domain.scaled(polytope_bias(rows, positive=domain.positive, given=found))


def _check(domain: Domain, rows: np.ndarray, method: Method | None, samples: int, seed: int) -> None:
    if method not in (None, "polytope", "sampled"):
        raise unknown("method", method, ("polytope", "sampled"))
    if rows.shape[1] < 2:
        raise ValueError(f"W must have at least 2 columns, inputs, got shape {rows.shape}")
    if domain.data is not None and domain.data.shape[1] != rows.shape[1]:
        raise ValueError(f"data must have n = {rows.shape[1]} columns as W has, got shape {domain.data.shape}")
    for name, value, least in (("samples", samples, 1), ("seed", seed, 0)):
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be a whole number, at least {least}, got {value!r}")


def _directions(rows: np.ndarray, domain: Domain, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Chunks (k, n) of random directions, or the data."""
    m, n = rows.shape
    size = chunk(m, n)
    if domain.data is not None:
        yield from np.array_split(domain.shrunk, math.ceil(len(domain.shrunk) / size))
        return
    key = np.array([seed % 2**64], np.uint64)
    for i, start in enumerate(range(0, samples, size)):
        count = min(size, samples - start)
        normals = randomness.normals(key, np.array([i], np.uint64), 0, count * n)
        yield domain.directions(normals.reshape(count, n))
