"""The random layer W, m x n, of the statistics on one layer: its parameters, their rules and a draw of it."""

from __future__ import annotations

import math
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from sweeps.inputs import files
from sweeps.networks import row_laws
from sweeps.statistic import Curve, Networks, Parameters
from sweeps.theory.injectivity import GAUSSIAN

Domain = Literal["space", "orthant"]


def row_count(n: int, alpha: float) -> int:
    """m, the number of rows: alpha n rounded, halves up."""
    return math.floor(alpha * n + 0.5)


class LayerParameters(Parameters):
    """One random layer of m = floor(alpha n + 1/2) neurons on n inputs."""

    n: int = Field(ge=2, description="number of inputs", json_schema_extra={"unit": "1"})
    alpha: float = Field(
        gt=0,
        le=1e5,
        description="expansion ratio m/n; the layer has m = floor(alpha n + 1/2) neurons",
        json_schema_extra={"unit": "1"},
    )
    rows: row_laws.Law = Field("gaussian", description="law of the rows of W")
    density: float = Field(
        0.5,
        gt=0,
        le=1,
        description='probability that an entry is not zero, with rows = "sparse"',
        json_schema_extra={"unit": "1"},
    )
    taps: int = Field(
        3, ge=1, description='side of the filters, with rows = "convolution"', json_schema_extra={"unit": "pixel"}
    )
    image_rows: int = Field(
        1,
        ge=1,
        description='rows of the image of n pixels that rows = "convolution" is applied to',
        json_schema_extra={"unit": "pixel"},
    )
    matrix: files.UserArray = Field("", description='a .npy file (M, n) that rows = "file" takes m rows of')

    @property
    def m(self) -> int:
        return row_count(self.n, self.alpha)

    @property
    def file_rows(self) -> int:
        """Rows of the user's matrix, all of which are put in order for a draw."""
        return files.shape(self.matrix)[0] if self.rows == "file" else 0

    @property
    def file_bytes(self) -> int:
        return 16 * self.file_rows

    @model_validator(mode="after")
    def _has_rows(self) -> Self:
        if self.m < 1:
            raise ValueError(
                f"alpha {self.alpha} at n {self.n} gives a layer without neurons; use alpha >= {0.5 / self.n}"
            )
        return self

    @model_validator(mode="after")
    def _law_fits(self) -> Self:
        unused = {"density": "sparse", "taps": "convolution", "image_rows": "convolution", "matrix": "file"}
        for name, law in unused.items():
            default = type(self).model_fields[name].default
            if self.rows != law and getattr(self, name) != default:
                raise ValueError(
                    f'{name} is for rows = "{law}", and rows is "{self.rows}"; leave it out, or give each law that '
                    f"needs it a sweep of its own"
                )
        if self.rows == "convolution" and (self.m % self.n or self.n % self.image_rows):
            raise ValueError(
                f'rows = "convolution" needs a whole number of filters m/n and of columns n/image_rows, got '
                f"m = {self.m}, n = {self.n}, image_rows = {self.image_rows}; make alpha a whole number and n a "
                f"multiple of image_rows"
            )
        if self.rows == "file":
            self._check_matrix()
        return self

    def _check_matrix(self) -> None:
        if not self.matrix:
            raise ValueError('rows = "file" needs matrix, the path of a .npy file')
        shape = files.shape(self.matrix)
        if len(shape) != 2 or shape[1] != self.n:
            raise ValueError(f"matrix must be M x n with n = {self.n}, got shape {shape} in {self.matrix!r}")
        if self.m > shape[0]:
            raise ValueError(
                f"alpha {self.alpha} at n {self.n} asks for {self.m} rows, and matrix has {shape[0]}; use alpha <= "
                f"{shape[0] / self.n:.6g}"
            )


def draw(networks: Networks) -> np.ndarray:
    """W, float64 (networks, m, n)."""
    n = networks["n"]
    m = row_count(n, networks["alpha"])
    match networks["rows"]:
        case "sparse":
            return row_laws.sparse(networks, m, n, networks["density"])
        case "convolution":
            return row_laws.convolution(networks, m, n, networks["taps"], networks["image_rows"])
        case "file":
            return row_laws.subset(networks, m, files.load(networks["matrix"]))
        case law:
            return getattr(row_laws, law)(networks, m, n)


SHAPE = frozenset({"n", "alpha", "rows", "density", "taps", "image_rows", "matrix"})


def limit_curves(outcome: str) -> tuple[Curve, ...]:
    """Limits of k*/n for Gaussian rows as n grows, along alpha: two approximations of the replica method."""
    source = "Maillard, Bandeira, Belius, Dokmanic, Nakajima, arXiv 2302.14112"
    return (
        Curve(outcome, "alpha", "RS, n to infinity: rigorous lower bound", source, _replica_symmetric, where=GAUSSIAN),
        Curve(outcome, "alpha", "2-step RSB, n to infinity", source, _two_steps, where=GAUSSIAN),
    )


def _replica_symmetric(alpha: np.ndarray) -> np.ndarray:
    from sweeps.theory.limits import limit_curve

    return limit_curve(alpha, "rs")


def _two_steps(alpha: np.ndarray) -> np.ndarray:
    """Solved at nodes, of which those near `alpha` are needed, and smooth between them; NaN beyond the last."""
    from scipy.interpolate import PchipInterpolator

    from sweeps.theory.limits import limit_curve
    from sweeps.theory.perceptron import LARGEST, LOWEST

    known = np.array([2.0, *np.geomspace(LOWEST, 4, 12), *np.geomspace(4, LARGEST, 24)[1:]])
    nodes = known[: max(3, np.searchsorted(known, alpha.max()) + 1)]
    found = PchipInterpolator(nodes, [0.0, *limit_curve(nodes[1:], "2rsb")], extrapolate=False)(alpha)
    return np.where(alpha <= nodes[0], 0.0, found)
