"""Inputs with few active neurons in deep random ReLU networks: proofs that they are not injective, at any size.

The networks and k_i* of `deep_injectivity`, where n is too large to list all linear pieces. A search gives upper bounds
on k_i*, certain for every network (sweeps.networks.deep_search). A bound below n proves that the network that ends
with this layer, or a later one, is not locally injective, so not globally; a bound that is not proves nothing.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from sweeps.networks.deep_search import search
from sweeps.statistic import Dim, Networks, Outcome, Statistic
from sweeps.statistics._expansion import REALISED, Expansion
from sweeps.witness import Witness, of_piece

MOST_WEIGHTS = 3 * 10**7


class DeepInjectivityBoundParameters(Expansion):
    """One random network of `depth` layers on n inputs, and the effort of the search."""

    n: int = Field(ge=2, le=10_000, description="number of inputs", json_schema_extra={"unit": "1"})
    moves: int = Field(
        10_000,
        ge=1,
        le=10**9,
        description="moves of the search, for each layer; more give lower bounds",
        json_schema_extra={"unit": "move"},
    )

    @model_validator(mode="after")
    def _feasible(self) -> Self:
        if self.weights > MOST_WEIGHTS:
            share = math.sqrt(MOST_WEIGHTS / self.weights)
            raise ValueError(
                f"widths {self.widths} at n {self.n} mean {self.weights:.2g} weights, more than {MOST_WEIGHTS:.0e}; "
                f"use expansion ratios {share:.2g} times as large, or a smaller n"
            )
        return self


def _search(networks: Networks, layers: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    p = DeepInjectivityBoundParameters(**networks.points.point(0))
    rows = np.concatenate([A.reshape(len(A), -1) for A in layers], axis=1)
    columns = np.concatenate([A.swapaxes(1, 2).reshape(len(A), -1) for A in layers], axis=1)
    widths = np.array([p.n, *p.widths])
    return search(columns, rows, widths, p.moves, p.depth, networks.keys, networks.draws)


def _layers(networks: Networks) -> list[np.ndarray]:
    p = DeepInjectivityBoundParameters(**networks.points.point(0))
    return [networks.normals(i, *shape).astype(np.float64) for i, shape in enumerate(p.shapes)]


def _witness(networks: Networks) -> Witness | None:
    layers, n = _layers(networks), networks["n"]
    (bounds,), (inputs,) = _search(networks, layers)
    few = np.flatnonzero(bounds < n)
    return of_piece([A[0] for A in layers], inputs[few[0]]) if len(few) else None


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    bounds, _ = _search(networks, _layers(networks))
    n = networks["n"]
    few = np.logical_or.accumulate(bounds < n, axis=1)
    return {
        "active_bound": bounds.astype(np.float64),
        "not_locally_injective": few.astype(np.float64),
        "below_twice": (bounds < 2 * n).astype(np.float64),
    }


def _cost(p: DeepInjectivityBoundParameters) -> float:
    """Fitted to one core of a 2023 Xeon; layer i is searched with the weights of layers 1 to i."""
    used = sum(m * before * (p.depth - i) for i, (m, before) in enumerate(p.shapes))
    return 1e-5 + p.moves * (5e-7 * p.depth + 7e-10 * used)


def _memory(p: DeepInjectivityBoundParameters) -> int:
    return 36 * p.weights + 8 * p.depth * p.n + 64


_LAYER = (Dim("layer", "depth", "layer"),)
STATISTIC = Statistic(
    name="deep_injectivity_bound",
    summary="Upper bounds on the least number of active neurons of every layer of a deep random ReLU network",
    source="Puthawala, Kothari, Lassas, Dokmanic, de Hoop, JMLR 2022 (arXiv 2006.08464); Stojnic, arXiv 2412.19677",
    parameters=DeepInjectivityBoundParameters,
    shape=frozenset(DeepInjectivityBoundParameters.model_fields),
    outcomes=(
        Outcome("active_bound", "active neurons of each layer, the fewest found", kind="count", dims=_LAYER),
        Outcome(
            "not_locally_injective",
            "an input with fewer than n active neurons was found, in this layer or before",
            kind="proportion",
            dims=_LAYER,
        ),
        Outcome(
            "below_twice",
            "an input with fewer than 2n active neurons was found in this layer",
            kind="proportion",
            dims=_LAYER,
        ),
    ),
    sample=_sample,
    cost=_cost,
    memory=_memory,
    realised=REALISED,
    witness=_witness,
)
