"""Piecewise linear networks as lists of layers, and their parameters as rows of numbers.

An image (channels, rows, cols) goes through the layers one after the other; a vector is an image of one pixel. The
activation of every hidden neuron is max(z, 0) + slope min(z, 0): ReLU at slope 0, leaky ReLU between 0 and 1, the
absolute value at -1. The signs of the pre-activations z before the `Activation` layers, pixel by pixel, are the
activation pattern: 1 where z > 0.

A residual connection (He, Zhang, Ren, Sun, CVPR 2016) is the layers from a `Save` to its `Add`: x plus what they make
of x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sweeps.networks.architecture import Padding

Image = tuple[int, int, int]


@dataclass(frozen=True)
class Dense:
    """Every output sees the whole image. Parameters: weights (in, outputs), biases (outputs,)."""

    outputs: int


@dataclass(frozen=True)
class Convolution:
    """A side x side patch with all its channels at every pixel, stride 1, `side` odd; the size of the image stays.

    Parameters: weights (channels side^2, filters), a filter's entries in the order channel, row, column as in a
    cross-correlation, then biases (filters,).
    """

    filters: int
    side: int
    padding: Padding = "zero"


@dataclass(frozen=True)
class Affine:
    """A scale and a shift a channel, as batch normalisation is at inference. Parameters: scales, then shifts."""


@dataclass(frozen=True)
class Activation:
    """What makes a layer of hidden neurons."""


@dataclass(frozen=True)
class AveragePool:
    """Means of 2 x 2 pixels, stride 2; an odd last row or column is left out."""


@dataclass(frozen=True)
class MaxPool:
    """Maxima of 2 x 2 pixels, stride 2; an odd last row or column is left out."""


@dataclass(frozen=True)
class GlobalAveragePool:
    """The mean of all pixels of a channel."""


@dataclass(frozen=True)
class Save:
    """Keeps what it is given, and passes it on."""


@dataclass(frozen=True)
class Add:
    """Adds what the last `Save` keeps that no other has added."""


Layer = Dense | Convolution | Affine | Activation | AveragePool | MaxPool | GlobalAveragePool | Save | Add
KINDS: tuple[type[Layer], ...] = (Dense, Convolution, Affine, Activation, AveragePool, MaxPool)
DENSE, CONVOLUTION, AFFINE, ACTIVATION, AVERAGE_POOL, MAX_POOL = range(len(KINDS))


@dataclass(frozen=True)
class Layered:
    """A network without its parameters. Layers after the last activation, such as a read-out, are allowed.

    Raises:
        ValueError: a `Save` and an `Add` do not match; in one line.
    """

    image: Image
    layers: tuple[Layer, ...]
    slope: float = 0.0

    def __post_init__(self) -> None:
        for add, save in self.connections.items():
            if self.shapes[save] != self.shapes[add]:
                raise ValueError(f"layer {add} adds {self.shapes[save]} of layer {save} to {self.shapes[add]}")

    @cached_property
    def connections(self) -> dict[int, int]:
        """Of every `Add` its `Save`, both numbered as layers, from 0."""
        found, waiting = {}, []
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Save):
                waiting.append(i)
            elif isinstance(layer, Add):
                if not waiting:
                    raise ValueError(f"layer {i} is an Add, and no Save before it is left")
                found[i] = waiting.pop()
        if waiting:
            raise ValueError(f"layer {waiting[-1]} is a Save, and no Add after it is left")
        return found

    @cached_property
    def shapes(self) -> tuple[Image, ...]:
        """The image, and what every layer makes of it."""
        found = [self.image]
        for layer in self.layers:
            channels, rows, cols = found[-1]
            match layer:
                case Dense(outputs):
                    found.append((outputs, 1, 1))
                case Convolution(filters):
                    found.append((filters, rows, cols))
                case AveragePool() | MaxPool():
                    found.append((channels, rows // 2, cols // 2))
                case GlobalAveragePool():
                    found.append((channels, 1, 1))
                case _:
                    found.append(found[-1])
        return tuple(found)

    @cached_property
    def blocks(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """The shapes of every layer's parameters, in the order in which a packed row holds them."""
        found: list[tuple[tuple[int, ...], ...]] = []
        for layer, shape in zip(self.layers, self.shapes, strict=False):
            match layer:
                case Dense(outputs):
                    found.append(((math.prod(shape), outputs), (outputs,)))
                case Convolution(filters, side):
                    found.append(((shape[0] * side**2, filters), (filters,)))
                case Affine():
                    found.append(((shape[0],), (shape[0],)))
                case _:
                    found.append(())
        return tuple(found)

    @property
    def size(self) -> int:
        """Parameters of a network."""
        return sum(math.prod(block) for blocks in self.blocks for block in blocks)

    @cached_property
    def hidden(self) -> tuple[int, ...]:
        """Neurons of every hidden layer."""
        pairs = zip(self.layers, self.shapes, strict=False)
        return tuple(math.prod(shape) for layer, shape in pairs if isinstance(layer, Activation))

    @cached_property
    def program(self) -> np.ndarray:
        """int64 (layers, 7), as compiled loops read it: kind, channels, rows, cols of what the layer is given, its
        outputs or filters, the side of its filters, and whether its padding is circular.

        Raises:
            ValueError: walks do not know a layer; in one line.
        """
        if others := sorted({type(layer).__name__ for layer in self.layers if type(layer) not in KINDS}):
            raise ValueError(f"paths can be walked through networks without {', '.join(others)} alone")
        rows = []
        for layer, shape in zip(self.layers, self.shapes, strict=False):
            row = [KINDS.index(type(layer)), *shape, 0, 0, 0]
            match layer:
                case Dense(outputs):
                    row[4] = outputs
                case Convolution(filters, side, padding):
                    row[4:] = filters, side, padding == "circular"
            rows.append(row)
        return np.array(rows, np.int64).reshape(-1, 7)

    @cached_property
    def hidden_program(self) -> np.ndarray:
        """The program up to the last activation."""
        last = np.flatnonzero(self.program[:, 0] == ACTIVATION)
        return self.program[: last[-1] + 1 if len(last) else 0]

    def pack(self, *parameters: Sequence[np.ndarray]) -> np.ndarray:
        """One network, float64 (size,): a sequence of arrays a layer, empty for layers without parameters.

        Raises:
            ValueError: an array has another shape than `blocks` says.
        """
        given = tuple(tuple(np.shape(block) for block in layer) for layer in parameters)
        if given != self.blocks:
            raise ValueError(f"the layers need parameters of shapes {self.blocks}, got {given}")
        flat = [np.ravel(block) for layer in parameters for block in layer]
        return np.concatenate(flat).astype(np.float64) if flat else np.empty(0)

    def unpack(self, packed: np.ndarray) -> list[list[np.ndarray]]:
        """Views (..., *shape) of packed networks (..., size), a list a layer."""
        found, at = [], 0
        for blocks in self.blocks:
            found.append([])
            for block in blocks:
                end = at + math.prod(block)
                found[-1].append(packed[..., at:end].reshape(*packed.shape[:-1], *block))
                at = end
        return found


def fully_connected(inputs: int, widths: Sequence[int], slope: float = 0.0) -> Layered:
    """Hidden layers of the given widths on a vector."""
    layers = [layer for width in widths for layer in (Dense(width), Activation())]
    return Layered((inputs, 1, 1), tuple(layers), slope)
