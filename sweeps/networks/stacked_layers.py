"""The layers of many networks at once, forward and backward.

Activations are (networks, channels, rows, cols, k), network by network its own k images. A layer with weights makes of
them a matrix X (networks, fan-in + 1, rows cols k), the columns of which are patches, or whole images, and a last 1; so
with the biases as the last column of W

    Z = W X,    dW = dZ X^T,    dX = W^T dZ.

BLAS may add in another order when a matrix starts at another offset from a cache line; so k is a multiple of 16
(`whole_lines`), and the rows of W are padded with zeros to whole lines of 64 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sweeps.networks import layered
from sweeps.networks.layered import Image

_LINE = 16  # float32 numbers in 64 bytes
EPSILON = 1e-5  # of batch normalisation, added to variances


def whole_lines(n: int) -> int:
    """`n` float32 numbers filled up to whole lines of 64 bytes."""
    return -(-n // _LINE) * _LINE


class Layer:
    """forward(images) -> images, and then backward(gradient of the outputs) -> that of the inputs, or of the weights.

    What backward gets it may overwrite. `out` is where forward writes: the place that the next layer reads from, if it
    has one and this layer writes anywhere.
    """

    out: Tensor
    writes_anywhere = True

    def __init__(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        self.parameters, self.gradients = parameters, gradients

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def backward(self, gradient: Tensor, inputs: bool) -> Tensor:
        """`inputs`: whether the gradient of the inputs is wanted; if not, anything may come back."""
        raise NotImplementedError


class Weighted(Layer):
    """A layer with a place of its own for what it reads."""

    reads_from: Tensor
    writes_anywhere = False


class Product(Weighted):
    """Weights (networks, outputs, whole lines) times `right`."""

    right: Tensor

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


class Dense(Product):
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


@dataclass(frozen=True)
class Padded:
    """Images with what filters see beyond their edges, zeros or, of circular images, the other side."""

    whole: Tensor
    edge: int
    circular: bool

    @classmethod
    def of(cls, like: Tensor, side: int, circular: bool) -> Padded:
        """For images shaped as `like`, all zeros."""
        *leading, rows, cols, k = like.shape
        return cls(like.new_zeros(*leading, rows + side - 1, cols + side - 1, k), side // 2, circular)

    @property
    def inside(self) -> Tensor:
        rows, cols = (n - 2 * self.edge for n in self.whole.shape[2:4])
        return self.whole[:, :, self.edge : self.edge + rows, self.edge : self.edge + cols]

    def _outside(self) -> Iterator[tuple[Tensor, Tensor]]:
        """What lies outside and what it repeats, rows first, then cols with these."""
        for axis in (2, 3):
            length = self.whole.shape[axis] - 2 * self.edge
            for at in (*range(self.edge), *range(self.edge + length, length + 2 * self.edge)):
                yield self.whole.select(axis, at), self.whole.select(axis, self.edge + (at - self.edge) % length)

    def fill(self) -> None:
        """The outside from the inside."""
        if self.circular:
            for outside, inside in self._outside():
                outside.copy_(inside)

    def fold(self) -> None:
        """Add gradients of the outside to those of the inside."""
        if self.circular:
            for outside, inside in reversed(list(self._outside())):
                inside.add_(outside)


class Convolution(Product):
    def __init__(self, parameters, gradients, image: Image, k: int, layer: layered.Convolution) -> None:
        channels, rows, cols = image
        super().__init__(parameters, gradients, channels * layer.side**2)
        (weights,) = parameters
        self.image, self.side, self.circular = image, layer.side, layer.padding == "circular"
        self.right = weights.new_zeros(len(weights), weights.shape[2], rows * cols * k)
        self.right[:, self.fan_in] = 1
        by_offset = self.right[:, : self.fan_in].unflatten(1, (channels, layer.side, layer.side))
        self.patches = by_offset.unflatten(-1, (rows, cols, k))
        self.padded = Padded.of(weights.new_empty(len(weights), *image, k), layer.side, self.circular)
        self.reads_from = self.padded.inside
        self.out = weights.new_empty(len(weights), layer.filters, rows, cols, k)

    def forward(self, x: Tensor) -> Tensor:
        if x is not self.reads_from:
            self.reads_from.copy_(x)
        self.padded.fill()
        windows = self.padded.whole.unfold(2, self.side, 1).unfold(3, self.side, 1)
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
        found = Padded.of(self.reads_from, self.side, self.circular)
        for i in range(self.side):
            for j in range(self.side):
                found.whole[:, :, i : i + rows, j : j + cols] += by_offset[:, :, i, j]
        found.fold()
        return found.inside


class Affine(Layer):
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


class Activation(Layer):
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


class Pool(Layer):
    """Of several largest pixels of a window one gets the gradient. Rows are pooled first, so that most of the work is
    on long runs of memory."""

    def __init__(self, largest: bool, inputs: Tensor) -> None:
        super().__init__((), ())
        self.largest, self.found = largest, inputs
        rows, cols = (n // 2 for n in inputs.shape[2:4])
        self.of_rows = inputs.new_empty(*inputs.shape[:2], rows, 2 * cols, inputs.shape[4])
        self.left_out = inputs[:, :, 2 * rows :], inputs[:, :, :, 2 * cols :]

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
        for part in self.left_out:
            part.zero_()
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


class GlobalPool(Layer):
    def __init__(self, inputs: Tensor) -> None:
        super().__init__((), ())
        self.found = inputs

    def forward(self, x: Tensor) -> Tensor:
        return torch.mean(x, (2, 3), keepdim=True, out=self.out)

    def backward(self, gradient: Tensor, inputs: bool) -> Tensor:
        return self.found.copy_(gradient / math.prod(self.found.shape[2:4]))


class Save(Layer):
    """`Add` leaves in `kept` the gradient that goes past the layers between."""

    def __init__(self, kept: Tensor) -> None:
        super().__init__((), ())
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return x

    def backward(self, gradient: Tensor, inputs: bool) -> Tensor:
        return gradient.add_(self.kept)


class Add(Layer):
    def __init__(self, save: Save) -> None:
        super().__init__((), ())
        self.save = save

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.save.x, out=self.out)

    def backward(self, gradient: Tensor, inputs: bool) -> Tensor:
        self.save.kept.copy_(gradient)
        return gradient
