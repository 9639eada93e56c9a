"""Small convolutional networks for images of a few pixels, of three families, K filters of side p in the first layer.

- cnn: convolution, ReLU, 2 x 2 maxima; a hidden layer of 4 K neurons.
- vgg: two convolutions of K filters and two of 2 K, the first of side p and the others of side 3, each with batch
  normalisation and ReLU, and 2 x 2 maxima after each two; the mean of every channel. After Simonyan, Zisserman,
  "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015 (arXiv 1409.1556).
- resnet: a convolution, batch normalisation, ReLU; two residual blocks of two convolutions of side 3 each, as in He,
  Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, and 2 x 2 maxima between; the mean of
  every channel.

All of them end in a dense layer with an output a class.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from sweeps.errors import unknown
from sweeps.networks.layered import (
    Activation,
    Add,
    Affine,
    Convolution,
    Dense,
    GlobalAveragePool,
    Image,
    Layer,
    Layered,
    MaxPool,
    Save,
)

SmallCnn = Literal["cnn", "vgg", "resnet"]
POOLS: dict[SmallCnn, int] = {"cnn": 1, "vgg": 2, "resnet": 1}


def small_cnn(architecture: SmallCnn, image: Image, width: int, side: int, classes: int) -> Layered:
    """`width` filters of side `side` in the first layer, on images (channels, rows, cols).

    Raises:
        UnknownNameError, ValueError: no such architecture; the filters or the pools do not fit the image; in one line.
    """
    if architecture not in POOLS:
        raise unknown("architecture", architecture, get_args(SmallCnn))
    _check(architecture, image, side)
    layers = {"cnn": _cnn, "vgg": _vgg, "resnet": _resnet}[architecture](width, side)
    return Layered(image, (*layers, Dense(classes)))


def first_filters(layered: Layered, packed: np.ndarray) -> np.ndarray:
    """The filters of the first layer of packed networks (..., size): (..., filters, channels side^2)."""
    return np.ascontiguousarray(layered.unpack(packed)[0][0].swapaxes(-1, -2))


def _check(architecture: SmallCnn, image: Image, side: int) -> None:
    smallest, needed = min(image[1:]), 2 ** POOLS[architecture]
    if side % 2 == 0:
        raise ValueError(f"the side of filters must be odd, got {side}")
    if side > smallest:
        raise ValueError(f"the side of filters must be at most that of the images, {smallest} pixels, got {side}")
    if smallest < needed:
        raise ValueError(
            f"a {architecture} halves images to pool them and needs {needed} x {needed} pixels, got {image}"
        )


def _cnn(width: int, side: int) -> list[Layer]:
    return [Convolution(width, side), Activation(), MaxPool(), Dense(4 * width), Activation()]


def _vgg(width: int, side: int) -> list[Layer]:
    first = [Convolution(width, side), Affine(), Activation(), Convolution(width, 3), Affine(), Activation()]
    second = [Convolution(2 * width, 3), Affine(), Activation()] * 2
    return [*first, MaxPool(), *second, MaxPool(), GlobalAveragePool()]


def _resnet(width: int, side: int) -> list[Layer]:
    block = [Convolution(width, 3), Affine(), Activation(), Convolution(width, 3), Affine()]
    residual = [Save(), *block, Add(), Activation()]
    first = [Convolution(width, side), Affine(), Activation()]
    return [*first, *residual, MaxPool(), *residual, GlobalAveragePool()]
