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
from sweeps.networks.initial import initial
from sweeps.networks.layered import Convolution, Layered
from sweeps.networks.small_cnns import small_cnn
from sweeps.statistic import Networks
from sweeps.theory import first_layer as theory

if TYPE_CHECKING:
    from sweeps.networks.training import Recipe
    from sweeps.statistics.first_layer import FirstLayerParameters

PERMUTATION = 2**19 + 2  # the tensor whose words, sorted, permute labels; after those of label noise
NOISE = 2**19  # normals of planted labels
REFERENCE = 2**30  # what the tensors of a draw's second network begin with
DECILES = 10
JUDGED = 512  # examples that accuracies and loss are of


class Material(NamedTuple):
    """What a sweep trains on: standardised images and their patches."""

    data: Labelled
    basis: Basis
    """Of the covariance of the training images' patches."""
    averages: np.ndarray
    """Average patch of every training image, less the mean of these; float64 (n, d)."""


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
    changed = p.component if p.component_gain != 1 else 0
    return _material(p.data, p.path, p.examples, p.patch, changed, p.component_gain)


@lru_cache(maxsize=4)
@threadpool_limits.wrap(limits=1, user_api="blas")  # whoever asks first, its bits are those of a worker
def _material(data: labelled.Data, path: str, examples: int, side: int, component: int, gain: float) -> Material:
    given = labelled.standardised(labelled.load(data, path, examples))
    if component:
        direction = patches.basis(patches.covariance(given.train_images, side)).vectors[:, component - 1]
        both = (given.train_images, given.validation_images)
        train, validation = (patches.amplified(images, direction, side, gain) for images in both)
        given = given._replace(train_images=train, validation_images=validation)
    averages = patches.averages(given.train_images, side)
    return Material(given, patches.basis(patches.covariance(given.train_images, side)), averages - averages.mean(0))


def with_labels(p: FirstLayerParameters, found: Material) -> Labelled:
    """The images with their own classes, or with the deciles of a component's energy."""
    if p.labels != "deciles":
        return found.data
    direction = found.basis.vectors[:, p.component - 1]

    def deciles(images: np.ndarray) -> np.ndarray:
        return patches.deciles(patches.energies(images, direction, p.patch))

    train, validation = deciles(found.data.train_images), deciles(found.data.validation_images)
    return found.data._replace(train_labels=train, validation_labels=validation, classes=DECILES)


def architecture(p: FirstLayerParameters) -> Layered:
    """Of a linear network the first layer, which is all that has parameters."""
    image = labelled.shape(p.data, p.path)
    if p.architecture == "linear":
        return Layered(image, (Convolution(p.width, p.patch),))
    classes = DECILES if p.labels == "deciles" else labelled.classes(p.data, p.path)
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
        return _linear(p, networks, found, _filters(layered, start))
    return _deep(p, networks, with_labels(p, found), layered, start, device, seen)


def _filters(layered: Layered, packed: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(layered.unpack(packed)[0][0].swapaxes(-1, -2))


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
    filters = _filters(layered, done.packed).swapaxes(0, 1)
    return Trained(_filters(layered, start), filters, done.loss.T, done.training_accuracy.T, done.accuracy.T)


def _classes(p: FirstLayerParameters, networks: Networks, data: Labelled) -> np.ndarray:
    """What every network is trained on, int64 (networks, examples)."""
    from sweeps.networks.training import noisy

    found = noisy(data, networks, networks.column("label_noise"))
    if p.labels != "permuted":
        return found
    order = np.argsort(networks.words(PERMUTATION, found.shape[1]), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def _linear(p: FirstLayerParameters, networks: Networks, found: Material, start: np.ndarray) -> Trained:
    from sweeps.networks import pooled_linear

    labels = _numbers(p, networks, found)
    rate, averages = networks.column("learning_rate"), found.averages
    done = pooled_linear.train(start, averages, labels, rate, p.looked_at, _batches(p, networks, len(averages)))
    done[:, ~is_stable(p, found, rate)] = np.nan
    loss = np.stack([pooled_linear.losses(filters, averages, labels) for filters in done], axis=1)
    none = np.full_like(loss, np.nan)
    return Trained(start, done.swapaxes(0, 1), loss, none, none)


def is_stable(p: FirstLayerParameters, found: Material, learning_rate: np.ndarray | float) -> np.ndarray:
    """Whether steps of such a size shrink a linear network's error along every component, and do not make it grow."""
    largest = np.linalg.eigvalsh(found.averages.T @ found.averages / len(found.averages))[-1]
    return np.asarray(2 * p.width * learning_rate * largest < 2)


def _numbers(p: FirstLayerParameters, networks: Networks, found: Material) -> np.ndarray:
    """The labels of linear networks, float64 (networks, examples)."""
    noise = networks.column("label_noise")[:, None]
    if p.labels == "planted":
        signal = found.averages @ planted_direction(p, found)
        return np.sqrt(1 - noise) * signal + np.sqrt(noise) * networks.normals(NOISE, len(signal))
    data = with_labels(p, found)
    return values(data)[_classes(p, networks, data)]


def values(data: Labelled) -> np.ndarray:
    """Classes as numbers (classes,): in their order, of mean 0 and variance 1 over the training examples."""
    labels = data.train_labels
    return (np.arange(data.classes) - labels.mean()) / labels.std()


def planted_direction(p: FirstLayerParameters, found: Material) -> np.ndarray:
    """A component (d,), so long that it has variance 1 over the average patches."""
    direction = found.basis.vectors[:, p.component - 1]
    return direction / np.sqrt(np.mean((found.averages @ direction) ** 2))


def _batches(p: FirstLayerParameters, networks: Networks, n: int) -> Callable[[int], np.ndarray] | None:
    """The examples (networks, batch) of a step; None where every step sees them all."""
    if p.batch_size in (0, n):
        return None
    from sweeps.networks.training import order

    whole = n // p.batch_size
    epochs = lru_cache(maxsize=1)(lambda epoch: order(networks, epoch, n))

    def of_step(step: int) -> np.ndarray:
        first = step % whole * p.batch_size
        return epochs(step // whole)[:, first : first + p.batch_size]

    return of_step


def label_moments(p: FirstLayerParameters, found: Material) -> theory.Labels:
    """Of the mean over examples of average patch times label, which is what labels are to a linear network."""
    if p.labels == "planted":
        beta = planted_direction(p, found)
        return theory.planted(found.averages, beta, math.sqrt(1 - p.label_noise), p.label_noise)
    data = with_labels(p, found)
    known = values(data)
    given = known[data.train_labels], p.label_noise, float(known.mean()), float(known.var())
    return theory.permuted(found.averages, *given) if p.labels == "permuted" else theory.noisy(found.averages, *given)


def tell(first: float, share: float) -> Callable[[float], None]:
    """A function that tells how far a launch is, of a part of it that begins at `first` and takes `share`."""
    return lambda done: progress.tell(first + share * done)
