"""Angle of two inputs, layer by layer, in random fully connected and convolutional networks.

Linear networks preserve angles up to O(1/sqrt(N)). ReLU layers contract them: fully connected ones by a known map,
convolutional ones by an amount that depends on the images.
Nachum, Hazla, Gastpar, Khina, "A Johnson-Lindenstrauss Framework for Randomly Initialized CNNs", ICLR 2022
(arXiv 2111.02155).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from pydantic import Field

from sweeps.networks.architecture import Geometry
from sweeps.statistic import Curve, Dim, Networks, Outcome, Statistic, by_point
from sweeps.statistics import _network
from sweeps.statistics._network import NetworkParameters
from sweeps.theory import bounds, finite
from sweeps.theory.arccos import kappa1


class AngleParameters(NetworkParameters):
    """One random network and one pair of inputs."""

    pair: int = Field(0, ge=0, lt=2**31, description="which pair of the family", json_schema_extra={"unit": "index"})

    @property
    def count(self) -> int:
        return 2

    @property
    def which(self) -> int:
        return self.pair


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    p = AngleParameters(**networks.points.point(0))
    points, of_network = _network.different(p, networks, "pair")
    given, layers = _network.draw(points, of_network, networks, device)
    low, high, alignment = np.array([_bounds(point) for point in points]).T[:, of_network]
    found = _layerwise(given, layers)
    dead, one_dead = np.isnan(layers.log_square[..., 0]), np.isnan(layers.cosine[..., 0])
    found["norm_ratio"][dead] = 0
    found["distortion"] = np.where(one_dead, -given.cosine, found["distortion"])
    return {
        **found,
        "cosine_in": given.cosine[..., 0],
        "lower_bound": low,
        "upper_bound": high,
        "alignment": alignment,
    }


def _layerwise(given: Geometry, layers: Geometry) -> dict[str, np.ndarray]:
    """The outcomes along layers, (..., depth), of inputs (..., k) and their layers (..., depth, k)."""
    cosine, angle = layers.cosine[..., 0], layers.angle[..., 0]
    growth = layers.log_square - given.log_square[..., None, :]  # of each input
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        distortion = np.exp(growth.sum(-1) / 2) * cosine - given.cosine
        log_sin2 = 2 * np.log(np.sin(angle))
        found = {"cosine": cosine, "angle": angle, "log_sin2": log_sin2, "norm_ratio": np.exp(growth[..., 0]),
                 "distortion": distortion}  # fmt: skip
    return {name: np.where(np.isfinite(values), values, np.nan) for name, values in found.items()}


def _bounds(p: AngleParameters) -> tuple[float, float, float]:
    """(lower bound, upper bound, W) of the cosine after the first layer; the bounds are for ReLU without biases."""
    how = p.architecture
    if p.network == "cnn":
        x, y = _network.images_of(p)
        rho, w = bounds.alignment(x, y, how)
    else:
        rho, w = _network.of_inputs(p).cosine[0], 1.0
    if how.activation != "relu" or how.bias_variance or how.pool_layers:
        return math.nan, math.nan, float(w)
    low, high = bounds.sharp_bounds(rho, w)
    return float(low), float(high), float(w)


def _theory(p: AngleParameters) -> dict[str, np.ndarray | float]:
    """At infinite width; better at finite width where that is known."""
    how, given, wide = p.architecture, _network.of_inputs(p), _network.limit_of(p)
    found = _layerwise(given, wide)
    gaussian = p.network == "fnn" and p.weights == "gaussian" and not how.bias_variance
    if gaussian and p.activation == "linear":
        found["cosine"][0] = finite.linear_cosine(given.cosine[0], p.width)[0]
    if gaussian and p.activation == "relu" and 0 < (theta := float(given.angle[0])) < math.pi:
        found["log_sin2"] = finite.log_sin2(theta, p.width, p.depth)[0]
    low, high, alignment = _bounds(p)
    return {
        **found,
        "cosine_in": given.cosine[0],
        "lower_bound": low,
        "upper_bound": high,
        "alignment": alignment,
    }


def _exact(p: AngleParameters) -> dict[str, np.ndarray | bool]:
    """Where theory is the mean of a draw at the point's own width.

    Of a linear network all inner products, whatever the law of the weights; of others those after the first layer,
    with Gaussian weights; mean squares: see `finite.exact_mean_square`.
    """
    how, first = p.architecture, np.arange(p.depth) == 0
    linear, gaussian = p.activation == "linear", p.weights == "gaussian"
    max_pooled = how.pool_layers > 0 and p.pool == "max"
    rounding = linear and p.weights == "orthogonal"  # an isometry moves nothing but the last digits of float32
    heavy = p.weights == "student" and p.freedom <= 4  # the squares have no variance to judge a mean by
    known = not (rounding or heavy)
    return {
        "cosine": first & (linear and gaussian and p.network == "fnn" and not how.bias_variance),
        "norm_ratio": finite.exact_mean_square(how) & known,
        "distortion": (linear | (first & gaussian)) & (not max_pooled and known),
        "cosine_in": True,
        "lower_bound": True,
        "upper_bound": True,
        "alignment": True,
    }


_LAYER = (Dim("layer", "depth", "layer"),)
_FIRST_RELU = {"activation": ("relu",), "bias_variance": (0.0,), "pool_layers": (0,), "layer": (1,)}
_NACHUM = "Nachum, Hazla, Gastpar, Khina, ICLR 2022 (arXiv 2111.02155)"


def _curve(label: str, values: Callable[[np.ndarray], np.ndarray], source: str = _NACHUM) -> Curve:
    """Of the cosine after the first layer against that of the inputs."""
    return Curve("cosine", "cosine_in", label, source, values, where=_FIRST_RELU)


STATISTIC = Statistic(
    name="angle",
    summary="angle and cosine of two inputs after every layer of a random network",
    source=_NACHUM,
    parameters=AngleParameters,
    shape=frozenset(AngleParameters.model_fields) - {"correlation", "pair"},
    outcomes=(
        Outcome(
            "cosine",
            "cosine of the two inputs after each layer",
            dims=_LAYER,
            bins=tuple(np.linspace(-1, 1, 41).tolist()),
        ),
        Outcome("angle", "angle between the two inputs after each layer", units="rad", dims=_LAYER),
        Outcome("log_sin2", "ln of the squared sine of the angle after each layer", dims=_LAYER),
        Outcome("norm_ratio", "mean square of an input's activations over that of the input", dims=_LAYER),
        Outcome(
            "distortion",
            "inner product after each layer less that of the inputs, both means over neurons, over the inputs' norms",
            dims=_LAYER,
        ),
        Outcome("cosine_in", "cosine of the two inputs"),
        Outcome("lower_bound", "lower bound on the cosine after a wide first layer, of ReLU without biases"),
        Outcome("upper_bound", "upper bound on the cosine after a wide first layer, of ReLU without biases"),
        Outcome("alignment", "W, mean product of the norms of patches, relative to the images' norms"),
    ),
    sample=_sample,
    theory=by_point(_theory, AngleParameters),
    theory_note="infinite width, from the actual inputs (cosine, angle); of order 1/N (log_sin2 of a ReLU fnn); "
    "exact at any width where <outcome>_z is a number (norm_ratio, distortion; cosine of one linear layer)",
    exact=lambda points: _exact(AngleParameters(**points.point(0))),
    curves=(
        _curve("fully connected, N to infinity", kappa1, "Cho, Saul, NeurIPS 2009"),
        _curve("lower bound max(rho, 0)", lambda rho: np.maximum(rho, 0)),
        _curve("upper bound (1 + rho)/2", lambda rho: (1 + rho) / 2),
    ),
    cost=lambda p: p.seconds,
    memory=lambda p: p.launch_bytes,
    lane=lambda p: p.lane,
    gpu_lane=lambda p: p.gpu_lane,
)
