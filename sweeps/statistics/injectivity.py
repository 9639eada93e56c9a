"""Injectivity of one random ReLU layer x -> ReLU(W x), exactly.

W has m = floor(alpha n + 1/2) rows N(0, I_n): rows may be scaled, so the variance does not matter. The layer is
injective iff every x != 0 has at least n active neurons, that is iff k* = min #{i : <w_i, x> > 0} >= n, where
k* comes from sweeps.networks.depth. Puthawala, Kothari, Lassas, Dokmanic, de Hoop, "Globally Injective ReLU
Networks", JMLR 2022 (arXiv 2006.08464).
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from sweeps.networks.depth import min_active
from sweeps.statistic import Networks, Outcome, Parameters, Statistic, by_point
from sweeps.theory import injectivity as theory

LIMIT = 10**10
"""Most signs one draw may need: m rows at each of C(m, n-1) vertices. A few seconds at worst."""


def rows(n: int, alpha: float) -> int:
    """m, the number of rows: alpha n rounded, halves up."""
    return math.floor(alpha * n + 0.5)


def _signs(m: int, n: int) -> int:
    return m * math.comb(m, n - 1)


class InjectivityParameters(Parameters):
    """One random layer of m = floor(alpha n + 1/2) neurons on n inputs."""

    n: int = Field(
        ge=2,
        le=7,
        description="number of inputs; the exact count enumerates, so at most 7",
        json_schema_extra={"unit": "1"},
    )
    alpha: float = Field(
        gt=0,
        le=1e5,
        description="expansion ratio m/n; the layer has m = floor(alpha n + 1/2) neurons",
        json_schema_extra={"unit": "1"},
    )

    @model_validator(mode="after")
    def _feasible(self) -> Self:
        n, m = self.n, rows(self.n, self.alpha)
        if m < 1:
            raise ValueError(f"alpha {self.alpha} at n {n} gives a layer without neurons; use alpha >= {0.5 / n}")
        if _signs(m, n) > LIMIT:
            low, high = 1, m  # the most rows that fit, by bisection
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _signs(middle, n) <= LIMIT else (low, middle)
            raise ValueError(
                f"alpha {self.alpha} at n {n} means m = {m} rows and C(m, n-1) = {math.comb(m, n - 1):.3g} null "
                f"vectors a draw, {_signs(m, n):.3g} signs, more than {LIMIT:.0e}; use alpha <= {low / n:.4g}"
            )
        return self


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    n, m = networks["n"], rows(networks["n"], networks["alpha"])
    least = min_active(networks.normals(0, m, n).astype(np.float64))
    return {"min_active": least.astype(np.float64), "injective": (least >= n).astype(np.float64)}


def _theory(p: InjectivityParameters) -> dict[str, float]:
    m = rows(p.n, p.alpha)
    return {
        "min_active": theory.mean_min_active(m, p.n),
        "injective": theory.injective_probability(m, p.n),
    }


def _cost(p: InjectivityParameters) -> float:
    """Fitted to one core of a 2023 Xeon: a leaf of the search takes a microsecond, its enumeration 7 ns a word."""
    n, m = p.n, rows(p.n, p.alpha)
    leaves = {4: m, 5: m**2 / 6, 6: m**3 / 24, 7: m**4 / 96}.get(n, 1)
    if n == 2:
        return 1e-6 + 5e-10 * m**2
    leaf = 1e-6 if m - min(n - 3, 1) <= 64 else 7e-9 * m**2 / 2 * math.ceil(m / 64)
    return 2e-6 + leaf * leaves + 5e-9 * m * n


def _memory(p: InjectivityParameters) -> int:
    return 12 * rows(p.n, p.alpha) * p.n + 64  # the rows in float32 and float64; the kernel's own is flat


STATISTIC = Statistic(
    name="injectivity",
    summary="Injectivity of one random ReLU layer, and the least number of active neurons",
    source="Puthawala, Kothari, Lassas, Dokmanic, de Hoop, JMLR 2022 (arXiv 2006.08464)",
    parameters=InjectivityParameters,
    shape=frozenset({"n", "alpha"}),
    outcomes=(
        Outcome(
            "min_active",
            "least number of active neurons k*",
            kind="count",
            bins=(*(i - 0.5 for i in range(66)), math.inf),
        ),
        Outcome("injective", "layer is injective (k* >= n)", kind="proportion"),
    ),
    sample=_sample,
    cost=_cost,
    memory=_memory,
    theory=by_point(_theory, InjectivityParameters),
    theory_note="exact at n = 2, where m < 3n - 1 (never injective) and where m <= n + 2 (Wendel)",
    references=theory.THRESHOLDS,
    realised={"alpha": lambda p: rows(p.n, p.alpha) / p.n},
)
