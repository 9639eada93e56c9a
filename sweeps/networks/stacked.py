"""Many networks of one architecture at once: outputs and gradients, one batched product a layer for all of them.

Gradients are written out layer by layer (sweeps.networks.stacked_layers), not traced: three times as fast as autograd
over the same stacked parameters, at 64 networks of 64-20-20-20-10 and batches of 32.

Bits do not depend on a network's place among the others, nor on these: the rows of weights and of inputs are padded
with zeros to whole lines of 64 bytes, and all parameters lie in one array, layer by layer.
"""

from __future__ import annotations

import math
from itertools import chain, pairwise

import numpy as np
import torch
from torch import Tensor

from sweeps.networks import layered as kinds
from sweeps.networks import stacked_layers as layers
from sweeps.networks import stacked_loops as loops
from sweeps.networks.layered import Image, Layered
from sweeps.networks.stacked_layers import whole_lines

_SLAB = 64  # float32 numbers that vector loops over the parameters take at most at a time


def with_ones(images: np.ndarray) -> np.ndarray:
    """Images (n, ...) as rows float32 (n, whole lines): their entries, a 1, zeros."""
    flat = images.reshape(len(images), -1)
    rows = np.zeros((len(flat), whole_lines(flat.shape[1] + 1)), np.float32)
    rows[:, : flat.shape[1]] = flat
    rows[:, flat.shape[1]] = 1
    return rows


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
        self.on_cpu = torch.device(device).type == "cpu"
        self.flat = torch.zeros(sum(self._sizes), device=device)
        self.parameters = self._views(self.flat)
        if batch is None:
            self._gradients: list[list[Tensor]] = [[] for _ in layered.layers]
        else:
            self.gradient = torch.zeros_like(self.flat)
            self._gradients = self._views(self.gradient)
        self._saves: dict[int, layers.Save] = {}
        self.layers = [self._layer(i, batch) for i in range(len(layered.layers))]
        writers = [layer for layer in self.layers if not isinstance(layer, layers.Save)]
        for before, after in pairwise(writers):
            if before.writes_anywhere and isinstance(after, layers.Weighted):
                before.out = after.reads_from

    def _stored(self, blocks: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
        match blocks:
            case ((fan_in, outputs), _):
                return [(self.lane, outputs, whole_lines(fan_in + 1))]
        return [(self.lane, *block) for block in blocks]

    def _views(self, flat: Tensor) -> list[list[Tensor]]:
        slabs = iter(flat.split(self._sizes))
        return [[next(slabs)[: math.prod(shape)].view(shape) for shape in layer] for layer in self._shapes]

    def _layer(self, i: int, batch: int | None) -> layers.Layer:
        parameters, gradients = self.parameters[i], self._gradients[i]
        image = self.layered.shapes[i]
        match self.layered.layers[i]:
            case kinds.Dense():
                return layers.Dense(parameters, gradients, image, self.k)
            case kinds.Convolution() as layer:
                kind = loops.Convolution if self.on_cpu else layers.Convolution
                return kind(parameters, gradients, image, self.k, layer)
            case kinds.Affine():
                made = (loops.Affine if self.on_cpu else layers.Affine)(parameters, gradients, batch)
            case kinds.Activation():
                made = layers.Activation(self.layered.slope)
            case kinds.GlobalAveragePool():
                made = layers.GlobalPool(self._images(image))
            case kinds.Save():
                return self._saves.setdefault(i, layers.Save(self._images(image)))
            case kinds.Add():
                made = layers.Add(self._saves[self.layered.connections[i]])
            case layer:
                made = layers.Pool(isinstance(layer, kinds.MaxPool), self._images(image))
        made.out = self._images(self.layered.shapes[i + 1])
        return made

    def _images(self, image: Image) -> Tensor:
        return self.flat.new_zeros(self.lane, *image, self.k)

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
        first, rest = self.layers[0], self.layers[:until]
        if rest and isinstance(first, layers.Dense):
            x, rest = first.forward_rows(rows), rest[1:]
        else:
            image = self.layered.image
            x = rows[..., : math.prod(image)].transpose(1, 2).unflatten(1, image)
        for layer in rest:
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
