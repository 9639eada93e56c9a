"""Domains K of a ReLU layer with a bias: the sphere, the ball, the donut, the non-negative ball, and finite data.

Which rows are the most correlated with s x, and in which facet's cone it lies, does not depend on s > 0. So a bias
found for directions |x| = 1 serves all radii from r to R: times r where it is positive, times R where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np

from sweeps.errors import in_one_line, unknown

MARGIN = 1e-9
Kind = Literal["sphere", "ball", "donut", "nonnegative", "data"]


@dataclass(frozen=True)
class Domain:
    """K: |x| = `radius`, |x| <= `radius`, `inner` <= |x| <= `radius`, x >= 0 with |x| <= `radius`, or the given `data`.

    Raises:
        UnknownNameError, ValueError: no such kind; a radius or data that do not fit it; in one line.
    """

    kind: Kind = "ball"
    radius: float = 1.0
    inner: float = 0.0
    """Only of a donut."""
    data: np.ndarray | None = field(default=None, repr=False, compare=False)
    """Float64 (inputs, n), only of "data"; `radius` is then not looked at."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise unknown("domain", self.kind, get_args(Kind))
        for name in ("radius", "inner"):
            if not isinstance(getattr(self, name), Real):
                raise ValueError(f"{name} must be a number, got {getattr(self, name)!r}")
        if not 0 < self.radius < np.inf:
            raise ValueError(f"radius must be positive and finite, got {self.radius}")
        if self.kind == "donut" and not 0 < self.inner <= self.radius:
            raise ValueError(f"inner must be above 0 and at most radius = {self.radius}, got {self.inner}")
        if self.kind != "donut" and self.inner:
            raise ValueError(f'inner is for a "donut", and the domain is "{self.kind}"; leave it out')
        if (self.kind == "data") != (self.data is not None):
            raise ValueError(f'data is for the domain "data", and only for it; the domain is "{self.kind}"')
        if self.data is not None:
            object.__setattr__(self, "data", _inputs(self.data))

    @property
    def positive(self) -> bool:
        return self.kind == "nonnegative"

    @property
    def largest(self) -> float:
        """The largest |x|: a bias that large keeps its row silent."""
        return float(np.linalg.norm(self.data, axis=1).max()) if self.data is not None else self.radius

    @property
    def smallest(self) -> float:
        """The smallest |x|."""
        return {"sphere": self.radius, "donut": self.inner}.get(self.kind, 0.0)

    def scaled(self, unit: np.ndarray) -> np.ndarray:
        """Biases on K from those for directions of length 1, of data those for the `shrunk` data.

        Those of data are a MARGIN lower, so that rows which an input needs are active at it and no borderline case.
        Infinite ones, of rows that nobody needs, become `largest`.
        """
        finite = np.where(np.isposinf(unit), 0.0, unit)
        if self.data is not None:
            found = (finite - MARGIN) * self.largest
        else:
            found = finite * np.where(unit >= 0, self.smallest, self.radius)
        return np.where(np.isposinf(unit), self.largest, found)

    @property
    def shrunk(self) -> np.ndarray:
        """The data over `largest`, so that no input is longer than 1."""
        if self.data is None:
            raise ValueError(f'only the domain "data" has data, and this is "{self.kind}"')
        return self.data / (self.largest or 1.0)

    def directions(self, normals: np.ndarray) -> np.ndarray:
        """Directions of K, uniform on the sphere or its part x >= 0, float64 (..., n), from standard normals."""
        unit = normals.astype(np.float64)
        unit /= np.sqrt(np.sum(unit**2, axis=-1, keepdims=True))
        return np.abs(unit) if self.positive else unit

    def points(self, normals: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Points of K, uniform by volume, float64 (..., n), from normals and uniforms (...); of data, some drawn."""
        if self.data is not None:
            return self.data[np.minimum((uniforms * len(self.data)).astype(np.int64), len(self.data) - 1)]
        n, least = normals.shape[-1], self.smallest / self.radius
        radius = (least**n + uniforms * (1 - least**n)) ** (1 / n) if least < 1 else np.ones_like(uniforms)
        return self.radius * radius[..., None] * self.directions(normals)


def _inputs(data: Any) -> np.ndarray:
    """Data as float64 (inputs, n)."""
    try:
        array = np.asarray(data)
    except ValueError as error:  # inputs of several lengths
        raise ValueError(f"data must be inputs (inputs, n); {in_one_line(error)}") from None
    fits = array.ndim == 2 and array.size and array.dtype.kind in "fiub" and np.isfinite(array).all()
    if not fits:
        raise ValueError(f"data must be finite inputs (inputs, n), at least one, got {array.dtype} {array.shape}")
    return np.array(array, np.float64)
