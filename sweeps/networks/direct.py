"""Geometry of k inputs in random networks with drawn weights: one code path, fully connected or convolutional.

A layer cuts out the side x side patch with all channels at every pixel and multiplies each patch by the width x fan-in
matrix of weights, adds a bias to each channel, activates, and pools. In float32, on the CPU or a GPU; a fully
connected layer is the same on an image of one pixel.

Every image's activations are scaled to mean square one after each layer, and their scale is carried as a logarithm:
no depth overflows or vanishes. A bias is scaled alike. An input whose activations are all zero has no length or
angle (NaN) until a bias gives it one again.

Bits do not depend on a network's place in its lane: BLAS may add in another order when a matrix starts at another
offset from a cache line, so all matrices of a lane lie at whole lines of 64 bytes, rows padded with zeros.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sweeps.networks import activations, angles
from sweeps.networks.activations import BOUNDED, LIMIT_FLOAT32, activate
from sweeps.networks.architecture import DEGREES, Architecture, Geometry, Padding, lane_within
from sweeps.networks.weights import biases, weights
from sweeps.statistic import Networks

_LINE = 16  # float32 numbers in 64 bytes
LARGEST_SCALE = 1e38  # of float32: activations that are nearly nothing stay smaller than one
_WEIGHT_SECONDS = {"student": 6e-8, "sparse": 9e-9, "orthogonal": 1e-8}


def sample(
    images: np.ndarray, of_network: np.ndarray, networks: Networks, architecture: Architecture, device: str
) -> Geometry:
    """Geometry (networks, depth, ...) of the sets of k `images`, float32 (sets, k, channels, rows, cols), network i
    seeing set `of_network[i]`. Layer l draws its weights as `weights` says, in the order filter, channel, row, column.
    """
    a = architecture
    hidden = torch.from_numpy(images).to(device)[torch.from_numpy(of_network).to(device)].transpose(1, 2)
    hidden, log_scale, _ = _rescaled(hidden, np.zeros((hidden.shape[0], hidden.shape[2])))
    layers, room = [], {}
    for layer in range(a.depth):
        fan_in = hidden.shape[1] * a.side**2
        z = convolve(hidden, weights(networks, device, layer, fan_in, a), a.side, a.padding, room)
        z, log_scale = _scaled(z, log_scale - 0.5 * math.log(fan_in), networks, layer, a, device)
        hidden = activate(z, a, _of_images(np.exp(np.clip(log_scale, -LIMIT_FLOAT32, LIMIT_FLOAT32)), z))
        log_scale = np.minimum(log_scale, LIMIT_FLOAT32) if a.activation in BOUNDED else log_scale
        log_scale = DEGREES.get(a.activation, 1) * log_scale
        if layer < a.pool_layers:
            hidden = _pooled(hidden, a.pool == "max")
        hidden, log_scale, geometry = _rescaled(hidden, log_scale)
        layers.append(geometry)
    return Geometry(*(np.stack(values, 1) for values in zip(*layers, strict=True)))


def seconds(architecture: Architecture, k: int, image: tuple[int, int, int]) -> float:
    """Of a network with k images (channels, rows, cols), on one core."""
    a, total = architecture, 0.0
    for channels, rows, cols in a.shapes(image)[:-1]:
        fan_in, places = channels * a.side**2, k * rows * cols
        weight = _WEIGHT_SECONDS.get(a.law, 5e-9) + 2e-9 + 3e-11 * _whole_lines(places)
        if a.law == "orthogonal":
            weight += 4e-10 * min(a.width, fan_in)
        entry = 1e-8 + 5e-9 * k + activations.seconds(a) / 4
        total += 1e-5 + a.width * (fan_in * weight + places * entry) + 1e-9 * fan_in * places
    return total


def launch_bytes(architecture: Architecture, k: int, image: tuple[int, int, int]) -> int:
    """That a network needs at once, in the layer that needs most."""
    most = 0
    for channels, rows, cols in architecture.shapes(image)[:-1]:
        lines, places = _whole_lines(channels * architecture.side**2), _whole_lines(k * rows * cols)
        weights = 4 * architecture.width * lines * (2 if architecture.law == "gaussian" else 5)
        most = max(most, weights + 4 * places * (lines + 2 * channels) + 40 * architecture.width * places)
    return most


def lane(architecture: Architecture, k: int, image: tuple[int, int, int]) -> int:
    """Networks a launch, a power of two: few enough to stay near the cache, enough to pay for a launch."""
    return lane_within(2**26, launch_bytes(architecture, k, image), 64)


def convolve(
    images: Tensor, weights: Tensor, side: int, padding: Padding, room: dict[tuple[int, ...], Tensor]
) -> Tensor:
    """Pre-activations (lane, filters, k, rows, cols) of images (lane, channels, k, rows, cols).

    `weights` is (lane, filters, channels side^2), a filter's entries in the order channel, row, column. `room` keeps
    the matrices of patches for the next layer: fresh memory costs more than what is written to it.
    """
    lane, _, fan_in = weights.shape
    _, channels, k, rows, cols = images.shape
    places = k * rows * cols
    left = _filled_up(weights)
    shape = lane, _whole_lines(fan_in), _whole_lines(places)
    if shape not in room:
        room[shape] = images.new_zeros(shape)
    right = room[shape]
    columns = right[:, :fan_in, :places].unflatten(2, (k, rows, cols)).unflatten(1, (channels, side, side))
    columns.copy_(_patches(images, side, padding))
    return torch.bmm(left, right)[..., :places].unflatten(-1, (k, rows, cols))


def _filled_up(weights: Tensor) -> Tensor:
    """Rows at whole lines, filled with zeros. Weights that lie so already are not copied: they are most of the memory
    that a network moves."""
    lane, filters, fan_in = weights.shape
    if fan_in == _whole_lines(fan_in) and weights.is_contiguous() and weights.data_ptr() % (4 * _LINE) == 0:
        return weights
    filled = weights.new_empty(lane, filters, _whole_lines(fan_in))
    filled[..., :fan_in], filled[..., fan_in:] = weights, 0
    return filled


def _patches(images: Tensor, side: int, padding: Padding) -> Tensor:
    """The patch at every pixel, a view (lane, channels, side, side, k, rows, cols) of the padded images."""
    lane, channels, k, rows, cols = images.shape
    if edge := side // 2:
        mode = "circular" if padding == "circular" else "constant"
        images = functional.pad(images.reshape(lane * channels, k, rows, cols), (edge,) * 4, mode=mode)
        images = images.unflatten(0, (lane, channels))
    return images.unfold(3, side, 1).unfold(4, side, 1).permute(0, 1, 5, 6, 2, 3, 4)


def _scaled(
    z: Tensor, log_scale: np.ndarray, networks: Networks, layer: int, a: Architecture, device: str
) -> tuple[Tensor, np.ndarray]:
    """Pre-activations with their bias, and the logarithms of the scales (lane, k) that they are to be multiplied by."""
    log_weight, log_bias = (0.5 * math.log(v) if v > 0 else -math.inf for v in (a.weight_variance, a.bias_variance))
    log_scale = log_scale + log_weight
    largest = np.maximum(log_scale, log_bias)
    largest[largest == -math.inf] = 0  # nothing is left
    z = z.mul_(_of_images(np.exp(log_scale - largest), z))
    if a.bias_variance > 0:
        b = biases(networks, device, layer, a.width)[:, :, None, None, None]
        z = z.add_(b * _of_images(np.exp(log_bias - largest), z))
    return z, largest


def _of_images(values: np.ndarray, like: Tensor) -> Tensor:
    """(lane, k) to float32 (lane, 1, k, 1, 1)."""
    return torch.from_numpy(values.astype(np.float32)).to(like.device)[:, None, :, None, None]


def _pooled(hidden: Tensor, largest: bool) -> Tensor:
    pool = functional.max_pool2d if largest else functional.avg_pool2d
    return pool(hidden.flatten(0, 1), 2).unflatten(0, hidden.shape[:2])


def _rescaled(hidden: Tensor, log_scale: np.ndarray) -> tuple[Tensor, np.ndarray, Geometry]:
    """Activations (lane, width, k, rows, cols) scaled to mean square one, their scales (lane, k), and the geometry."""
    flat = hidden.transpose(1, 2).flatten(2)  # (lane, k, entries)
    square = angles.squares(flat) / flat.shape[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = log_scale + 0.5 * np.log(square)
        scale = np.where(square > 0, np.minimum(1 / np.sqrt(square), LARGEST_SCALE), 0)
        log_scale = np.where(square > 0, log_scale - np.log(scale), -np.inf)
    cosine, angle = angles.of_pairs(flat)
    log_square = np.where(square > 0, 2 * logs, np.nan)
    return hidden * _of_images(scale, hidden), log_scale, Geometry(log_square, cosine, angle)


def _whole_lines(n: int) -> int:
    return -(-n // _LINE) * _LINE
