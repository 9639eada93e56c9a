"""Random layers with drawn weights: one code path for fully connected and convolutional networks.

A layer cuts out the r x r x d patch x_p at every pixel p and multiplies each patch by the N x (d r^2)
matrix of Gaussian weights: channel i at p is F_i . x_p, stride 1, no bias. A fully connected layer is the
same layer on an image of one pixel, r = 1.
Nachum et al., "A Johnson-Lindenstrauss Framework for Randomly Initialized CNNs", ICLR 2022.

Without biases a ReLU or linear network is positively homogeneous in each image, so `hidden_layers`
rescales each image's activations to norm one after every layer: angles do not change, nothing overflows
at any depth, and the scale of the weights drops out. A dead image (all zero) becomes NaN and stays NaN.

Bits do not depend on a network's place in its lane. BLAS may add in another order when a matrix starts at
another offset from a cache line, so every network's matrices are copied to one workspace, rows padded
with zeros to 64 bytes, and multiplied there one network at a time. (The workspace also stays in cache: on
a CPU, a fresh batch of patch columns costs more in page faults than in arithmetic.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Padding = Literal["circular", "zero"]
Activation = Literal["relu", "linear"]
Normals = Callable[..., Tensor]
"""`normals(tensor, *shape)` -> standard normals, float32 (lane, *shape), on the images' device."""

_LINE = 16  # float32 numbers in 64 bytes


def hidden_layers(
    images: Tensor,
    normals: Normals,
    *,
    width: int,
    depth: int,
    side: int,
    padding: Padding,
    activation: Activation,
) -> Iterator[Tensor]:
    """Yield every layer's activations, float32 (lane, width, k, rows, cols), each image rescaled to norm one.

    `images` is (lane, k, channels, rows, cols): k inputs of every network of the lane. Layer l
    draws its weights as tensor l, (width, fan-in), a filter's in the order channel, row, column.
    """
    hidden = _rescaled(images.transpose(1, 2))
    for layer in range(depth):
        fan_in = hidden.shape[1] * side**2
        hidden = convolve(hidden, normals(layer, width, fan_in), side, padding)
        if activation == "relu":
            hidden = hidden.relu_()
        hidden = _rescaled(hidden)
        yield hidden


def convolve(images: Tensor, weights: Tensor, side: int, padding: Padding) -> Tensor:
    """Pre-activations (lane, filters, k, rows, cols) of images (lane, channels, k, rows, cols).

    `weights` is (lane, filters, channels side^2), a filter's entries in the order channel, row, column.
    """
    lane, filters, fan_in = weights.shape
    _, channels, k, rows, cols = images.shape
    places = k * rows * cols
    patches = _patches(images, side, padding)
    left = images.new_zeros(filters, _whole_lines(fan_in))
    right = images.new_zeros(_whole_lines(fan_in), _whole_lines(places))
    columns = right[:fan_in, :places].unflatten(1, (k, rows, cols)).unflatten(0, (channels, side, side))
    out = images.new_empty(lane, filters, _whole_lines(places))
    for i in range(lane):
        left[:, :fan_in] = weights[i]
        columns.copy_(patches[i])
        torch.mm(left, right, out=out[i])
    return out[..., :places].unflatten(-1, (k, rows, cols))


def launch_bytes(width: int, channels: int, pixels: int, side: int, images: int) -> int:
    """Most bytes a network needs at once in a layer with `channels` channels in, the workspace included."""
    places = _whole_lines(images * pixels)
    fan_in = channels * side**2
    weights = 4 * width * (fan_in + _whole_lines(fan_in))
    return weights + 4 * places * (_whole_lines(fan_in) + 2 * channels) + 24 * width * places


def _patches(images: Tensor, side: int, padding: Padding) -> Tensor:
    """The patch at every pixel, a view (lane, channels, side, side, k, rows, cols) of the padded images."""
    lane, channels, k, rows, cols = images.shape
    if edge := side // 2:
        mode = "circular" if padding == "circular" else "constant"
        images = functional.pad(images.reshape(lane * channels, k, rows, cols), (edge,) * 4, mode=mode)
        images = images.unflatten(0, (lane, channels))
    return images.unfold(3, side, 1).unfold(4, side, 1).permute(0, 1, 5, 6, 2, 3, 4)


def _rescaled(hidden: Tensor) -> Tensor:
    return hidden / torch.linalg.vector_norm(hidden, dim=(1, 3, 4), keepdim=True)


def _whole_lines(n: int) -> int:
    return -(-n // _LINE) * _LINE
