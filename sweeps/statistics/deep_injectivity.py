"""Injectivity of deep random ReLU networks without biases, locally and globally, exactly.

z_0 = x in R^n, z_i = ReLU(A_i z_{i-1}), A_i an m_i x m_{i-1} Gaussian matrix, m_i = floor(alpha_i n + 1/2). Every
outcome has one value a layer: what holds for the network that ends with this layer.

- k_i* is the least number of active neurons of layer i over all x != 0 inside a linear piece.
- Locally injective: the Jacobian of every piece has rank n, almost surely iff k_j* >= n for all j <= i.
- Globally injective: no two inputs have the same z_i.

For one layer the two are the same, and what the statistic `injectivity` measures. Decided by sweeps.networks.deep.
Puthawala, Kothari, Lassas, Dokmanic, de Hoop, "Globally Injective ReLU Networks", JMLR 2022 (arXiv 2006.08464);
Stojnic, "Deep ReLU networks - injectivity capacity upper bounds", arXiv 2412.19677.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from sweeps.networks.deep import collision, decide
from sweeps.statistic import Dim, Networks, Outcome, Statistic, by_point
from sweeps.statistics._expansion import REALISED, Expansion
from sweeps.theory import injectivity as theory
from sweeps.witness import Witness, of_network

LIMIT = 5 * 10**7
"""Most pre-activations at the rays of one draw's pieces: about 1 GB, and seconds to half a minute."""


class DeepInjectivityParameters(Expansion):
    """One random network of `depth` layers on n inputs."""

    n: int = Field(
        ge=2,
        le=4,
        description="number of inputs; all linear pieces are listed, so at most 4",
        json_schema_extra={"unit": "1"},
    )

    @model_validator(mode="after")
    def _feasible(self) -> Self:
        if sum(_numbers(self.n, self.widths)) > LIMIT:
            ratio = _largest(self.n, self.depth) / self.n
            raise ValueError(
                f"widths {self.widths} at n {self.n} mean about {sum(_numbers(self.n, self.widths)):.2g} "
                f"pre-activations a draw, more than {LIMIT:.0e}; use alpha, or each layer's own, <= {ratio:.6g}"
            )
        return self


def _rays(n: int, neurons: int) -> float:
    """Rays of all pieces: on average as many as the cells of all neurons in one layer, of 2^(n-1) rays each."""
    cells = 2 * sum(math.comb(neurons + n - 1, i) for i in range(n))  # n more, for the cones that the space begins as
    return cells if n == 2 else 2 ** (n - 1) * cells  # an arc shares its rays with its neighbours


def _numbers(n: int, widths: list[int]) -> list[float]:
    """Pre-activations of each layer at the rays."""
    return [m * _rays(n, sum(widths[: i + 1])) for i, m in enumerate(widths)]


def _largest(n: int, depth: int) -> int:
    """The most neurons in each of `depth` equal layers, by bisection."""
    low, high = 1, 10**6
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sum(_numbers(n, [middle] * depth)) <= LIMIT else (low, middle)
    return low


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    p = DeepInjectivityParameters(**networks.points.point(0))
    found = decide([networks.normals(i, *shape).astype(np.float64) for i, shape in enumerate(p.shapes)])
    enough = found.min_active >= p.n
    return {
        "min_active": found.min_active.astype(np.float64),
        "enough_active": enough.astype(np.float64),
        "locally_injective": np.logical_and.accumulate(enough, axis=1).astype(np.float64),
        "globally_injective": (found.first[:, None] > np.arange(p.depth)).astype(np.float64),
    }


def _witness(networks: Networks) -> Witness | None:
    p = DeepInjectivityParameters(**networks.points.point(0))
    weights = [networks.normals(i, *shape)[0].astype(np.float64) for i, shape in enumerate(p.shapes)]
    found = collision(weights)
    return None if found is None else of_network(weights, *found)


def _theory(p: DeepInjectivityParameters) -> dict[str, np.ndarray]:
    m, deeper = p.widths[0], [math.nan] * (p.depth - 1)
    injective = np.array([theory.injective_probability(m, p.n), *deeper])
    return {
        "min_active": np.array([theory.mean_min_active(m, p.n), *deeper]),
        "enough_active": injective,
        "locally_injective": injective,
        "globally_injective": injective,
    }


def _cost(p: DeepInjectivityParameters) -> float:
    """Fitted to one core of a 2023 Xeon."""
    each, rays = (2e-8 if p.n == 2 else 8e-9 * p.n), 0.0
    products = 0.0  # of what a layer puts out at the rays so far with the weights of the next
    for i, (m, before) in enumerate(p.shapes):
        products += rays * m * before if i else 0.0
        rays = _rays(p.n, sum(p.widths[: i + 1]))
    return 5e-6 + each * sum(_numbers(p.n, p.widths)) + 5e-10 * products


def _memory(p: DeepInjectivityParameters) -> int:
    return 28 * p.weights + int(24 * max(_numbers(p.n, p.widths)))


_LAYER = (Dim("layer", "depth", "layer"),)
STATISTIC = Statistic(
    name="deep_injectivity",
    summary="Local and global injectivity of a deep random ReLU network, and the least active neurons of every layer",
    source="Puthawala, Kothari, Lassas, Dokmanic, de Hoop, JMLR 2022 (arXiv 2006.08464); Stojnic, arXiv 2412.19677",
    parameters=DeepInjectivityParameters,
    shape=frozenset(DeepInjectivityParameters.model_fields),
    outcomes=(
        Outcome(
            "min_active",
            "least number of active neurons k* of each layer",
            kind="count",
            dims=_LAYER,
            bins=(*(i - 0.5 for i in range(34)), math.inf),
        ),
        Outcome("enough_active", "layer never has fewer than n active neurons (k* >= n)", "proportion", dims=_LAYER),
        Outcome(
            "locally_injective", "every linear piece up to this layer is injective", kind="proportion", dims=_LAYER
        ),
        Outcome("globally_injective", "network up to this layer is injective", kind="proportion", dims=_LAYER),
    ),
    sample=_sample,
    cost=_cost,
    memory=_memory,
    theory=by_point(_theory, DeepInjectivityParameters),
    exact=lambda points: dict.fromkeys(
        ("min_active", "enough_active", "locally_injective", "globally_injective"), True
    ),
    witness=_witness,
    references=theory.THRESHOLDS,  # of layer 1
    theory_note="exact in layer 1, at n = 2, where m < 3n - 1 (never injective) and where m <= n + 2 (Wendel)",
    realised=REALISED,
)
