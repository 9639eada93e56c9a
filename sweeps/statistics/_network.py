"""What the statistics on angles share: the random network and its inputs as parameters, a draw of it, its limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, Self, TypeVar

import numpy as np
from pydantic import Field, model_validator

from sweeps.inputs import sets
from sweeps.networks import direct, gram, gram_cnn
from sweeps.networks.architecture import Activation, Architecture, Geometry, Law, Padding, Pool, gpu_lane, lane_within
from sweeps.statistic import Networks
from sweeps.statistics._images import InputParameters, check_filters
from sweeps.theory import limit

LIMIT = 2**32  # bytes one network may need, and its theory
LAUNCH = 2**28  # bytes a launch may need, if it is of several networks
Sampler = Literal["direct", "gram"]


class NetworkParameters(InputParameters):
    """One random network and what it is given."""

    network: Literal["fnn", "cnn"] = Field("fnn", description="fully connected or convolutional network")
    width: int = Field(
        ge=1,
        le=2**20,
        description="width N: neurons (fnn) or filters (cnn) of every layer",
        json_schema_extra={"unit": "1"},
    )
    depth: int = Field(ge=1, le=1000, description="depth L: number of layers", json_schema_extra={"unit": "layer"})
    activation: Activation = Field("relu", description="activation after every layer; relu2 is relu squared")
    slope: float = Field(
        0.01, ge=-1, le=1, description="slope of leaky-relu below zero", json_schema_extra={"unit": "1"}
    )
    weight_variance: float = Field(
        2.0,
        gt=0,
        le=100,
        description="variance of a weight times its fan-in: 2 keeps mean squares with relu, 1 with linear and abs",
        json_schema_extra={"unit": "1"},
    )
    bias_variance: float = Field(
        0.0, ge=0, le=100, description="variance of the biases, which are normal", json_schema_extra={"unit": "1"}
    )
    weights: Law = Field("gaussian", description="law of the weights, of mean 0 and equal variances")
    density: float = Field(
        0.1,
        ge=1e-4,
        le=1,
        description='share of the weights that are not zero, with weights = "sparse"',
        json_schema_extra={"unit": "1"},
    )
    freedom: float = Field(
        5.0,
        ge=3,
        le=1000,
        description='degrees of freedom, with weights = "student"',
        json_schema_extra={"unit": "1"},
    )
    filter_side: int = Field(
        3, ge=1, le=255, description="side r of the filters, odd (cnn only)", json_schema_extra={"unit": "pixel"}
    )
    padding: Padding = Field("circular", description="padding, stride 1 (cnn only)")
    pool: Pool = Field("average", description="2 x 2 pooling of stride 2, by average or maximum (cnn only)")
    pool_layers: int = Field(
        0,
        ge=0,
        le=8,
        description="pooling follows each of the first so many layers (cnn only)",
        json_schema_extra={"unit": "layer"},
    )
    inputs: sets.Family = Field("gaussian", description="family of inputs, see docs/inputs.md")
    sampler: Literal["auto", "direct", "gram"] = Field(
        "auto",
        description="draw weights (direct), or pre-activations given the inputs' Gram matrix (gram, for Gaussian "
        "weights only); the same law; auto: whichever is about the cheaper",
    )

    @property
    def count(self) -> int:
        """k, how many inputs a network is given."""
        raise NotImplementedError

    @property
    def which(self) -> int:
        """Which set of inputs of the family."""
        raise NotImplementedError

    @property
    def image(self) -> tuple[int, int, int]:
        """(channels, rows, columns) the network sees: one pixel when fully connected."""
        channels, rows, columns = sets.shape(self.inputs, self.side, self.path)
        return (channels * rows * columns, 1, 1) if self.network == "fnn" else (channels, rows, columns)

    @property
    def architecture(self) -> Architecture:
        convolutional = self.network == "cnn"
        return Architecture(
            width=self.width,
            depth=self.depth,
            activation=self.activation,
            slope=self.slope,
            weight_variance=self.weight_variance,
            bias_variance=self.bias_variance,
            law=self.weights,
            density=self.density,
            freedom=self.freedom,
            side=self.filter_side if convolutional else 1,
            padding=self.padding if convolutional else "circular",
            pool=self.pool,
            pool_layers=min(self.pool_layers, self.depth) if convolutional else 0,
        )

    @property
    def chosen(self) -> Sampler:
        """The sampler. What `auto` becomes decides a draw's numbers, so it is a rule of counts and never retuned; these
        are about where the two cost the same."""
        if self.sampler != "auto":
            return self.sampler
        _, rows, columns = self.image
        places = self.count * rows * columns
        enough = self.width * self.filter_side**2 >= 10 * places if self.network == "cnn" else self.width >= places
        return "gram" if enough and self.weights == "gaussian" else "direct"

    def _costs(self) -> tuple[Any, tuple[Any, ...]]:
        """The sampler's module, and what its cost is a function of."""
        if self.chosen == "gram" and self.network == "fnn":
            return gram, (self.architecture, self.count)
        return direct if self.chosen == "direct" else gram_cnn, (self.architecture, self.count, self.image)

    @property
    def seconds(self) -> float:
        module, how = self._costs()
        return module.seconds(*how)

    @property
    def launch_bytes(self) -> int:
        """That a network needs, with what is made of its cosines."""
        module, how = self._costs()
        return module.launch_bytes(*how) + 56 * self.depth * self.count**2

    @property
    def limit_bytes(self) -> int:
        """That the infinite-width theory of a set of inputs needs: maps of pairs, of neighbours too where pooled."""
        _, rows, columns = self.image
        reach = 2 ** (self.architecture.pool_layers + 1) - 1 if self.pool == "average" else 1
        return 130 * self.count * (self.count - 1) // 2 * rows * columns * reach**2

    @property
    def lane(self) -> int:
        module, how = self._costs()
        return lane_within(LAUNCH, self.launch_bytes, module.lane(*how))

    @property
    def gpu_lane(self) -> int:
        """Gram samplers run on the CPU, also of a GPU worker."""
        return gpu_lane(self.launch_bytes) if self.chosen == "direct" else self.lane

    @model_validator(mode="after")
    def _has_inputs(self) -> Self:
        if self.path and self.inputs != "file":
            raise ValueError(
                f'path is for inputs = "file", and inputs is "{self.inputs}"; leave it out, or change inputs'
            )
        sets.check(self.inputs, self.count, self.side, self.correlation, self.cell, self.path)
        return self

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.network == "cnn":
            check_filters(self.filter_side, self.pool_layers, self.depth, self.image)
        if self.sampler == "gram" and self.weights != "gaussian":
            raise ValueError(f'sampler "gram" is for weights "gaussian", got "{self.weights}"; use "direct" or "auto"')
        if (needed := self.launch_bytes) > LIMIT:
            raise ValueError(
                f"width {self.width} needs {needed / 2**30:.1f} GiB a network with sampler {self.chosen!r}, more than "
                f"{LIMIT / 2**30:.0f}; use a smaller width"
                + (', or sampler = "gram"' if self.chosen == "direct" and self.weights == "gaussian" else "")
                + (', smaller or fewer inputs, or sampler = "direct"' if self.chosen == "gram" else "")
            )
        if self.limit_bytes > LIMIT:
            raise ValueError(
                f"the infinite-width theory of {self.count} inputs of {self.image[1]} x {self.image[2]} pixels needs "
                f"{self.limit_bytes / 2**30:.1f} GiB, more than {LIMIT / 2**30:.0f}; use fewer inputs, smaller images "
                f"or fewer pool_layers"
            )
        return self


P = TypeVar("P", bound=NetworkParameters)


def different(p: P, networks: Networks, which: str) -> tuple[list[P], np.ndarray]:
    """The different sets of inputs of a lane, as parameters, and which of them each network has, (networks,)."""
    columns = np.stack([networks.column("correlation"), networks.column(which).astype(np.float64)], axis=1)
    rows, of_network = np.unique(columns, axis=0, return_inverse=True)
    points = [p.model_copy(update={"correlation": float(rho), which: int(index)}) for rho, index in rows]
    return points, of_network.reshape(-1)


def draw(
    points: Sequence[NetworkParameters], of_network: np.ndarray, networks: Networks, device: str
) -> tuple[Geometry, Geometry]:
    """(inputs, layers): a network's Geometry of its inputs, without the axis `depth`, and that after every layer."""
    p = points[0]
    each = [of_inputs(point) for point in points]
    for point, found in zip(points, each, strict=True):
        if np.isnan(found.log_square).any():
            raise ValueError(
                f"input {int(np.isnan(found.log_square).argmax())} of set {point.which} is zero everywhere and has no "
                f"angle with any other; leave such images out of {point.path.partition('#')[0]!r}"
            )
    given = Geometry(*(np.stack(column)[of_network] for column in zip(*each, strict=True)))
    if p.chosen == "gram" and p.network == "fnn":
        return given, gram.fnn(given.log_square, given.angle, networks, p.architecture)
    images = np.stack([images_of(point) for point in points]).reshape(-1, p.count, *p.image)
    if p.chosen == "gram":
        return given, gram_cnn.sample(images, of_network, networks, p.architecture)
    return given, direct.sample(images, of_network, networks, p.architecture, device)


def images_of(p: NetworkParameters) -> np.ndarray:
    """The inputs, float32 (k, channels, rows, columns)."""
    return sets.inputs(p.inputs, p.count, p.side, p.correlation, p.which, p.cell, p.path)


def of_inputs(p: NetworkParameters) -> Geometry:
    """Lengths (k,) and angles (pairs,) of the inputs; `correlation` itself where a family has it exactly."""
    return _of_inputs(p.inputs, p.count, p.side, p.correlation, p.which, p.cell, p.path)


@lru_cache(maxsize=512)
def _of_inputs(
    family: sets.Family, count: int, side: int, correlation: float, which: int, cell: int, path: str
) -> Geometry:
    pairs = count * (count - 1) // 2
    if family == "gaussian":
        return Geometry(np.zeros(count), np.full(pairs, correlation), np.full(pairs, np.arccos(correlation)))
    images = sets.inputs(family, count, side, correlation, which, cell, path)
    return gram.geometry(images.reshape(count, -1).astype(np.float64))


def limit_of(p: NetworkParameters) -> Geometry:
    """The same after every layer at infinite width, of any law of the weights."""
    rho = p.correlation if "correlation" in sets.PARAMETERS[p.inputs] else 0.0
    wide = replace(p.architecture, width=1, law="gaussian")  # neither decides anything of the limit
    return _limit(p.network, wide, p.image, (p.inputs, p.count, p.side, rho, p.which, p.cell, p.path))


@lru_cache(maxsize=32)
def _limit(network: str, architecture: Architecture, image: tuple[int, int, int], given: tuple[Any, ...]) -> Geometry:
    if network == "fnn":
        inputs = _of_inputs(*given)
        return limit.fnn(inputs.log_square, inputs.angle, architecture)
    return limit.cnn(sets.inputs(*given).reshape(-1, *image), architecture)
