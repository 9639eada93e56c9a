"""Injectivity of one random ReLU layer on many inputs: certified upper bounds on k*, by search.

As in sweeps.statistics.injectivity the layer x -> ReLU(W x) has m = floor(alpha n + 1/2) rows and is injective iff k*
= min over x != 0 of #{i : <w_i, x> > 0} is at least n. Beyond n = 7 that minimum is out of reach, but an x with fewer
than n active rows proves that a layer is not injective. Here such an x is looked for (sweeps.networks.search), and
its count, taken in float64 over all rows, is the outcome: k* is at most that. The search proves nothing else: a layer
of which it finds no such x is undecided, and longer searches find more.

Puthawala, Kothari, Lassas, Dokmanic, de Hoop, "Globally Injective ReLU Networks", JMLR 2022 (arXiv 2006.08464).
"""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from sweeps.networks.search import search
from sweeps.statistic import Networks, Outcome, Parameters, Statistic
from sweeps.statistics.injectivity import rows
from sweeps.theory import injectivity as theory

LAYER, SEARCH = 0, 1
"""Tensors: the layer's rows, as in the exact statistic, and the search's words."""


class InjectivityBoundParameters(Parameters):
    """One random layer of m = floor(alpha n + 1/2) neurons on n inputs, and how long to search."""

    n: int = Field(ge=2, le=500, description="number of inputs", json_schema_extra={"unit": "1"})
    alpha: float = Field(
        gt=0,
        le=100,
        description="expansion ratio m/n; the layer has m = floor(alpha n + 1/2) neurons",
        json_schema_extra={"unit": "1"},
    )
    moves: int = Field(
        10**6,
        ge=10**3,
        le=10**9,
        description="moves of a draw's search, its effort; more give lower bounds on average, not in every draw",
        json_schema_extra={"unit": "1"},
    )

    @model_validator(mode="after")
    def _has_neurons(self) -> Self:
        if rows(self.n, self.alpha) < 1:
            raise ValueError(
                f"alpha {self.alpha} at n {self.n} gives a layer without neurons; use alpha >= {0.5 / self.n}"
            )
        return self


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    n, m = networks["n"], rows(networks["n"], networks["alpha"])
    W = networks.normals(LAYER, m, n)
    bound, _ = search(W.astype(np.float64), networks.keys, networks.draws, SEARCH, networks["moves"])
    return {
        "min_active_bound": bound.astype(np.float64),
        "min_active_bound_ratio": bound / n,
        "not_injective": (bound < n).astype(np.float64),
    }


def _cost(p: InjectivityBoundParameters) -> float:
    """Fitted to one core of a 2023 EPYC, shared with others: a move looks at one line and changes sixteen or none."""
    m = rows(p.n, p.alpha)
    columns = max(m - p.n + 1, 1)
    return p.moves * (6e-7 + 1.3e-9 * columns + 1.5e-11 * columns * p.n) + 1e-9 * p.n**2 * (m + p.n)


def _memory(p: InjectivityBoundParameters) -> int:
    m = rows(p.n, p.alpha)
    return 32 * (m + p.n) * p.n + 300 * m + 20_000  # rows in both precisions, and the search's flat work space


STATISTIC = Statistic(
    name="injectivity_bound",
    summary="Non-injectivity of one random ReLU layer, by search: certified upper bounds on the least active neurons",
    source="Puthawala, Kothari, Lassas, Dokmanic, de Hoop, JMLR 2022 (arXiv 2006.08464)",
    parameters=InjectivityBoundParameters,
    shape=frozenset({"n", "alpha", "moves"}),
    outcomes=(
        Outcome("min_active_bound", "certified upper bound on k*, the least number of active neurons", kind="count"),
        Outcome("min_active_bound_ratio", "certified upper bound on k*/n"),
        Outcome("not_injective", "layer certified not injective (bound < n); 0 means undecided", kind="proportion"),
    ),
    sample=_sample,
    cost=_cost,
    memory=_memory,
    references=theory.THRESHOLDS,
)
