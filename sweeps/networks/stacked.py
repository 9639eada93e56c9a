"""Many networks of one architecture at once: outputs and gradients, one batched product a layer for all of them.

Activations are (networks, channels, rows, cols, k), network by network its own k images. A layer with weights makes of
them a matrix X (networks, fan-in + 1, rows cols k), the columns of which are patches, or whole images, and a last 1; so
with the biases as the last column of W

    Z = W X,    dW = dZ X^T,    dX = W^T dZ.

Gradients are written out, not traced: three times as fast as autograd over the same stacked parameters, at 64 networks
of 64-20-20-20-10 and batches of 32.

Bits do not depend on a network's place among the others, nor on these: BLAS may add in another order when a matrix
starts at another offset from a cache line, so k is a multiple of 16 (`whole_lines`), the rows of W and of inputs are
padded with zeros to whole lines of 64 bytes, and all parameters lie in one array, layer by layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

import numpy as np
import torch
from torch import Tensor

from sweeps.networks import layered as kinds
from sweeps.networks.layered import Image, Layered

_LINE = 16  # float32 numbers in 64 bytes
_SLAB = 64  # float32 numbers that vector loops over the parameters take at most at a time
EPSILON = 1e-5  # of batch normalisation, added to variances


def whole_lines(n: int) -> int:
    """`n` float32 numbers filled up to whole lines of 64 bytes."""
    return -(-n // _LINE) * _LINE


def with_ones(images: np.ndarray) -> np.ndarray:
    """Images (n, ...) as rows float32 (n, whole lines): their entries, a 1, zeros."""
    flat = images.reshape(len(images), -1)
    rows = np.zeros((len(flat), whole_lines(flat.shape[1] + 1)), np.float32)
    rows[:, : flat.shape[1]] = flat
    rows[:, flat.shape[1]] = 1
    return rows


class _Layer:
    """forward(images) -> images, and then backward(gradient of the outputs) -> that of the inputs, or of the weights.

    What backward gets it may overwrite. `out` is where forward writes: the place that the next layer reads from.
    """

    out: Tensor

    def __init__(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        self.parameters, self.gradients = parameters, gradients

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def backward(self, gradient: Tensor, inputs: bool) -> Tensor:
        """`inputs`: whether the gradient of the inputs is wanted; if not, anything may come back."""
        raise NotImplementedError


class _Product(_Layer):
    """Weights (networks, outputs, whole lines) times `right`."""

    right: Tensor
    reads_from: Tensor

    def __init__(self, parameters, gradients, fan_in: int) -> None:
        super().__init__(parameters, gradients)
        self.fan_in = fan_in

    def product(self) -> Tensor:
        (weights,) = self.parameters
        return torch.bmm(weights, self.right, out=self.out.flatten(2))

    def of_weights(self, flat: Tensor) -> None:
        if self.gradients:
            torch.bmm(flat, self.right.transpose(1, 2), out=self.gradients[0])

    def of_right(self, flat: Tensor) -> Tensor:
        """Of its rows that are no ones, (networks, fan-in, places)."""
        weights = self.parameters[0][..., : self.fan_in].transpose(1, 2)
        if not hasattr(self, "rows"):
            self.rows = flat.new_empty(len(flat), self.fan_in, flat.shape[2])
        return torch.bmm(weights, flat, out=self.rows)


class _Dense(_Product):
    def __init__(self, parameters, gradients, image: Image, k: int) -> None:
        super().__init__(parameters, gradients, math.prod(image))
        (weights,) = parameters
        self.image = image
        self.right = weights.new_zeros(len(weights), weights.shape[2], k)
        self.right[:, self.fan_in] = 1
        self.reads_from = self.right[:, : self.fan_in].unflatten(1, image)
        self.out = weights.new_empty(len(weights), weights.shape[1], 1, 1, k)

    def forward(self, x: Tensor) -> Tensor:
        if x is not self.reads_from:
            self.reads_from.copy_(x)
        self.product()
        return self.out

    def forward_rows(self, rows: Tensor) -> Tensor:
        """Of inputs as `with_ones` makes them, (networks, k, whole lines), read where they are."""
        self.right = rows.transpose(1, 2)
        self.product()
        return self.out

    def backward(self, gradient: Tensor, inputs: bool) -> Tensor:
        flat = gradient.reshape(self.out.flatten(2).shape)
        self.of_weights(flat)
        return self.of_right(flat).unflatten(1, self.image) if inputs else flat


class _Convolution(_Product):
    def __init__(self, parameters, gradients, image: Image, k: int, layer: kinds.Convolution) -> None:
        channels, rows, cols = image
        super().__init__(parameters, gradients, channels * layer.side**2)
        (weights,) = parameters
        self.image, self.side, self.circular = image, layer.side, layer.padding == "circular"
        self.right = weights.new_zeros(len(weights), weights.shape[2], rows * cols * k)
        self.right[:, self.fan_in] = 1
        by_offset = self.right[:, : self.fan_in].unflatten(1, (channels, layer.side, layer.side))
        self.patches = by_offset.unflatten(-1, (rows, cols, k))
        self.padded = weights.new_zeros(len(weights), channels, rows + layer.side - 1, cols + layer.side - 1, k)
        self.reads_from = self._inside(self.padded)
        self.out = weights.new_empty(len(weights), layer.filters, rows, cols, k)

    def _inside(self, padded: Tensor) -> Tensor:
        _, rows, cols = self.image
        edge = self.side // 2
        return padded[:, :, edge : edge + rows, edge : edge + cols]

    def _edges(self, padded: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Of a circular image: what lies outside and what it repeats, rows first, then cols with these."""
        edge = self.side // 2
        for axis in (2, 3):
            length = self.image[axis - 1]
            for at in (*range(edge), *range(edge + length, length + 2 * edge)):
                yield padded.select(axis, at), padded.select(axis, edge + (at - edge) % length)

    def forward(self, x: Tensor) -> Tensor:
        if x is not self.reads_from:
            self.reads_from.copy_(x)
        if self.circular:
            for outside, inside in self._edges(self.padded):
                outside.copy_(inside)
        windows = self.padded.unfold(2, self.side, 1).unfold(3, self.side, 1)
        self.patches.copy_(windows.permute(0, 1, 5, 6, 2, 3, 4))
        self.product()
        return self.out

    def backward(self, gradient: Tensor, inputs: bool) -> Tensor:
        flat = gradient.reshape(self.out.flatten(2).shape)
        self.of_weights(flat)
        if not inputs:
            return flat
        by_offset = self.of_right(flat).view(self.patches.shape)
        _, rows, cols = self.image
        padded = torch.zeros_like(self.padded)
        for i in range(self.side):
            for j in range(self.side):
                padded[:, :, i : i + rows, j : j + cols] += by_offset[:, :, i, j]
        if self.circular:
            for outside, inside in reversed(list(self._edges(padded))):
                inside.add_(outside)
        return self._inside(padded)


class _Affine(_Layer):
    """A scale and a shift a channel, or batch normalisation with these over the `batch` first images."""

    def __init__(self, parameters, gradients, batch: int | None) -> None:
        super().__init__(parameters, gradients)
        self.batch = batch

    def forward(self, x: Tensor) -> Tensor:
        if self.batch is not None:
            x = self._normalised(x)
        scale, shift = (p[:, :, None, None, None] for p in self.parameters)
        return torch.mul(x, scale, out=self.out).add_(shift)

    def _normalised(self, x: Tensor) -> Tensor:
        centred = x - self._mean(x)
        self.inverse = (self._mean(centred * centred) + EPSILON).rsqrt_()
        self.normal = centred.mul_(self.inverse)
        return self.normal

    def _mean(self, x: Tensor) -> Tensor:
        """Of every channel of a batch, (networks, channels, 1, 1, 1)."""
        return x[..., : self.batch].flatten(2).mean(2)[:, :, None, None, None]

    def backward(self, gradient: Tensor, inputs: bool) -> Tensor:
        scale = self.parameters[0][:, :, None, None, None]
        if self.batch is None:
            return gradient * scale
        mean, along = self._mean(gradient), self._mean(gradient * self.normal)
        count = self.batch * gradient.shape[2] * gradient.shape[3]
        for gradients, found in zip(self.gradients, (along, mean), strict=True):
            gradients.copy_(found[..., 0, 0, 0] * count)
        centred = (gradient - mean).sub_(self.normal * along).mul_(scale * self.inverse)
        centred[..., self.batch :] = 0
        return centred


class _Activation(_Layer):
    def __init__(self, slope: float) -> None:
        super().__init__((), ())
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        if self.slope == 0:
            return torch.clamp_min(x, 0, out=self.out)
        return torch.ops.aten.leaky_relu.out(x, self.slope, out=self.out)

    def backward(self, gradient: Tensor, inputs: bool) -> Tensor:
        if self.slope == 0:
            return torch.ops.aten.threshold_backward.grad_input(gradient, self.x, 0, grad_input=gradient)
        return torch.ops.aten.leaky_relu_backward.grad_input(gradient, self.x, self.slope, False, grad_input=gradient)


class _Pool(_Layer):
    """Of several largest pixels of a window one gets the gradient. Rows are pooled first, so that most of the work is
    on long runs of memory."""

    def __init__(self, largest: bool, inputs: Tensor) -> None:
        super().__init__((), ())
        self.largest, self.found = largest, inputs
        rows, cols = (n // 2 for n in inputs.shape[2:4])
        self.of_rows = inputs.new_empty(*inputs.shape[:2], rows, 2 * cols, inputs.shape[4])

    def _by_row(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows, cols = (2 * n for n in self.out.shape[2:4])
        return x[:, :, 0:rows:2, :cols], x[:, :, 1:rows:2, :cols]

    def _by_col(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :, :, 0::2], x[:, :, :, 1::2]

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        if self.largest:
            return torch.maximum(*self._by_col(torch.maximum(*self._by_row(x))), out=self.out)
        return torch.add(*self._by_col(torch.add(*self._by_row(x))), out=self.out).mul_(0.25)

    def backward(self, gradient: Tensor, inputs: bool) -> Tensor:
        if self.largest:
            top, bottom = self._by_row(self.x)
            _share(gradient, *self._by_col(torch.maximum(top, bottom)), *self._by_col(self.of_rows))
            _share(self.of_rows, top, bottom, *self._by_row(self.found))
        else:
            quarter = gradient * 0.25
            for of_row in self._by_row(self.found):
                for of_pixel in self._by_col(of_row):
                    of_pixel.copy_(quarter)
        return self.found


def _share(gradient: Tensor, first: Tensor, second: Tensor, to_first: Tensor, to_second: Tensor) -> None:
    """The gradient of the larger one goes to it, and 0 to the other."""
    torch.ops.aten.threshold_backward.grad_input(gradient, second - first, 0, grad_input=to_second)
    torch.sub(gradient, to_second, out=to_first)


class Stacked:
    """`lane` networks of an architecture that see k images each, k filled up to whole lines.

    With `batch` they are in training: affine layers normalise over the first `batch` images, and `gradient` holds the
    gradients of all parameters as `flat` does these; `of_networks` says whose they are. Without, there is no gradient
    but that of the inputs.
    """

    def __init__(self, layered: Layered, lane: int, k: int, device: str, batch: int | None = None) -> None:
        self.layered, self.lane, self.k = layered, lane, whole_lines(k)
        self._shapes = [self._stored(blocks) for blocks in layered.blocks]
        self._sizes = [-(-math.prod(shape) // _SLAB) * _SLAB for layer in self._shapes for shape in layer]
        self.flat = torch.zeros(sum(self._sizes), device=device)
        self.parameters = self._views(self.flat)
        if batch is None:
            self._gradients: list[list[Tensor]] = [[] for _ in layered.layers]
        else:
            self.gradient = torch.zeros_like(self.flat)
            self._gradients = self._views(self.gradient)
        self.layers = [self._layer(i, batch) for i in range(len(layered.layers))]
        for before, after in pairwise(self.layers):
            if isinstance(after, _Product) and not isinstance(before, _Product):
                before.out = after.reads_from

    def _stored(self, blocks: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
        match blocks:
            case ((fan_in, outputs), _):
                return [(self.lane, outputs, whole_lines(fan_in + 1))]
        return [(self.lane, *block) for block in blocks]

    def _views(self, flat: Tensor) -> list[list[Tensor]]:
        slabs = iter(flat.split(self._sizes))
        return [[next(slabs)[: math.prod(shape)].view(shape) for shape in layer] for layer in self._shapes]

    def _layer(self, i: int, batch: int | None) -> _Layer:
        parameters, gradients = self.parameters[i], self._gradients[i]
        image = self.layered.shapes[i]
        match self.layered.layers[i]:
            case kinds.Dense():
                return _Dense(parameters, gradients, image, self.k)
            case kinds.Convolution() as layer:
                return _Convolution(parameters, gradients, image, self.k, layer)
            case kinds.Affine():
                made = _Affine(parameters, gradients, batch)
            case kinds.Activation():
                made = _Activation(self.layered.slope)
            case layer:
                made = _Pool(isinstance(layer, kinds.MaxPool), self.flat.new_zeros(self.lane, *image, self.k))
        channels, rows, cols = self.layered.shapes[i + 1]
        made.out = self.flat.new_empty(self.lane, channels, rows, cols, self.k)
        return made

    def load(self, packed: np.ndarray) -> None:
        """Take the parameters of packed networks (lane, size)."""
        for slabs, blocks in zip(self.parameters, self.layered.unpack(packed), strict=True):
            tensors = [torch.from_numpy(block.astype(np.float32)).to(self.flat.device) for block in blocks]
            if len(slabs) == 1:
                weights, biases = tensors
                fan_in = weights.shape[1]
                slabs[0][..., :fan_in], slabs[0][..., fan_in] = weights.transpose(1, 2), biases
            else:
                for slab, tensor in zip(slabs, tensors, strict=True):
                    slab.copy_(tensor)

    def packed(self) -> np.ndarray:
        """The networks, float64 (lane, size)."""
        found = np.empty((self.lane, self.layered.size))
        for slabs, blocks in zip(self.parameters, self.layered.unpack(found), strict=True):
            arrays = [slab.cpu().numpy() for slab in slabs]
            if len(slabs) == 1:
                fan_in = blocks[0].shape[1]
                arrays = [arrays[0][..., :fan_in].swapaxes(1, 2), arrays[0][..., fan_in]]
            for block, array in zip(blocks, arrays, strict=True):
                block[:] = array
        return found

    def of_networks(self, values: np.ndarray) -> Tensor:
        """A number a network (lane,) for each of its parameters, shaped as `flat`."""
        found = torch.zeros_like(self.flat)
        tensor = torch.from_numpy(values.astype(np.float32)).to(found.device)
        for slab in chain.from_iterable(self._views(found)):
            slab.copy_(tensor.view(-1, *(1,) * (slab.dim() - 1)))
        return found

    def forward(self, rows: Tensor, until: int | None = None) -> Tensor:
        """What the first `until` layers make of inputs (lane, k, whole lines) as `with_ones` has them."""
        first, layers = self.layers[0], self.layers[:until]
        if layers and isinstance(first, _Dense):
            x, layers = first.forward_rows(rows), layers[1:]
        else:
            image = self.layered.image
            x = rows[..., : math.prod(image)].transpose(1, 2).unflatten(1, image)
        for layer in layers:
            x = layer.forward(x)
        return x

    def outputs(self, rows: Tensor) -> Tensor:
        """(lane, outputs, k) of inputs as in `forward`, where the last layer is dense; written over the next time."""
        return self.forward(rows).flatten(1, 3)

    def backward(self, of_outputs: Tensor, inputs: bool = False) -> Tensor:
        """Set `gradient` from that of the last `outputs`; with `inputs` give that of the images (lane, k, entries)."""
        x = of_outputs[:, :, None, None]
        for i in range(len(self.layers) - 1, -1, -1):
            x = self.layers[i].backward(x, inputs or i > 0)
        return x.flatten(1, 3).transpose(1, 2) if inputs else x
