"""Training of many small networks at once, by mini-batches and stochastic gradients, in float32.

A network minimises the mean over a batch of the cross-entropy of the softmax of its outputs with the labels. Batches go
through the n training examples in an order that each network draws anew in each epoch (sweeps.networks.lessons); what
the whole batches of an epoch leave over is not seen in it. With step size e and gradient g, at step t = 1, 2, ...

    sgd         p <- p - e g
    momentum    v <- 0.9 v + g,   p <- p - e v                                      (Polyak; as torch.optim.SGD has it)
    adam        m <- 0.9 m + 0.1 g,   v <- 0.999 v + 0.001 g^2,
                p <- p - e m / (1 - 0.9^t) / (sqrt(v / (1 - 0.999^t)) + 1e-8)       (Kingma and Ba, arXiv 1412.6980)

An affine layer is batch normalisation in training (Ioffe and Szegedy, arXiv 1502.03167), and a
trained network holds it as the scale and shift that the statistics of the training examples judged make of it: of the
whole training set, unless the recipe takes fewer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sweeps.errors import unknown
from sweeps.inputs.labelled import Labelled
from sweeps.networks.architecture import lane_within
from sweeps.networks.layered import Affine, Convolution, Dense, Layered
from sweeps.networks.lessons import check_epochs, order
from sweeps.networks.stacked import Stacked, with_ones
from sweeps.networks.stacked_layers import EPSILON, whole_lines
from sweeps.statistic import Networks

Optimiser = Literal["sgd", "momentum", "adam"]

_NEAR = 2**17  # parameters that an optimiser steps at once on a CPU: what it needs of them stays in its cache
_JUDGED = 64  # images at a time that a network is judged by
_PRODUCT_SECONDS, _ENTRY_SECONDS = 5e-11, 2.3e-9


@dataclass(frozen=True)
class Recipe:
    """How networks are trained. They are taken after the numbers of steps in `checkpoints`, which rise, from 0 on.

    Raises:
        ValueError: a number is out of range; in one line.
    """

    steps: int
    batch_size: int
    optimiser: Optimiser
    checkpoints: tuple[int, ...]
    judged: int = 0
    """So many of the first examples for training, and of those for validation, a checkpoint looks at; 0: all."""

    def __post_init__(self) -> None:
        if self.optimiser not in get_args(Optimiser):
            raise unknown("optimiser", self.optimiser, get_args(Optimiser))
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        taken = self.checkpoints
        if not taken or list(taken) != sorted(set(taken)) or not 0 <= taken[0] <= taken[-1] <= self.steps:
            raise ValueError(f"checkpoints must rise within 0 to steps = {self.steps}, got {taken}")
        if self.judged < 0:
            raise ValueError(f"judged must be at least 1, or 0 for all examples, got {self.judged}")


class Trained(NamedTuple):
    """Networks at checkpoints; a network that has diverged is NaN in all of these from then on."""

    packed: np.ndarray
    """float64 (checkpoints, networks, size), affine layers as at inference."""
    loss: np.ndarray
    """Mean cross-entropy of the training examples judged, float64 (checkpoints, networks)."""
    training_accuracy: np.ndarray
    """Share of the training examples judged that get the labels trained on, float64 (checkpoints, networks)."""
    accuracy: np.ndarray
    """Share of the validation examples judged that get their labels, float64 (checkpoints, networks)."""


def train(
    layered: Layered,
    start: np.ndarray,
    data: Labelled,
    labels: np.ndarray,
    networks: Networks,
    recipe: Recipe,
    learning_rate: np.ndarray,
    device: str,
    seen: Callable[[float], None] | None = None,
) -> Trained:
    """Train packed networks `start` (networks, size) on labels int64 (networks, examples), with a learning rate each.

    A network's numbers depend on how many are trained together, but not on which, nor on its place among them. `seen`
    is called after every step with the share of all steps that are done.

    Raises:
        ValueError: the networks do not fit the data, or the batches the training set; in one line.
    """
    check(layered, data, recipe)
    training = _Examples.of(data.train_images, labels, device)
    validation = _Examples.of(data.validation_images, np.tile(data.validation_labels, (len(networks), 1)), device)
    stack = Stacked(layered, len(networks), recipe.batch_size, device, recipe.batch_size)
    stack.load(start)
    next_step = _stepping(stack, recipe.optimiser, learning_rate)
    judge = Stacked(layered, len(networks), _JUDGED, device)
    judged = [part.first(recipe.judged or len(part.rows)) for part in (training, validation)]
    batches, steps = _batches(training, networks, recipe.batch_size), recipe.checkpoints[-1]
    found = [_judged(judge, stack.packed(), *judged)] if recipe.checkpoints[0] == 0 else []
    for step in range(1, steps + 1):
        _differentiate(stack, *next(batches), recipe.batch_size)
        next_step()
        if step in recipe.checkpoints:
            found.append(_judged(judge, stack.packed(), *judged))
        if seen:
            seen(step / steps)
    return Trained(*(np.stack(values) for values in zip(*found, strict=True)))


def check(layered: Layered, data: Labelled, recipe: Recipe) -> None:
    """Raises what `train` does."""
    if layered.layers[-1:] != (Dense(data.classes),):
        raise ValueError(f"the last layer must be Dense({data.classes}), one output a class, got {layered.layers[-1:]}")
    if data.train_images.shape[1:] != layered.image:
        raise ValueError(f"the networks take images {layered.image}, got {data.train_images.shape[1:]}")
    if recipe.batch_size > len(data.train_images):
        raise ValueError(f"batch_size must be at most {len(data.train_images)} examples, got {recipe.batch_size}")
    check_epochs(recipe.steps, len(data.train_images), recipe.batch_size)


def seconds(layered: Layered, recipe: Recipe, examples: int) -> float:
    """Of training a network with `examples` for training and a quarter as many to validate with, on one core."""
    steps, judged = recipe.checkpoints[-1], 1.25 * len(recipe.checkpoints) * min(recipe.judged or examples, examples)
    epochs = steps / (examples // recipe.batch_size)
    product, entries = _work(layered)
    kept = _STEPS[recipe.optimiser][1]
    image = 3 * _PRODUCT_SECONDS * product + _ENTRY_SECONDS * entries
    step = whole_lines(recipe.batch_size) * image + layered.size * (1 + 2 * kept) * 1e-9 + 4e-6
    return steps * step + 0.5 * image * judged + 3e-7 * epochs * examples + 2e-4


def launch_bytes(layered: Layered, recipe: Recipe, examples: int) -> int:
    """That a network needs at once on a CPU; the patches of convolutions on a GPU come on top."""
    k = whole_lines(recipe.batch_size) + _JUDGED
    of_image = 0
    for layer, (channels, rows, cols), after in zip(layered.layers, layered.shapes, layered.shapes[1:], strict=False):
        before, entries = channels * rows * cols, math.prod(after)
        match layer:
            case Dense():
                of_image += 2 * whole_lines(before + 1) + 2 * entries
            case Convolution(_, side):
                padded = (rows + side - 1) * (cols + side - 1)
                of_image += before + entries + (channels + after[0]) * padded
            case _:
                of_image += 2 * before + entries
    stored = sum(whole_lines(blocks[0][0] + 1) * blocks[-1][0] for blocks in layered.blocks if blocks)
    arrays = 4 + _STEPS[recipe.optimiser][1]
    return 4 * k * of_image + 4 * stored * arrays + 8 * layered.size * (4 + len(recipe.checkpoints)) + 64 * examples


def lane(layered: Layered, recipe: Recipe, examples: int) -> int:
    """Networks a launch, a power of two: enough to pay for a launch, few enough for the memory."""
    return lane_within(2**28, launch_bytes(layered, recipe, examples), 64)


def _work(layered: Layered) -> tuple[int, int]:
    """Multiplications that an image costs, with those that fill up lines, and entries of all layers and patches."""
    products, entries = 0, sum(map(math.prod, layered.shapes))
    for layer, blocks, after in zip(layered.layers, layered.blocks, layered.shapes[1:], strict=True):
        if isinstance(layer, Dense | Convolution):
            (fan_in, _), (outputs,) = blocks
            matrix = whole_lines(fan_in + 1) * math.prod(after[1:])
            products += matrix * outputs
            entries += matrix if isinstance(layer, Convolution) else 0
    return products, entries


class _Examples(NamedTuple):
    rows: Tensor
    """(examples, whole lines), see `with_ones`."""
    labels: Tensor
    """int64 (networks, examples)."""

    @classmethod
    def of(cls, images: np.ndarray, labels: np.ndarray, device: str) -> _Examples:
        return cls(torch.from_numpy(with_ones(images)).to(device), torch.from_numpy(labels).to(device))

    def first(self, n: int) -> _Examples:
        return _Examples(self.rows[:n], self.labels[:, :n])

    def chunks(self, k: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All of them, in order, k at a time for all networks: rows (networks, k, whole lines), the last ones zero
        where there are no k left, and labels (networks, at most k)."""
        for first in range(0, len(self.rows), k):
            rows, labels = self.rows[first : first + k], self.labels[:, first : first + k]
            rows = functional.pad(rows, (0, 0, 0, k - len(rows)))
            yield rows.expand(len(labels), -1, -1), labels


def _batches(examples: _Examples, networks: Networks, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Without end, rows (networks, k, whole lines) and labels (networks, k), k a batch filled up to whole lines."""
    n = len(examples.rows)
    k, steps = whole_lines(batch), n // batch
    rows = examples.rows.new_empty(len(networks), k, examples.rows.shape[1])
    for epoch in count():
        chosen = np.zeros((steps, len(networks), k), np.int64)
        of_batches = order(networks, epoch, n)[:, : steps * batch].reshape(len(networks), steps, batch)
        chosen[..., :batch] = of_batches.swapaxes(0, 1)
        for of_step in torch.from_numpy(chosen).to(rows.device):
            torch.index_select(examples.rows, 0, of_step.flatten(), out=rows.flatten(0, 1))
            yield rows, examples.labels.gather(1, of_step)


def of_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Gradient of each image's cross-entropy by the outputs (networks, classes, k), with labels (networks, k)."""
    found = torch.softmax(outputs, 1)
    return found.scatter_add_(1, labels[:, None], found.new_full((1, 1, 1), -1).expand(len(found), 1, labels.shape[1]))


def _differentiate(stack: Stacked, rows: Tensor, labels: Tensor, batch: int) -> None:
    gradient = of_loss(stack.outputs(rows), labels).mul_(1 / batch)
    gradient[..., batch:] = 0
    stack.backward(gradient)


def _sgd(t: int, p: Tensor, g: Tensor, rate: Tensor) -> None:
    p.addcmul_(g, rate, value=-1)


def _momentum(t: int, p: Tensor, g: Tensor, rate: Tensor, velocity: Tensor) -> None:
    p.addcmul_(velocity.mul_(0.9).add_(g), rate, value=-1)


def _adam(t: int, p: Tensor, g: Tensor, rate: Tensor, mean: Tensor, square: Tensor, room: Tensor) -> None:
    mean.lerp_(g, 0.1)
    square.mul_(0.999).addcmul_(g, g, value=0.001)
    torch.sqrt(square, out=room).mul_(1 / math.sqrt(1 - 0.999**t)).add_(1e-8)
    p.addcmul_(torch.div(mean, room, out=room), rate, value=-1 / (1 - 0.9**t))


_STEPS: dict[Optimiser, tuple[Callable[..., None], int]] = {
    "sgd": (_sgd, 0),
    "momentum": (_momentum, 1),
    "adam": (_adam, 3),
}
"""An optimiser's step, and how many numbers a parameter it keeps."""


def _stepping(stack: Stacked, optimiser: Optimiser, learning_rate: np.ndarray) -> Callable[[], None]:
    """A function that makes the next step with the gradient that `stack` has."""
    step, kept = _STEPS[optimiser]
    arrays = [stack.flat, stack.gradient, stack.of_networks(learning_rate)]
    arrays += [torch.zeros_like(stack.flat) for _ in range(kept)]
    at_once = _NEAR if stack.flat.device.type == "cpu" else max(1, len(stack.flat))
    parts = list(zip(*(array.split(at_once) for array in arrays), strict=True))
    t = 0

    def next_step() -> None:
        nonlocal t
        t += 1
        for part in parts:
            step(t, *part)

    return next_step


def _judged(judge: Stacked, packed: np.ndarray, training: _Examples, validation: _Examples) -> Trained:
    """A checkpoint of networks as they are in training."""
    judge.load(packed)
    for i, layer in enumerate(judge.layered.layers):
        if isinstance(layer, Affine):
            _normalise(judge, i, training)
    loss, training_accuracy = _scores(judge, training)
    _, accuracy = _scores(judge, validation)
    inference = judge.packed()
    diverged = ~(np.isfinite(inference).all(1) & np.isfinite(loss))
    found = Trained(inference, loss, training_accuracy, accuracy)
    for values in found:
        values[diverged] = np.nan
    return found


def _normalise(judge: Stacked, i: int, training: _Examples) -> None:
    """Make the scale and shift of affine layer i those of batch normalisation over all of `training`."""
    pixels = len(training.rows) * math.prod(judge.layered.shapes[i][1:])
    total, square = torch.zeros(2, *judge.parameters[i][0].shape, dtype=torch.float64, device=training.rows.device)
    for rows, labels in training.chunks(judge.k):
        z = judge.forward(rows, i)[..., : labels.shape[1]].double()
        total, square = total + z.sum((2, 3, 4)), square + (z * z).sum((2, 3, 4))
    mean = total / pixels
    variance = (square / pixels - mean**2).clamp_min(0)
    scale, shift = judge.parameters[i]
    scale.div_((variance + EPSILON).sqrt())
    shift.sub_(mean * scale)


def _scores(judge: Stacked, examples: _Examples) -> tuple[np.ndarray, np.ndarray]:
    """Mean cross-entropy and accuracy, float64 (networks,)."""
    loss = torch.zeros(judge.lane, dtype=torch.float64, device=examples.rows.device)
    right = torch.zeros_like(loss, dtype=torch.int64)
    for rows, labels in examples.chunks(judge.k):
        outputs = judge.outputs(rows)[..., : labels.shape[1]]
        logs = torch.log_softmax(outputs, 1).gather(1, labels[:, None])[:, 0]
        loss -= logs.double().sum(1)
        right += (outputs.argmax(1) == labels).sum(1)
    n = len(examples.rows)
    return loss.cpu().numpy() / n, right.cpu().numpy() / n
