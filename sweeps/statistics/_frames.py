"""The parameters of `frames`: a layer with a bias, its domain, and what is asked of it."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from sweeps.frames import cells, facets, trained_rows
from sweeps.frames import rows as row_laws
from sweeps.frames.bounds import LARGEST
from sweeps.frames.domain import Domain, Kind
from sweeps.inputs import files, labelled
from sweeps.inputs.pixels import refused
from sweeps.statistic import Parameters

GENERAL = row_laws.GENERAL | {"trained"}
"""Laws whose rows are in general position almost surely."""
UNIT = frozenset(row_laws.POLYTOPES) | {"sphere", "orthogonal"}
"""Laws with rows of length 1."""
POLYTOPES = frozenset(row_laws.POLYTOPES)
LONGEST = 60.0
"""Most seconds the exact answer may take a draw."""


def _rows_of(path: Path) -> np.ndarray:
    """A user's rows, none of which may be zero."""
    array = files.mapped(path)
    files.check_finite(path, array, np.float64)
    if array.ndim == 2 and len(zero := np.flatnonzero(~array.any(axis=1))):
        raise refused(path, f"has rows of zeros, neurons that see nothing, the first is {zero[0]}; leave them out")
    return array


UserRows = Annotated[str, AfterValidator(partial(files.pin_by, read=_rows_of))]
"""The type of a parameter that names a user's .npy file of rows; empty for none."""


class FramesParameters(Parameters):
    """A layer ReLU(W x - bias), m x n, on a domain."""

    n: int = Field(ge=2, le=300, description="number of inputs", json_schema_extra={"unit": "1"})
    redundancy: float = Field(
        0.0,
        ge=0,
        le=1e4,
        description="m/n, with m = floor(redundancy n + 1/2) rows; 0: all vertices of a polytope or rows of a file",
        json_schema_extra={"unit": "1"},
    )
    rows: row_laws.Law = Field("sphere", description="law of the rows of W, or a polytope whose vertices they are")
    matrix: UserRows = Field("", description='a .npy file (M, n) that rows = "file" takes m rows of')
    general: bool = Field(
        False, description="any n rows of the file are independent, as of a trained dense layer, not of a convolution"
    )
    trained_on: Literal["digits", "mnist", "photographs"] = Field(
        "digits", description='images that the first layer with rows = "trained" is trained on'
    )
    steps: int = Field(
        200,
        ge=0,
        le=10**6,
        description='steps of training, with rows = "trained"; 0: its initial weights',
        json_schema_extra={"unit": "step"},
    )
    domain: Kind = Field("ball", description='where inputs lie; "nonnegative" is the part x >= 0 of the ball')
    radius: float = Field(1.0, gt=0, le=1e6, description="largest length of an input", json_schema_extra={"unit": "1"})
    inner: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description='smallest length of an input; of a "donut" alone',
        json_schema_extra={"unit": "1"},
    )
    inputs: files.UserArray = Field("", description='a .npy file (inputs, n) that is the domain "data"')
    bias: float = Field(
        0.0,
        ge=-1e6,
        le=1e6,
        description="bias of every row, in units of W x; with bias_from what is added to that of rows of length 1",
        json_schema_extra={"unit": "1"},
    )
    bias_from: Literal["zero", "polytope", "sampled"] = Field(
        "zero", description="what the bias is counted from: zero, or an estimate of what each row bears"
    )
    estimates: Literal["both", "polytope", "sampled", "none"] = Field(
        "both", description=f"estimates of the bias that each row bears; the polytope's to n = {LARGEST}"
    )
    samples: int = Field(
        10_000, ge=1, le=10**9, description="directions of the sampled estimate", json_schema_extra={"unit": "1"}
    )
    certify: bool = Field(False, description="measure the covering radius of the directions, to n = 5 or so")
    decide: bool = Field(True, description="find the fewest active rows anywhere on the domain, exactly; small layers")
    points: int = Field(
        1000,
        ge=1,
        le=10**6,
        description="inputs drawn at which active rows are looked at",
        json_schema_extra={"unit": "1"},
    )
    reconstructed: int = Field(
        0, ge=0, le=10**5, description="of these, inputs that are reconstructed", json_schema_extra={"unit": "1"}
    )
    listed: int = Field(
        1, ge=1, le=10**5, description="rows whose biases are listed, the first", json_schema_extra={"unit": "1"}
    )

    @property
    def m(self) -> int:
        if self.redundancy:
            return math.floor(self.redundancy * self.n + 0.5)
        return row_laws.polytope_rows(self.rows, self.n) if self.rows in POLYTOPES else files.shape(self.matrix)[0]

    @property
    def is_general(self) -> bool:
        """Whether any n rows are independent, so that n active ones span."""
        return self.rows in GENERAL or self.general

    @property
    def is_asked(self) -> bool:
        """Whether anything is asked for that can prove a layer injective."""
        return self.decide or self.by_polytope or self.certify or self.domain == "data"

    @property
    def by_polytope(self) -> bool:
        return self.estimates in ("both", "polytope")

    @property
    def by_samples(self) -> bool:
        return self.estimates in ("both", "sampled")

    @property
    def side(self) -> int:
        """Of trained filters."""
        return math.isqrt(self.n // labelled.shape(self.trained_on, "")[0])

    @property
    def covering_facets(self) -> float:
        """Facets of the hull of the directions sampled, which their covering radius is found from."""
        mirrored = 2.0**self.n if self.domain == "nonnegative" else 1.0
        return facets.expected_facets(self.n, max(self.samples, self.n) * mirrored) / mirrored

    def the_domain(self) -> Domain:
        if self.domain == "data":
            return Domain("data", data=files.load(self.inputs))
        return Domain(self.domain, self.radius, self.inner if self.domain == "donut" else 0.0)

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        if self.rows == "file":
            _check_file("matrix", self.matrix, 'rows = "file"', self.n)
        elif self.general:
            raise ValueError(f'general is of rows = "file", and rows is {self.rows!r}')
        if self.rows in POLYTOPES:
            m = row_laws.polytope_rows(self.rows, self.n)  # refuses where there is none
            if self.redundancy and self.m != m:
                raise ValueError(
                    f"redundancy must be {m / self.n:.6g}, as the {self.rows} has {m} vertices, or left out"
                )
        elif not self.redundancy and self.rows != "file":
            raise ValueError(f"redundancy m/n must be given with rows = {self.rows!r}")
        if self.m < self.n:
            raise ValueError(f"redundancy must be at least 1, or the rows do not span, got {self.redundancy:g}")
        if self.rows == "file" and self.m > (most := files.shape(self.matrix)[0]):
            raise ValueError(f"redundancy {self.redundancy:g} asks for {self.m} rows, and matrix has {most}")
        if self.rows == "trained":
            self._check_filters()
        elif self.trained_on != "digits" or self.steps != 200:
            raise ValueError(
                f'trained_on and steps are for rows = "trained", and rows is {self.rows!r}; leave them out'
            )
        if self.listed > self.m:
            raise ValueError(f"listed must be at most the {self.m} rows, got {self.listed}")
        return self

    def _check_filters(self) -> None:
        if self.n not in (sizes := [trained_rows.inputs(self.trained_on, side) for side in (3, 5, 7)]):
            known = ", ".join(map(str, sizes))
            raise ValueError(f"n must be one of {known}, the entries of a filter on {self.trained_on}, got {self.n}")

    @model_validator(mode="after")
    def _domain_fits(self) -> Self:
        if self.domain == "data":
            _check_file("inputs", self.inputs, 'domain = "data"', self.n)
        else:
            self.the_domain()  # refuses radii that do not fit
        if self.reconstructed > self.points:
            raise ValueError(f"reconstructed must be at most points = {self.points}, got {self.reconstructed}")
        return self

    @model_validator(mode="after")
    def _feasible(self) -> Self:
        if self.bias_from != "zero" and self.estimates not in ("both", self.bias_from):
            raise ValueError(
                f"bias_from {self.bias_from!r} needs that estimate; make estimates {self.bias_from!r} or both"
            )
        if self.by_polytope:
            self._check_facets()
        if self.certify and not self.by_samples:
            raise ValueError("certify is of the sampled estimate; leave it out, or make estimates sampled or both")
        if self.certify and self.domain != "data":
            self._check_covering()
        if self.decide and self.domain != "data" and (took := cells.seconds(self.m, self.n, self.domain)) > LONGEST:
            raise ValueError(
                f"the fewest active rows of m = {self.m} at n = {self.n} would take some {took:.2g} s a draw, above "
                f"{LONGEST:g}; use decide = false, or a smaller layer"
            )
        return self

    def _check_facets(self) -> None:
        if self.n > LARGEST:
            raise ValueError(f'n {self.n} is more than {LARGEST} and has too many facets; use estimates = "sampled"')
        if (expected := facets.expected_facets(self.n, self.m)) > facets.MOST:
            raise ValueError(
                f"{self.m} rows at n {self.n} have some {expected:.2g} facets, more than {facets.MOST:.0e}; use "
                f'estimates = "sampled" or fewer rows'
            )

    def _check_covering(self) -> None:
        if (expected := self.covering_facets) > facets.MOST:
            raise ValueError(
                f"the covering radius of {self.samples} directions at n {self.n} takes some {expected:.2g} facets, "
                f"more than {facets.MOST:.0e}; use certify = false or fewer samples"
            )


def _check_file(name: str, pinned: str, wanted_by: str, n: int) -> None:
    if not pinned:
        raise ValueError(f"{wanted_by} needs {name}, the path of a .npy file")
    shape = files.shape(pinned)
    if len(shape) != 2 or shape[1] != n:
        raise ValueError(f"{name} must have n = {n} columns, got shape {shape} in {pinned!r}")
