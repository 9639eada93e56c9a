"""What the statistics on folding share: the piecewise linear network as parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sweeps.networks.architecture import Padding, Pool
from sweeps.networks.initial import Initialisation
from sweeps.networks.layered import (
    Activation,
    Affine,
    AveragePool,
    Convolution,
    Dense,
    Image,
    Layer,
    Layered,
    MaxPool,
)
from sweeps.statistic import Parameters
from sweeps.statistics._images import check_filters


class LayeredParameters(Parameters):
    """Hidden layers of equal width, before training random."""

    network: Literal["fnn", "cnn"] = Field("fnn", description="fully connected or convolutional network")
    width: int = Field(
        ge=1,
        le=2**20,
        description="width N: neurons (fnn) or filters (cnn) of every hidden layer",
        json_schema_extra={"unit": "1"},
    )
    depth: int = Field(
        ge=1, le=1000, description="depth L: number of hidden layers", json_schema_extra={"unit": "layer"}
    )
    activation: Literal["relu", "leaky-relu", "abs"] = Field(
        "relu", description="activation; a neuron's bit is 1 where its pre-activation is positive"
    )
    slope: float = Field(
        0.01, ge=-1, lt=1, description="slope of leaky-relu below zero", json_schema_extra={"unit": "1"}
    )
    initialisation: Initialisation = Field(
        "he", description="law of the weights before training: variance 2/fan-in (he, orthogonal), "
        "2/(fan-in + fan-out) (xavier)"
    )  # fmt: skip
    scale: float = Field(
        1.0, gt=0, le=1000, description="factor of the weights before training", json_schema_extra={"unit": "1"}
    )
    filter_side: int = Field(
        3, ge=1, le=255, description="side r of the filters, odd (cnn only)", json_schema_extra={"unit": "pixel"}
    )
    padding: Padding = Field("zero", description="padding, stride 1 (cnn only)")
    pool: Pool = Field("average", description="2 x 2 pooling of stride 2, by average or maximum (cnn only)")
    pool_layers: int = Field(
        0,
        ge=0,
        le=8,
        description="pooling follows each of the first so many layers (cnn only)",
        json_schema_extra={"unit": "layer"},
    )

    def stacked(self, image: Image, *, batch_norm: bool = False, outputs: int = 0) -> Layered:
        """The hidden layers on an image (channels, rows, cols), and a read-out of so many outputs unless 0.

        Raises:
            ValueError: the image has no room for filters or pooling.
        """
        layers: list[Layer] = []
        if self.network == "cnn":
            check_filters(self.filter_side, self.pool_layers, self.depth, image)
        for layer in range(self.depth):
            if self.network == "cnn":
                layers.append(Convolution(self.width, self.filter_side, self.padding))
            else:
                layers.append(Dense(self.width))
            layers += [Affine(), Activation()] if batch_norm else [Activation()]
            if self.network == "cnn" and layer < self.pool_layers:
                layers.append(MaxPool() if self.pool == "max" else AveragePool())
        if outputs:
            layers.append(Dense(outputs))
        below = {"relu": 0.0, "abs": -1.0}.get(self.activation, self.slope)
        return Layered(image, tuple(layers), below)
