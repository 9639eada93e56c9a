"""How the networks of `first_layer` are trained: images, labels, and the filters at every checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from sweeps import progress
from sweeps.inputs import labelled, patches
from sweeps.inputs.labelled import Labelled
from sweeps.inputs.patches import Basis
from sweeps.networks import lessons, pooled_linear
from sweeps.networks.initial import initial
from sweeps.networks.layered import Convolution, Layered
from sweeps.networks.small_cnns import first_filters, small_cnn
from sweeps.statistic import Networks
from sweeps.theory import first_layer as theory

if TYPE_CHECKING:
    from sweeps.networks.training import Recipe
    from sweeps.statistics.first_layer import FirstLayerParameters

REFERENCE = 2**30  # what the tensors of a draw's second network begin with
JUDGED = 512  # examples that accuracies and loss are of
UNSEEN = 1e-9  # of the largest variance: components with less have none
GROWN = 1e4  # a parameter larger than that, times the scale where this is above 1, is of a diverged network


class Material(NamedTuple):
    """What a sweep trains on: standardised images and their patches."""

    data: Labelled
    basis: Basis
    """Of the covariance of the training images' patches; components along which these do not vary are left out."""
    averages: np.ndarray
    """Average patch of every training image, less the mean of these; float64 (n, d)."""
    direction: np.ndarray
    """The component, before any gain, that the parameters speak of; (d,), zero where they do not."""


class Trained(NamedTuple):
    """Filters, float64 (..., filters, d) in the order channel, row, column, and what became of the networks."""

    start: np.ndarray
    """(networks, filters, d)."""
    filters: np.ndarray
    """(networks, checkpoints, filters, d)."""
    loss: np.ndarray
    """(networks, checkpoints), as the accuracies, which a linear network has not."""
    training_accuracy: np.ndarray
    accuracy: np.ndarray


def material(p: FirstLayerParameters) -> Material:
    """Raises ValueError, in one line, where the images do not vary along the component that is spoken of."""
    return _material(p.data, p.path, p.examples, p.patch, p.component if p.is_about_one else 0, p.component_gain)


@lru_cache(maxsize=4)
@threadpool_limits.wrap(limits=1, user_api="blas")  # whoever asks first, its bits are those of a worker
def _material(data: labelled.Data, path: str, examples: int, side: int, component: int, gain: float) -> Material:
    given = labelled.standardised(labelled.load(data, path, examples))
    basis, direction = _varying(given.train_images, side), np.zeros(given.train_images.shape[1] * side**2)
    if component:
        if component > (known := basis.vectors.shape[1]):
            raise ValueError(f"component must be at most {known}, as patches vary along no more, got {component}")
        direction = basis.vectors[:, component - 1]
    if gain != 1:
        both = (given.train_images, given.validation_images)
        train, validation = (patches.amplified(images, direction, side, gain) for images in both)
        given = given._replace(train_images=train, validation_images=validation)
        basis = _varying(train, side)
    averages = patches.averages(given.train_images, side)
    return Material(given, basis, averages - averages.mean(0), direction)


def _varying(images: np.ndarray, side: int) -> Basis:
    found = patches.basis(patches.covariance(images, side))
    known = int((found.eigenvalues > UNSEEN * found.eigenvalues[0]).sum())
    return Basis(found.eigenvalues[:known], found.vectors[:, :known])


def with_labels(p: FirstLayerParameters, found: Material) -> Labelled:
    """The images with their own classes, or with the deciles, among those for training, of a component's energy."""
    if p.labels != "deciles":
        return found.data
    both = found.data.train_images, found.data.validation_images
    energies = patches.energies(np.concatenate(both), found.direction, p.patch)
    train, validation = energies[: len(both[0])], energies[len(both[0]) :]
    first = np.sort(train)[
        -(-np.arange(1, patches.CLASSES) * len(train) // patches.CLASSES)
    ]  # of every class but the lowest
    labels = patches.deciles(train), np.searchsorted(first, validation, side="right")
    return found.data._replace(train_labels=labels[0], validation_labels=labels[1], classes=patches.CLASSES)


def architecture(p: FirstLayerParameters) -> Layered:
    """Of a linear network the first layer, which is all that has parameters."""
    image = labelled.shape(p.data, p.path)
    if p.architecture == "linear":
        return Layered(image, (Convolution(p.width, p.patch),))
    classes = patches.CLASSES if p.labels == "deciles" else labelled.classes(p.data, p.path)
    return small_cnn(p.architecture, image, p.width, p.patch, classes)


def examples(p: FirstLayerParameters) -> int:
    """For training."""
    return labelled.count(p.data, p.path, p.examples)[0]


def recipe(p: FirstLayerParameters) -> Recipe:
    from sweeps.networks.training import Recipe  # torch, which takes seconds to import

    return Recipe(p.steps, p.batch_size or examples(p), "sgd", p.looked_at, JUDGED)


def trained(p: FirstLayerParameters, networks: Networks, device: str, seen: Callable[[float], None]) -> Trained:
    """The networks of a launch, all of the same shape as p."""
    found = material(p)
    layered = architecture(p)
    start = initial(networks, layered, "he", networks.column("scale"), np.zeros(len(networks)))
    if p.architecture == "linear":
        return _linear(p, networks, found, first_filters(layered, start), seen)
    return _deep(p, networks, with_labels(p, found), layered, start, device, seen)


def _undefined(done: Trained, parameters: np.ndarray, scale: np.ndarray) -> Trained:
    """NaN from where a network has diverged on, given its parameters (networks, checkpoints, ...)."""
    largest = np.abs(parameters).reshape(*parameters.shape[:2], -1).max(-1)
    diverged = np.logical_or.accumulate(~(largest <= GROWN * np.maximum(1, scale)[:, None]), axis=1)
    for values in done[1:]:
        values[diverged] = np.nan
    return done


def _deep(
    p: FirstLayerParameters,
    networks: Networks,
    data: Labelled,
    layered: Layered,
    start: np.ndarray,
    device: str,
    seen: Callable[[float], None],
) -> Trained:
    from sweeps.networks import training

    labels = _classes(p, networks, data)
    rate = networks.column("learning_rate")
    done = training.train(layered, start, data, labels, networks, recipe(p), rate, device, seen)
    first = first_filters(layered, start.astype(np.float32).astype(np.float64))  # as training begins from
    filters = np.ascontiguousarray(first_filters(layered, done.packed).swapaxes(0, 1))
    found = Trained(first, filters, done.loss.T.copy(), done.training_accuracy.T.copy(), done.accuracy.T.copy())
    return _undefined(found, done.packed.swapaxes(0, 1), networks.column("scale"))


def _classes(p: FirstLayerParameters, networks: Networks, data: Labelled) -> np.ndarray:
    """What every network is trained on, int64 (networks, examples)."""
    found = lessons.noisy(data, networks, networks.column("label_noise"))
    return lessons.permuted(found, networks) if p.labels == "permuted" else found


def _linear(
    p: FirstLayerParameters, networks: Networks, found: Material, start: np.ndarray, seen: Callable[[float], None]
) -> Trained:
    labels, rate, averages = _numbers(p, networks, found), networks.column("learning_rate"), found.averages
    batches = _batches(p, networks, len(averages))
    filters = pooled_linear.train(start, averages, labels, rate, p.looked_at, batches, seen)
    filters[:, ~is_stable(p, found, rate)] = np.nan
    loss = np.stack([pooled_linear.losses(bank, averages, labels) for bank in filters], axis=1)
    filters, none = np.ascontiguousarray(filters.swapaxes(0, 1)), np.full_like(loss, np.nan)
    return _undefined(Trained(start, filters, loss, none, none), filters, networks.column("scale"))


def is_stable(p: FirstLayerParameters, found: Material, learning_rate: np.ndarray | float) -> np.ndarray:
    """Whether steps of such a size shrink a linear network's error along every component, and do not make it grow."""
    largest = np.linalg.eigvalsh(found.averages.T @ found.averages / len(found.averages))[-1]
    return np.asarray(2 * p.width * learning_rate * largest < 2)


def _numbers(p: FirstLayerParameters, networks: Networks, found: Material) -> np.ndarray:
    """The labels of linear networks, float64 (networks, examples)."""
    noise = networks.column("label_noise")[:, None]
    if p.labels == "planted":
        signal = found.averages @ planted_direction(found)
        return np.sqrt(1 - noise) * signal + np.sqrt(noise) * networks.normals(lessons.NOISE, len(signal))
    data = with_labels(p, found)
    return values(data)[_classes(p, networks, data)]


def values(data: Labelled) -> np.ndarray:
    """Classes as numbers (classes,): in their order, of mean 0 and variance 1 over the training examples."""
    labels = data.train_labels
    return (np.arange(data.classes) - labels.mean()) / labels.std()


def planted_direction(found: Material) -> np.ndarray:
    """The component (d,), so long that it has variance 1 over the average patches.

    Raises:
        ValueError: these do not vary along it; in one line.
    """
    variance, each = np.mean((found.averages @ found.direction) ** 2), np.mean(found.averages**2)
    if not variance > UNSEEN * each:
        raise ValueError("labels planted along component need average patches that vary along it; choose another")
    return found.direction / np.sqrt(variance)


def _batches(p: FirstLayerParameters, networks: Networks, n: int) -> Callable[[int], np.ndarray] | None:
    """The examples (networks, batch) of a step; None where every step sees them all."""
    if p.batch_size in (0, n):
        return None
    whole = n // p.batch_size
    epochs = lru_cache(maxsize=1)(lambda epoch: lessons.order(networks, epoch, n))

    def of_step(step: int) -> np.ndarray:
        first = step % whole * p.batch_size
        return epochs(step // whole)[:, first : first + p.batch_size]

    return of_step


def label_moments(p: FirstLayerParameters, found: Material) -> theory.Labels:
    """Of the mean over examples of average patch times label, which is what labels are to a linear network."""
    if p.labels == "planted":
        beta = planted_direction(found)
        return theory.planted(found.averages, beta, math.sqrt(1 - p.label_noise), p.label_noise)
    data = with_labels(p, found)
    known = values(data)
    given = known[data.train_labels], p.label_noise, float(known.mean()), float(known.var())
    return theory.permuted(found.averages, *given) if p.labels == "permuted" else theory.noisy(found.averages, *given)


def tell(first: float, share: float) -> Callable[[float], None]:
    """A function that tells how far a launch is, of a part of it that begins at `first` and takes `share`."""
    return lambda done: progress.tell(first + share * done)
