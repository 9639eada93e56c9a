"""Injectivity of one random ReLU layer on many inputs: certified upper bounds on k*, by search.

The layers x -> ReLU(W x) of sweeps.statistics.injectivity. Where n is large, k* = min over x of #{i : <w_i, x> > 0} is
out of reach, but an x with fewer than n active rows proves that a layer is not injective, whatever its rows. Such an x
is looked for (sweeps.networks.search); its count, taken in float64 over all rows, is the outcome, and k* at most that.
The search proves nothing else: a layer of which it finds no such x is undecided, and longer searches find more.

Puthawala, Kothari, Lassas, Dokmanic, de Hoop, "Globally Injective ReLU Networks", JMLR 2022 (arXiv 2006.08464).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from sweeps.networks.search import search
from sweeps.statistic import Networks, Outcome, Statistic
from sweeps.statistics import _layer
from sweeps.statistics._layer import LayerParameters
from sweeps.theory import injectivity as theory
from sweeps.witness import Witness, of_layer

SEARCH = 2
"""Tensor of the search's words; 0 and 1 are the layer's."""


class InjectivityBoundParameters(LayerParameters):
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


def _search(networks: Networks, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return search(W, networks.keys, networks.draws, SEARCH, networks["moves"])


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    bound, _ = _search(networks, _layer.draw(networks))
    n = networks["n"]
    return {
        "min_active_bound": bound.astype(np.float64),
        "min_active_bound_ratio": bound / n,
        "not_injective": (bound < n).astype(np.float64),
    }


def _witness(networks: Networks) -> Witness | None:
    W = _layer.draw(networks)
    (bound,), (x,) = _search(networks, W)
    return of_layer(W[0], x) if bound < networks["n"] else None


def _cost(p: InjectivityBoundParameters) -> float:
    """Fitted to one core of a 2023 EPYC, shared with others: a move looks at one line and changes sixteen or none."""
    columns = max(p.m - p.n + 1, 1)
    return p.moves * (6e-7 + 1.3e-9 * columns + 1.5e-11 * columns * p.n) + 1e-9 * p.n**2 * (p.m + p.n)


def _memory(p: InjectivityBoundParameters) -> int:
    """The rows in both precisions, and the search's flat work space."""
    return 32 * (p.m + p.n) * p.n + 300 * p.m + p.file_bytes + 20_000


STATISTIC = Statistic(
    name="injectivity_bound",
    summary="Non-injectivity of one random ReLU layer, by search: certified upper bounds on the least active neurons",
    source="Puthawala, Kothari, Lassas, Dokmanic, de Hoop, JMLR 2022 (arXiv 2006.08464)",
    parameters=InjectivityBoundParameters,
    shape=_layer.SHAPE | {"moves"},
    outcomes=(
        Outcome("min_active_bound", "certified upper bound on k*, the least number of active neurons", kind="count"),
        Outcome("min_active_bound_ratio", "certified upper bound on k*/n"),
        Outcome("not_injective", "layer certified not injective (bound < n); 0 means undecided", kind="proportion"),
    ),
    sample=_sample,
    cost=_cost,
    memory=_memory,
    references=theory.THRESHOLDS,
    curves=_layer.limit_curves("min_active_bound_ratio"),
    realised={"alpha": lambda p: p.m / p.n},
    witness=_witness,
)
