"""Convolution and batch normalisation of many networks on a CPU: compiled loops in place of patches and products.

The padded images of a network are one row of numbers, in which the entry of a patch that a weight t sees, over a whole
row of pixels and all k images, is a run of numbers from an offset o_t on. So with p the numbers from one row of pixels
to the next

    Z[o, r, q] = b[o] + sum_t W[o, t] x[o_t + r p + q],        dW[o, t] = sum_{r, q} dZ[o, r, q] x[o_t + r p + q],

and nothing is copied. The gradient of the images is the first of these again: of dZ, padded as the images are, with
filters turned by half a circle, inputs and outputs exchanged. Three times as fast as patches and products, at 64
networks and 8 filters of side 3; and a network is treated by itself, so that no bit depends on others.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor
from torch.nn import functional

from sweeps.compiled import compiled
from sweeps.networks import layered, stacked_layers
from sweeps.networks.layered import Image
from sweeps.networks.stacked_layers import EPSILON, Padded

fused = partial(compiled, fastmath=("contract",))  # sums in order, a product and a sum as one where the machine can
reordered = partial(compiled, fastmath=("contract", "reassoc"))  # sums in as many parts as vectors hold


@fused
def convolve(x, offsets, pitch, weights, out):
    """`out` (networks, outputs, rows, q) of x (networks, numbers); weights (networks, outputs, all t, then biases)."""
    networks, outputs, rows, length = out.shape
    eights = len(offsets) // 8 * 8
    for n in range(networks):
        for r in range(rows):
            seen = x[n][r * pitch :]
            for o in range(outputs):
                w, z = weights[n, o], out[n, o, r]
                bias = w[len(offsets)]
                for q in range(length):
                    z[q] = bias
                for t in range(0, eights, 8):
                    _add_eight(seen, offsets[t:], w[t:], z)
                for t in range(eights, len(offsets)):
                    a, u = seen[offsets[t] :], w[t]
                    for q in range(length):
                        z[q] += u * a[q]


@fused
def _add_eight(seen, offsets, w, z):
    a, b, c, d = seen[offsets[0] :], seen[offsets[1] :], seen[offsets[2] :], seen[offsets[3] :]
    e, f, g, h = seen[offsets[4] :], seen[offsets[5] :], seen[offsets[6] :], seen[offsets[7] :]
    w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
    for q in range(len(z)):
        half = z[q] + w0 * a[q] + w1 * b[q] + w2 * c[q] + w3 * d[q]
        z[q] = half + w4 * e[q] + w5 * f[q] + w6 * g[q] + w7 * h[q]


@reordered
def correlate(x, offsets, pitch, gradient, out):
    """`out` (networks, outputs, all t, then biases) of x and a gradient (networks, outputs, rows, q)."""
    networks, outputs, rows, _ = gradient.shape
    fours = outputs // 4 * 4
    for n in range(networks):
        out[n] = 0
        for r in range(rows):
            seen, g, w = x[n][r * pitch :], gradient[n], out[n]
            for o in range(0, fours, 4):
                _add_four(seen, offsets, g[o, r], g[o + 1, r], g[o + 2, r], g[o + 3, r], w[o:])
            for o in range(fours, outputs):
                _add_one(seen, offsets, g[o, r], w[o])


@reordered
def _add_four(seen, offsets, a, b, c, d, out):
    biases = len(offsets)
    for t in range(biases):
        x = seen[offsets[t] :]
        of_a = of_b = of_c = of_d = np.float32(0)
        for q in range(len(a)):
            of_a, of_b = of_a + a[q] * x[q], of_b + b[q] * x[q]
            of_c, of_d = of_c + c[q] * x[q], of_d + d[q] * x[q]
        out[0, t], out[1, t] = out[0, t] + of_a, out[1, t] + of_b
        out[2, t], out[3, t] = out[2, t] + of_c, out[3, t] + of_d
    out[0, biases], out[1, biases] = out[0, biases] + _sum(a), out[1, biases] + _sum(b)
    out[2, biases], out[3, biases] = out[2, biases] + _sum(c), out[3, biases] + _sum(d)


@reordered
def _add_one(seen, offsets, a, out):
    for t in range(len(offsets)):
        x, total = seen[offsets[t] :], np.float32(0)
        for q in range(len(a)):
            total += a[q] * x[q]
        out[t] += total
    out[len(offsets)] += _sum(a)


@reordered
def _sum(a):
    total = np.float32(0)
    for q in range(len(a)):
        total += a[q]
    return total


@reordered
def normalise(x, batch, scale, shift, mean, inverse, out):
    """Batch normalisation of x (networks, channels, pixels, k) by the `batch` first images, and what it goes by."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            of_channel = x[n, c]
            middle = np.float32(_over(of_channel, batch, np.float32(0), False) / (len(of_channel) * batch))
            variance = _over(of_channel, batch, middle, True) / (len(of_channel) * batch)
            mean[n, c], inverse[n, c] = middle, 1 / np.sqrt(variance + EPSILON)
            factor, more = inverse[n, c] * scale[n, c], shift[n, c]
            for p in range(len(of_channel)):
                a, z = of_channel[p], out[n, c, p]
                for q in range(len(z)):
                    z[q] = (a[q] - middle) * factor + more


@reordered
def _over(of_channel, batch, middle, squared):
    """The sum, of squares or not, of what lies above `middle` of the first images, in float64 over pixels."""
    total = 0.0
    for p in range(len(of_channel)):
        a, part = of_channel[p], np.float32(0)
        if squared:
            for q in range(batch):
                part += (a[q] - middle) * (a[q] - middle)
        else:
            for q in range(batch):
                part += a[q] - middle
        total += part
    return total


@reordered
def unnormalise(gradient, x, batch, scale, mean, inverse, of_scale, of_shift):
    """Makes `gradient` that of x, and gives those of scales and shifts."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            middle, factor = mean[n, c], inverse[n, c]
            total = along = 0.0
            for p in range(x.shape[2]):
                a, g = x[n, c, p], gradient[n, c, p]
                some = some_along = np.float32(0)
                for q in range(batch):
                    some += g[q]
                    some_along += g[q] * (a[q] - middle)
                total, along = total + some, along + some_along
            of_shift[n, c], of_scale[n, c] = total, along * factor
            count = x.shape[2] * batch
            mean_gradient, slope = np.float32(total / count), np.float32(along * factor * factor / count)
            for p in range(x.shape[2]):
                a, g = x[n, c, p], gradient[n, c, p]
                for q in range(batch):
                    g[q] = (g[q] - mean_gradient - slope * (a[q] - middle)) * (scale[n, c] * factor)
                for q in range(batch, len(g)):
                    g[q] = 0


class Convolution(stacked_layers.Weighted):
    def __init__(self, parameters, gradients, image: Image, k: int, layer: layered.Convolution) -> None:
        super().__init__(parameters, gradients)
        (weights,) = parameters
        self.image, self.side, self.circular = image, layer.side, layer.padding == "circular"
        self.padded = Padded.of(weights.new_empty(len(weights), *image, k), layer.side, layer.padding == "circular")
        self.reads_from = self.padded.inside
        self.out = weights.new_empty(len(weights), layer.filters, *image[1:], k)

    def forward(self, x: Tensor) -> Tensor:
        if x is not self.reads_from:
            self.reads_from.copy_(x)
        return self._convolved(self.padded, self.parameters[0], self.out)

    def _convolved(self, padded: Padded, weights: Tensor, out: Tensor) -> Tensor:
        padded.fill()
        convolve(*self._runs(padded), weights.numpy(), out.flatten(3).numpy())
        return out

    def _runs(self, padded: Padded) -> tuple[np.ndarray, np.ndarray, int]:
        """Rows of numbers, the offset of every weight, and the numbers of a row of pixels."""
        channels, rows, cols, k = padded.whole.shape[1:]
        first = np.arange(channels)[:, None, None] * rows * cols * k
        within = (np.arange(self.side)[:, None] * cols + np.arange(self.side)) * k
        return padded.whole.flatten(1).numpy(), (first + within).ravel(), cols * k

    def backward(self, gradient: Tensor, inputs: bool) -> Tensor:
        if self.gradients:
            correlate(*self._runs(self.padded), gradient.contiguous().flatten(3).numpy(), self.gradients[0].numpy())
        if not inputs:
            return gradient
        if not hasattr(self, "beyond"):
            self.beyond = Padded.of(gradient, self.side, self.circular)
            self.found = gradient.new_empty(*self.reads_from.shape)
        self.beyond.inside.copy_(gradient)
        return self._convolved(self.beyond, self._turned(), self.found)

    def _turned(self) -> Tensor:
        """Weights (networks, channels, filters side^2 and a bias of 0), every filter turned by half a circle."""
        (weights,) = self.parameters
        filters = weights[..., : self.image[0] * self.side**2].unflatten(2, (self.image[0], self.side, self.side))
        turned = filters.flip(3, 4).transpose(1, 2).flatten(2)
        return functional.pad(turned, (0, 1))


class Affine(stacked_layers.Affine):
    """Batch normalisation; without a batch, what the other does."""

    writes_anywhere = False

    def forward(self, x: Tensor) -> Tensor:
        if self.batch is None:
            return super().forward(x)
        self.x = x.contiguous()
        scale, shift = (p.numpy() for p in self.parameters)
        self.mean, self.inverse = np.empty_like(scale), np.empty_like(scale)
        x_of, out = (values.flatten(2, 3).numpy() for values in (self.x, self.out))
        normalise(x_of, self.batch, scale, shift, self.mean, self.inverse, out)
        return self.out

    def backward(self, gradient: Tensor, inputs: bool) -> Tensor:
        if self.batch is None:
            return super().backward(gradient, inputs)
        found, (of_scale, of_shift) = gradient.contiguous(), (g.numpy() for g in self.gradients)
        x_of, g = (values.flatten(2, 3).numpy() for values in (self.x, found))
        scale = self.parameters[0].numpy()
        unnormalise(g, x_of, self.batch, scale, self.mean, self.inverse, of_scale, of_shift)
        return found
