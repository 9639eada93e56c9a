"""Space folding of random piecewise linear networks along a path, exactly.

A straight segment in input space crosses the faces of the network's linear regions. Its activation pattern
may come back towards where it started: the path folds, and chi in [0, 1] says how much; see
sweeps.networks.fold_measures. Lewandowski, Eghbalzadeh, Heinzl, Pisoni, Moser, "On Space Folds of ReLU Neural
Networks", TMLR 2025 (arXiv 2502.09954).

Paths go straight from input to input, of a family or of a plane. There all points have mean square 1, as hidden layers
have on average without biases: bias_variance compares to a variance 2 of the weights' part of every pre-activation, in
the first layer as in the others. Gaussian weights look the same from every direction, so the first layer needs drawing
in the plane of the points only, and the results hold for every input dimension >= 2: it is no parameter.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self, get_args

import numpy as np
from pydantic import Field, model_validator

from sweeps.inputs import labelled, sets
from sweeps.networks.folds import fold_paths, path_bytes, seconds
from sweeps.networks.initial import initial
from sweeps.networks.layered import Layered
from sweeps.statistic import Dim, Networks, Outcome, Points, Statistic, by_point
from sweeps.statistics import _folding_theory
from sweeps.statistics._images import InputParameters
from sweeps.statistics._layered import LayeredParameters

LIMIT = 2**32  # bytes one network may need
SUBSET = 2**20  # the tensor that chooses the neurons of chi_subset
PLANE = (2, 1, 1)


class FoldingParameters(InputParameters, LayeredParameters):
    """One random network and one path."""

    bias_variance: float = Field(
        0.0,
        ge=0,
        description="variance of the biases; the weights' part of a pre-activation has variance 2 in a plane",
        json_schema_extra={"unit": "1"},
    )
    inputs: Literal["plane", sets.Family] = Field(
        "plane", description="what the path goes through: points of a plane, or inputs of a family, see docs/inputs.md"
    )
    angle: float = Field(
        math.pi / 2,
        ge=0.01,
        le=3.13,
        description="angle of successive points of a plane at the origin; at pi a segment would run through it",
        json_schema_extra={"unit": "rad"},
    )
    pair: int = Field(
        0, ge=0, lt=2**31, description="which pair of the family, or longer path", json_schema_extra={"unit": "index"}
    )
    classes: labelled.Pairs = Field(
        "any", description="successive inputs: any, within a class, or between two (digits and labelled files)"
    )
    points: int = Field(
        2, ge=2, le=64, description="inputs that the path joins by straight segments", json_schema_extra={"unit": "1"}
    )
    samples: int = Field(
        1000, ge=2, le=10**5, description="equally spaced points that chi_sampled sees", json_schema_extra={"unit": "1"}
    )
    share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of the hidden neurons, a random subset, that chi_subset looks at",
        json_schema_extra={"unit": "1"},
    )
    layers: int = Field(
        1,
        ge=1,
        le=1000,
        description="layers of which outcomes are given one by one; undefined beyond the depth",
        json_schema_extra={"unit": "layer"},
    )
    joins: int = Field(
        1,
        ge=1,
        le=100,
        description="equally spaced places of the path where interaction cuts it in two",
        json_schema_extra={"unit": "1"},
    )

    @property
    def layered(self) -> Layered:
        return self.stacked(PLANE if self.inputs == "plane" else sets.shape(self.inputs, self.side, self.path))

    @model_validator(mode="after")
    def _has_inputs(self) -> Self:
        if self.path and self.inputs != "file":
            raise ValueError(
                f'path is for inputs = "file", and inputs is "{self.inputs}"; leave it out, or change inputs'
            )
        if self.inputs == "plane":
            if self.network == "cnn":
                raise ValueError('network "cnn" needs images; choose inputs of a family, such as "photo-centred"')
        else:
            sets.check(self.inputs, self.points, self.side, self.correlation, self.cell, self.path)
        if self.classes != "any" and self.inputs not in get_args(labelled.Data):
            raise ValueError(
                f'classes "{self.classes}" need inputs that have classes, "digits" or "file", got "{self.inputs}"'
            )
        if self.classes != "any" and self.inputs == "file":
            labelled.check_pairs(labelled.labels(self.inputs, self.path), self.classes)
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (needed := _memory(self) + path_bytes(self.layered, self.points - 1, _flips(self))) > LIMIT:
            raise ValueError(
                f"width {self.width}, depth {self.depth} and {self.points} points need {needed / 2**30:.1f} GiB a "
                f"network, more than {LIMIT / 2**30:.0f}; use a smaller width or depth, fewer points or smaller images"
            )
        return self


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    p = FoldingParameters(**networks.points.point(0))
    layered = p.layered
    packed = initial(networks, layered, p.initialisation, networks.column("scale"), networks.column("bias_variance"))
    growth = _balance(p, networks, layered, packed)
    kept = networks.words(SUBSET, sum(layered.hidden)) < (networks.column("share") * 2.0**32)[:, None]
    folds = fold_paths(
        layered,
        packed,
        np.arange(len(networks)),
        _paths(p, networks),
        layers=p.layers,
        joins=p.joins,
        subset=kept,
        samples=p.samples,
    )
    chi, lengths = folds.chi, np.full_like(folds.lengths, np.nan)
    with np.errstate(over="ignore"):
        lengths[:, : p.depth] = np.ldexp(folds.lengths[:, : p.depth], growth[:, : p.layers])
    folded = np.where(np.isnan(chi), np.nan, chi > 0)
    return {
        "chi": chi,
        "folded": folded,
        "chi_if_folded": np.where(chi > 0, chi, np.nan),
        "breakpoints": folds.breakpoints,
        "r1": folds.r1,
        "r2": folds.r2,
        "chi_reversed": folds.chi_reversed,
        "regions": folds.regions,
        "chi_sampled": folds.chi_sampled,
        "chi_subset": folds.chi_subset,
        "chi_to_layer": folds.to_layer,
        "chi_of_layer": folds.by_layer,
        "interaction": folds.interaction,
        "arc": folds.arcs,
        "length": np.where(np.isfinite(lengths), lengths, np.nan),
    }


def _balance(p: FoldingParameters, networks: Networks, layered: Layered, packed: np.ndarray) -> np.ndarray:
    """Divide each layer's weights, in networks without biases, by the power of 2 next to how much it makes of a length:
    no depth overflows or vanishes, and no pattern changes. What the curves after each layer have to be multiplied by,
    (networks, depth), as logarithms to base 2."""
    exponents = np.zeros((len(networks), p.depth), np.int64)
    weighty = [blocks[0] for blocks in layered.unpack(packed) if blocks]
    for layer, weights in enumerate(weighty):
        root_mean_square = np.sqrt((weights[:, : 2**10] ** 2).mean((1, 2)) * weights.shape[1] / 2)
        exponents[:, layer] = np.where(networks.column("bias_variance") > 0, 0, np.round(np.log2(root_mean_square)))
        np.ldexp(weights, -exponents[:, layer, None, None], out=weights)
    return np.cumsum(exponents, axis=1)


def _paths(p: FoldingParameters, networks: Networks) -> np.ndarray:
    """Float64 (networks, points, inputs)."""
    if p.inputs == "plane":
        return np.sqrt(2) * _circle(networks.column("angle"), p.points)  # |x|^2 = 2, the dimension of the plane
    columns = np.stack([networks.column("correlation"), networks.column("pair").astype(np.float64)], axis=1)
    rows, of_network = np.unique(columns, axis=0, return_inverse=True)
    found = [_path(p.model_copy(update={"correlation": float(rho), "pair": int(pair)})) for rho, pair in rows]
    return np.stack(found)[of_network.reshape(-1)]


def _circle(angle: np.ndarray, points: int) -> np.ndarray:
    """Successive points of the unit circle, (networks, points, 2)."""
    places = (np.arange(points) - (points - 1) / 2) * angle[:, None]
    return np.stack([np.cos(places), np.sin(places)], axis=2)


def _path(p: FoldingParameters) -> np.ndarray:
    """Float64 (points, inputs)."""
    if p.classes != "any" and (p.inputs == "digits" or p.inputs == "file"):
        images = labelled.members(p.inputs, p.path, p.points, p.classes, p.pair)
    else:
        assert p.inputs != "plane"
        images = sets.inputs(p.inputs, p.points, p.side, p.correlation, p.pair, p.cell, p.path)
    return images.reshape(p.points, -1).astype(np.float64)


def _flips(p: FoldingParameters) -> float:
    """About the share of neurons that a segment flips."""
    return p.angle / math.pi if p.inputs == "plane" else 0.3


def _cost(p: FoldingParameters) -> float:
    return 9e-9 * p.layered.size + seconds(p.layered, p.points - 1, _flips(p))


def _memory(p: FoldingParameters) -> int:
    """Of weights, the path, neurons and flips."""
    layered, neurons = p.layered, sum(p.layered.hidden)
    return 16 * layered.size + 16 * p.points * math.prod(layered.image) + (16 + 64 * (p.points - 1)) * neurons


def _theory(p: FoldingParameters) -> dict[str, Any]:
    one = Networks(Points({}, {"angle": np.array([p.angle])}), np.zeros(1, np.uint64), np.zeros(1, np.uint64))
    return _folding_theory.predicted(p, _paths(p, one)[0] if p.inputs == "plane" else _path(p))


def _exact(points: Points) -> dict[str, np.ndarray]:
    rows = [_folding_theory.exact(FoldingParameters(**points.point(i))) for i in range(len(points))]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


_LAYER = (Dim("layer", "layers", "layer"),)
_BINS = tuple(i / 50 for i in range(51))

STATISTIC = Statistic(
    name="folding",
    summary="Space folding of random piecewise linear networks along a path",
    source="Lewandowski, Eghbalzadeh, Heinzl, Pisoni, Moser, TMLR 2025 (arXiv 2502.09954)",
    parameters=FoldingParameters,
    shape=frozenset(FoldingParameters.model_fields)
    - {"angle", "bias_variance", "scale", "correlation", "pair", "share"},
    outcomes=(
        Outcome("chi", "space folding measure chi", bins=_BINS),
        Outcome("folded", "path folds (chi > 0)", kind="proportion"),
        Outcome("chi_if_folded", "chi of the paths that fold; its median is the global measure Phi", bins=_BINS),
        Outcome("breakpoints", "places where the activation pattern changes", kind="count"),
        Outcome("r1", "largest Hamming distance from the first pattern", kind="count"),
        Outcome("r2", "Hamming length of the path of patterns", kind="count"),
        Outcome("regions", "activation patterns met, different ones", kind="count"),
        Outcome("chi_reversed", "chi of the path travelled backwards"),
        Outcome("chi_sampled", "chi that equally spaced points show"),
        Outcome("chi_subset", "chi of the bits of a random subset of the neurons"),
        Outcome("chi_to_layer", "chi of the bits of all layers up to each", dims=_LAYER),
        Outcome("chi_of_layer", "chi of the bits of each layer alone", dims=_LAYER),
        Outcome(
            "interaction",
            "|chi of the path less the sum of its two parts' chi|",
            dims=(Dim("join", "joins", "place where the path is cut, of equally spaced ones"),),
        ),
        Outcome("arc", "spherical length of the curve of activations after each layer", units="rad", dims=_LAYER),
        Outcome("length", "Euclidean length of the curve of activations after each layer", dims=_LAYER),
    ),
    sample=_sample,
    cost=_cost,
    memory=_memory,
    theory=by_point(_theory, FoldingParameters),
    exact=_exact,
    theory_note="of fully connected networks: infinite width (chi, r1, interaction), exact at any width where "
    "<outcome>_z is a number (breakpoints, r2 and arc without biases, length; everything of one layer)",
)
