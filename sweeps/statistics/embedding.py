"""A data set of k inputs in a random network: its Gram matrix layer by layer, and the worst distortion of any pair.

The Johnson-Lindenstrauss lemma for random networks: with N neurons or filters of the order of log(k)/eps^2, all pairs
of inputs keep their inner products up to eps in a linear network. In others the inner products move to a limit, and
keep to that in the same way. `sweeps needed` reads off the width for an eps and a probability.
Johnson, Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space", 1984; Nachum, Hazla, Gastpar, Khina,
"A Johnson-Lindenstrauss Framework for Randomly Initialized CNNs", ICLR 2022 (arXiv 2111.02155).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from sweeps.networks.architecture import Geometry
from sweeps.statistic import Dim, Networks, Outcome, Statistic, by_point
from sweeps.statistics import _network
from sweeps.statistics._network import NetworkParameters


class EmbeddingParameters(NetworkParameters):
    """One random network and a set of inputs."""

    members: int = Field(ge=2, le=128, description="k, how many inputs the set has", json_schema_extra={"unit": "1"})
    group: int = Field(
        0, ge=0, lt=2**31, description="which set of inputs of the family", json_schema_extra={"unit": "index"}
    )

    @property
    def count(self) -> int:
        return self.members

    @property
    def which(self) -> int:
        return self.group


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    p = EmbeddingParameters(**networks.points.point(0))
    points, of_network = _network.different(p, networks, "group")
    given, layers = _network.draw(points, of_network, networks, device)
    limits = [_network.limit_of(point) for point in points]
    wide = Geometry(*(np.stack(column)[of_network] for column in zip(*limits, strict=True)))
    inputs = Geometry(*(values[:, None] for values in given))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = {
            **_gram(layers),
            "max_distortion": _worst(_products(layers, inputs) - inputs.cosine),
            "max_stretch": _worst(np.exp(_log_distance(layers) - _log_distance(inputs)) - 1),
            "max_deviation": _worst(_products(layers, wide) - wide.cosine),
        }
    return {name: np.where(np.isfinite(values), values, np.nan) for name, values in found.items()}


def _gram(layers: Geometry) -> dict[str, np.ndarray]:
    """What the cosines alone decide."""
    k = layers.log_square.shape[-1]
    alive = np.where(np.isfinite(layers.log_square), 1.0, np.nan)
    matrix = alive[..., None] * np.eye(k)
    i, j = np.triu_indices(k, 1)
    matrix[..., i, j] = matrix[..., j, i] = layers.cosine
    return {
        "cosine": matrix,
        "mean_cosine": layers.cosine.mean(-1),
        "participation": k**2 / (matrix**2).sum((-1, -2)),
    }


def _products(layers: Geometry, against: Geometry) -> np.ndarray:
    """Inner products (..., pairs) of activations, over the norms of the same inputs in `against`."""
    first, second = _members(layers.log_square - against.log_square)
    return np.exp((first + second) / 2) * layers.cosine


def _log_distance(g: Geometry) -> np.ndarray:
    """ln of the mean squared difference of the members of every pair, to full precision where they are near."""
    first, second = _members(g.log_square)
    longer = np.expm1((second - first) / 2)
    return first + np.log(longer**2 + 4 * (1 + longer) * np.sin(g.angle / 2) ** 2)


def _members(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (..., k) of the first and of the second member of every pair."""
    first, second = np.triu_indices(values.shape[-1], 1)
    return values[..., first], values[..., second]


def _worst(errors: np.ndarray) -> np.ndarray:
    return np.abs(errors).max(-1)


def _theory(p: EmbeddingParameters) -> dict[str, np.ndarray]:
    return _gram(_network.limit_of(p))


_LAYER = Dim("layer", "depth", "layer")
_DECADE = (1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2, 2.2, 2.5, 2.8, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9)
_BINS = (
    *(float(f"{step}e{power}") for power in range(-4, 4) for step in _DECADE),
    1e4,
)  # round: `needed` asks for them
STATISTIC = Statistic(
    name="embedding",
    summary="Gram matrix and worst distortion of k inputs after every layer of a random network",
    source="Nachum, Hazla, Gastpar, Khina, ICLR 2022 (arXiv 2111.02155)",
    parameters=EmbeddingParameters,
    shape=frozenset(EmbeddingParameters.model_fields) - {"correlation", "group"},
    outcomes=(
        Outcome(
            "max_distortion",
            "largest change of an inner product of two inputs, over their norms, after each layer",
            dims=(_LAYER,),
            bins=_BINS,
        ),
        Outcome(
            "max_deviation",
            "largest difference of an inner product from infinite width, over the norms there, after each layer",
            dims=(_LAYER,),
            bins=_BINS,
        ),
        Outcome(
            "max_stretch",
            "largest relative change of a squared distance of two inputs after each layer",
            dims=(_LAYER,),
            bins=_BINS,
        ),
        Outcome("mean_cosine", "mean cosine of all pairs of inputs after each layer", dims=(_LAYER,)),
        Outcome("participation", "participation ratio of the Gram matrix's spectrum after each layer", dims=(_LAYER,)),
        Outcome(
            "cosine",
            "cosine of two inputs after each layer",
            dims=(_LAYER, Dim("first", "members", "input", 0), Dim("second", "members", "other input", 0)),
        ),
    ),
    sample=_sample,
    theory=by_point(_theory, EmbeddingParameters),
    theory_note="infinite width, from the actual inputs; none for the largest errors",
    cost=lambda p: p.seconds,
    memory=lambda p: p.launch_bytes + p.limit_bytes // p.lane,
    lane=lambda p: p.lane,
    gpu_lane=lambda p: p.gpu_lane,
)
