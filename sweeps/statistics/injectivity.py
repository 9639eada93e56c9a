"""Injectivity of one random ReLU layer x -> ReLU(W x), exactly.

W has m = floor(alpha n + 1/2) rows of a law in sweeps.networks.row_laws. The layer is injective iff the rows active at
x span R^n for every x that no row is orthogonal to. In general position: iff k* = min #{i : <w_i, x> > 0} >= n.
Puthawala, Kothari, Lassas, Dokmanic, de Hoop, "Globally Injective ReLU Networks", JMLR 2022 (arXiv 2006.08464).

Rows in general position almost surely are searched by sweeps.networks.depth, the others by sweeps.networks.degenerate.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from sweeps.networks import degenerate, depth
from sweeps.networks.row_laws import GENERAL
from sweeps.statistic import Networks, Outcome, Statistic, by_point
from sweeps.statistics import _layer
from sweeps.statistics._layer import Domain, LayerParameters
from sweeps.theory import injectivity as theory
from sweeps.theory import orthant
from sweeps.witness import Witness, of_layer

LONGEST = 600.0
"""Most seconds a draw may take, by `cost`."""

SECONDS = {2: 1.9e-7, 3: 4.8e-6, 4: 3.4e-5, 5: 2.2e-4, 6: 2.1e-3, 7: 4.6e-2, 8: 0.65, 9: 12.7, 10: 270.0}
"""Of one core of a 2023 EPYC, by n, for k* at alpha = 6.7; at n = 10 estimated from the number of leaves."""
SHARED = {3: 1, 4: 1, 5: 6, 6: 24, 7: 96, 8: 480, 9: 2880, 10: 20160}
"""m^(n-3) over the number of leaves that are enumerated where there are more rows than WIDEST."""
WIDEST = 128
"""Most rows for which most vertices need no look."""


class InjectivityParameters(LayerParameters):
    n: int = Field(
        ge=2,
        le=10,
        description="number of inputs; the exact answer takes a time exponential in n",
        json_schema_extra={"unit": "1"},
    )
    domain: Domain = Field("space", description='inputs: "space", all of R^n, or "orthant", x >= 0')
    answer: Literal["count", "decision", "census"] = Field(
        "count",
        description='"decision" says only whether a layer is injective, which is faster; "count" finds k* as well; '
        '"census" looks at every vertex and counts those with fewer than n active neurons, which is slow',
    )

    @property
    def searched(self) -> bool:
        """Whether most vertices need no look."""
        return self.rows in GENERAL and self.answer != "census"

    def seconds(self, m: int) -> float:
        """Roughly what a draw of m rows takes on one core."""
        n, positive = self.n, self.domain == "orthant"
        drawing = 1e-6 + 5e-9 * m * n + 1.4e-7 * self.file_rows
        if not self.searched:
            return 1e-5 + drawing + (1e-6 + 7e-9 * m) * math.comb(m + (n if positive else 0), n - 1)
        found = SECONDS[n] * (m / (6.7 * n)) ** max(n - 2, 2)
        if m > WIDEST and n > 2:
            found = max(found, m ** (n - 3) / SHARED[n] * 7e-9 * m**2 / 2 * math.ceil(m / 64))
        return drawing + found * (1.6 if positive else 1)

    @model_validator(mode="after")
    def _feasible(self) -> Self:
        if self.seconds(self.m) > LONGEST:
            low, high = 1, self.m  # the most rows that fit, by bisection
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self.seconds(middle) <= LONGEST else (low, middle)
            raise ValueError(
                f"alpha {self.alpha} at n {self.n} means m = {self.m} rows and some {self.seconds(self.m):.2g} s a "
                f"draw with rows = {self.rows!r}, answer = {self.answer!r}, more than {LONGEST:g}; use alpha <= "
                f"{low / self.n:.6g} or a smaller n"
            )
        return self


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    W, n, positive = _layer.draw(networks), networks["n"], networks["domain"] == "orthant"
    answer, unknown = networks["answer"], np.full(len(networks), np.nan)
    least, vertices = unknown, unknown
    if networks["rows"] not in GENERAL or answer == "census":
        counted, injective, rays = degenerate.examine(W, orthant=positive)
        least = unknown if answer == "decision" else counted
        vertices = np.where(rays >= 0, rays, np.nan) if answer == "census" else unknown
    elif answer == "decision":
        injective = depth.injective(W, positive)
    else:
        least = depth.min_active(W, positive)
        injective = least >= n
    found = {"injective": injective, "min_active": least, "min_active_ratio": least / n, "vertices_below": vertices}
    return {name: values.astype(np.float64) for name, values in found.items()}


def _witness(networks: Networks) -> Witness | None:
    (W,), positive = _layer.draw(networks), networks["domain"] == "orthant"
    if networks["rows"] not in GENERAL:
        x = degenerate.deficient_direction(W, orthant=positive)
    else:
        injective, directions = depth.inactive_direction(W[None], positive)
        x = None if injective[0] else directions[0]
    return None if x is None else of_layer(W, x, orthant=positive)


def _theory(p: InjectivityParameters) -> dict[str, float]:
    """What the laws in general position have: rows change sign freely, and turn freely together."""
    least, injective, vertices = math.nan, math.nan, math.nan
    if p.rows in GENERAL and p.domain == "space":
        least, injective = theory.mean_min_active(p.m, p.n), theory.injective_probability(p.m, p.n)
        vertices = theory.expected_vertices(p.m, p.n, p.n)
    elif p.rows in GENERAL:
        vertices = orthant.expected_vertices(p.m, p.n, p.n)
    return {"injective": injective, "min_active": least, "min_active_ratio": least / p.n, "vertices_below": vertices}


def _memory(p: InjectivityParameters) -> int:
    """The rows in float32 and float64, and while they are made; kernels are flat."""
    return 32 * (p.m + p.n) * p.n + p.file_bytes + 64


STATISTIC = Statistic(
    name="injectivity",
    summary="Injectivity of one random ReLU layer, and the least number of active neurons",
    source="Puthawala, Kothari, Lassas, Dokmanic, de Hoop, JMLR 2022 (arXiv 2006.08464)",
    parameters=InjectivityParameters,
    shape=_layer.SHAPE | {"domain", "answer"},
    outcomes=(
        Outcome("injective", "layer is injective", kind="proportion"),
        Outcome(
            "min_active",
            "least number of active neurons k*",
            kind="count",
            bins=(*(i - 0.5 for i in range(66)), math.inf),
        ),
        Outcome("min_active_ratio", "least number of active neurons over n, k*/n"),
        Outcome("vertices_below", "vertices with fewer than n active neurons", kind="count"),
    ),
    sample=_sample,
    cost=lambda p: p.seconds(p.m),
    memory=_memory,
    theory=by_point(_theory, InjectivityParameters),
    exact=lambda points: dict.fromkeys(("injective", "min_active", "min_active_ratio", "vertices_below"), True),
    theory_note="rows of the gaussian, sphere and orthogonal laws on all of R^n: exact at n = 2, where m < 3n - 1 "
    "(never injective) and where m <= n + 2 (Wendel); vertices exact everywhere",
    references=theory.THRESHOLDS,
    curves=_layer.limit_curves("min_active_ratio"),
    realised={"alpha": lambda p: p.m / p.n},
    witness=_witness,
)
