"""Angle of two inputs, layer by layer, in random fully connected and convolutional networks.

Linear networks preserve angles up to O(1/sqrt(N)). ReLU layers contract them: fully connected ones by a
known map, convolutional ones by an amount that depends on the images.
Drawn weights are float32, and angles below about 1e-6 are then rounding; the Gram sampler goes to 1e-14.
Nachum, Hazla, Gastpar, Khina, "A Johnson-Lindenstrauss Framework for Randomly Initialized CNNs", ICLR 2022
(arXiv 2111.02155).
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from sweeps.inputs import sets
from sweeps.networks import angles, gram, layers
from sweeps.networks.layers import Activation, Padding
from sweeps.statistic import Dim, Networks, Outcome, Parameters, Statistic, by_point
from sweeps.theory import angle as theory

DIRECT_LIMIT = 2**32  # bytes one network may need in the direct sampler


class AngleParameters(Parameters):
    """One random network and one pair of inputs."""

    network: Literal["fnn", "cnn"] = Field("fnn", description="fully connected or convolutional network")
    width: int = Field(
        ge=1,
        le=2**20,
        description="width N: neurons (fnn) or filters (cnn) of every layer",
        json_schema_extra={"unit": "1"},
    )
    depth: int = Field(ge=1, le=1000, description="depth L: number of layers", json_schema_extra={"unit": "layer"})
    activation: Activation = Field("relu", description="activation after every layer")
    inputs: sets.Family = Field(
        "gaussian",
        description="family of input pairs: Gaussian images, photographs, 8 x 8 digits, images that attain bounds",
    )
    correlation: float = Field(
        0.5,
        ge=-1,
        le=1,
        description="cosine of the two inputs, for families that take one; others have the cosine they have",
        json_schema_extra={"unit": "1"},
    )
    pair: int = Field(0, ge=0, lt=2**31, description="which pair of the family", json_schema_extra={"unit": "index"})
    side: int = Field(
        32,
        ge=1,
        le=256,
        description="side of the images; digits are 8 x 8",
        json_schema_extra={"unit": "pixel"},
    )
    filter_side: int = Field(3, ge=1, description="filter side r, odd (cnn only)", json_schema_extra={"unit": "pixel"})
    padding: Padding = Field("circular", description="padding, stride 1 (cnn only)")
    sampler: Literal["auto", "direct", "gram"] = Field(
        "auto",
        description="draw weights (direct), or pre-activations given the inputs' angle (gram, fnn only); "
        "the same law; auto: gram for fnn, direct for cnn",
    )

    @property
    def image(self) -> tuple[int, int, int]:
        """(channels, rows, columns) the network sees: one pixel when fully connected."""
        channels, rows, cols = sets.shape(self.inputs, self.side)
        return (channels * rows * cols, 1, 1) if self.network == "fnn" else (channels, rows, cols)

    @property
    def layer_side(self) -> int:
        """Side of the filters; 1 when fully connected."""
        return 1 if self.network == "fnn" else self.filter_side

    @property
    def uses_gram(self) -> bool:
        return self.sampler == "gram" or (self.sampler == "auto" and self.network == "fnn")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        sets.check(self.inputs, 2, self.side, self.correlation)
        if self.network == "cnn" and self.sampler == "gram":
            raise ValueError("sampler 'gram' is for network 'fnn'; use 'direct' or 'auto' with network 'cnn'")
        if self.network == "cnn" and self.filter_side % 2 == 0:
            raise ValueError(f"filter_side must be odd, got {self.filter_side}; use {self.filter_side + 1}")
        if self.network == "cnn" and self.filter_side > self.image[1]:
            raise ValueError(f"filter_side {self.filter_side} is larger than the image ({self.image[1]} pixels)")
        if not self.uses_gram and (needed := _memory(self)) > DIRECT_LIMIT:
            raise ValueError(
                f"width {self.width} with weights drawn needs {needed / 2**30:.1f} GiB a network, "
                f"more than {DIRECT_LIMIT / 2**30:.0f}; use a smaller width"
                + (" or sampler 'gram'" if self.network == "fnn" else "")
            )
        return self


def _sample(networks: Networks, device: str) -> dict[str, Any]:
    p = AngleParameters(**networks.points.point(0))
    pairs, of_network = _different_pairs(networks)
    cosine_in, theta = np.array([_angle_in(p.inputs, p.side, *which) for which in pairs]).T[:, of_network]
    how = {"width": p.width, "depth": p.depth, "activation": p.activation}
    if p.uses_gram:
        cosines, thetas = gram.angles_by_layer(theta, networks.normals, **how)
    else:
        images = np.stack([sets.inputs(p.inputs, 2, p.side, *which) for which in pairs])
        images = torch.from_numpy(images.reshape(-1, 2, *p.image)[of_network]).to(device)
        normals = partial(networks.normals_on, device)
        each = layers.hidden_layers(images, normals, side=p.layer_side, padding=p.padding, **how)
        layerwise = [angles.between(h[:, :, 0].flatten(1), h[:, :, 1].flatten(1)) for h in each]
        cosines, thetas = (torch.stack(layer, -1) for layer in zip(*layerwise, strict=True))
    return {"cosine": cosines, "angle": thetas, "cosine_in": cosine_in}


def _different_pairs(networks: Networks) -> tuple[list[tuple[float, int]], np.ndarray]:
    """The different (correlation, pair) of a lane, and which of them each network has, (networks,)."""
    columns = np.stack([networks.column("correlation"), networks.column("pair").astype(np.float64)], axis=1)
    different, of_network = np.unique(columns, axis=0, return_inverse=True)
    return [(float(rho), int(index)) for rho, index in different], of_network.reshape(-1)


@lru_cache(maxsize=4096)
def _angle_in(inputs: sets.Family, side: int, correlation: float, index: int) -> tuple[float, float]:
    """(cosine, angle) of one pair, one pair at a time: its bits must not depend on its neighbours."""
    x, y = torch.tensor(sets.inputs(inputs, 2, side, correlation, index), dtype=torch.float64).flatten(1)
    cosine, angle = angles.between(x, y)
    return cosine.item(), angle.item()


def _theory(p: AngleParameters) -> dict[str, np.ndarray | float]:
    correlation = p.correlation if "correlation" in sets.PARAMETERS[p.inputs] else 0.0
    layer = (p.layer_side, p.padding) if p.network == "cnn" else (1, "circular")
    cosines, thetas, cosine_in = _limit(p.network, p.depth, p.activation, p.inputs, p.side, correlation, p.pair, *layer)
    return {"cosine": cosines, "angle": thetas, "cosine_in": cosine_in}


@lru_cache(maxsize=4096)
def _limit(
    network: str,
    depth: int,
    activation: Activation,
    inputs: sets.Family,
    side: int,
    correlation: float,
    index: int,
    filter_side: int,
    padding: Padding,
) -> tuple[np.ndarray, np.ndarray, float]:
    """(cosines, angles, cosine in) at infinite width, from the images themselves."""
    x, y = sets.inputs(inputs, 2, side, correlation, index)
    cosine_in, theta = _angle_in(inputs, side, correlation, index)
    if network == "fnn":
        thetas = theory.fnn_angles(theta, depth, activation)
        return np.cos(thetas), thetas, cosine_in
    cosines = theory.cnn_cosines(x, y, depth, side=filter_side, padding=padding, activation=activation)
    return cosines, np.arccos(np.clip(cosines, -1, 1)), cosine_in


def _weights(p: AngleParameters) -> int:
    channels, _, _ = p.image
    return p.width * p.layer_side**2 * (channels + (p.depth - 1) * p.width)


def _cost(p: AngleParameters) -> float:
    """Measured on one core of a 2.1 GHz Sapphire Rapids."""
    if p.uses_gram:
        return 1e-6 + p.depth * (2e-7 + 9e-9 * p.width)
    _, rows, cols = p.image
    columns = max(16, 2 * rows * cols)
    return 2e-5 + _weights(p) * (3.2e-9 + 2e-11 * columns) + 5e-9 * p.depth * p.width * columns


def _memory(p: AngleParameters) -> int:
    channels, rows, cols = p.image
    inputs = 8 * channels * rows * cols
    if p.uses_gram:
        return inputs + 24 * p.width + 32 * p.depth
    widest = max(channels, p.width if p.depth > 1 else 0)
    return inputs + layers.launch_bytes(p.width, widest, rows * cols, p.layer_side, 2)


def _lane(p: AngleParameters) -> int:
    """Networks a launch, a power of two: few enough to stay near the cache, enough to pay for a launch."""
    fit = 2**16 // p.width if p.uses_gram else 2**26 // _memory(p)
    return min(2 ** (max(1, fit).bit_length() - 1), 256 if p.uses_gram else 64)


_LAYER = (Dim("layer", "depth", "layer"),)
STATISTIC = Statistic(
    name="angle",
    summary="angle and cosine of two inputs after every layer of a random network",
    source="Nachum, Hazla, Gastpar, Khina, ICLR 2022 (arXiv 2111.02155)",
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
        Outcome("cosine_in", "cosine of the two inputs"),
    ),
    sample=_sample,
    theory=by_point(_theory, AngleParameters),
    exact=lambda points: {"cosine_in": True},
    theory_note="infinite width, from the actual inputs (cosine, angle); exact (cosine_in)",
    cost=_cost,
    memory=_memory,
    lane=_lane,
)
