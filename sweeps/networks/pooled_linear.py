"""Training of a linear network of one layer: convolution inside the image, mean over pixels, sum over K filters.

The mean over pixels of a convolution is the filter on the image's average patch p, so that, averages centred over the
training images,
    f(x) = sum_k w_k . p(x),    loss = mean over the batch of (f(x) - y)^2.
Its gradient is the same for every filter, so that all move by one vector: w_k(t) = w_k(0) + shift(t), with
    shift <- shift + 2 eta mean over the batch of (y - f) p,    f = (sum_k w_k(0) + K shift) . p.
A full batch needs the images' A = mean p p^T and b = mean y p only (Chowers and Weiss, ICML 2022, arXiv 2206.02454):
    shift <- shift + 2 eta (b - A (sum_k w_k(0) + K shift)).

Every network is trained by itself, in float64, with sums in a fixed order: its bits are those it has alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sweeps.compiled import compiled

AT_ONCE = 1000  # steps on the full batch


def train(
    start: np.ndarray,
    averages: np.ndarray,
    labels: np.ndarray,
    learning_rate: np.ndarray,
    checkpoints: tuple[int, ...],
    batches: Callable[[int], np.ndarray] | None = None,
    seen: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Filters (checkpoints, networks, K, d) after so many steps of gradient descent from `start` (networks, K, d).

    `averages` (n, d) are the images' centred average patches, `labels` (networks, n), `learning_rate` (networks,), and
    `checkpoints` rise from 0 at least. `batches(step)` gives the examples (networks, batch) of a step, steps counted
    from 0; None: all. `seen` is called now and then with the share of all steps that are done. A network that is not
    finite is NaN.
    """
    start, averages, labels, rates = map(_float64, (start, averages, labels, learning_rate))
    networks, K, d = start.shape
    origin, shift = sums(start), np.zeros((networks, d))
    A, b = moments(averages, labels) if batches is None else (np.empty((d, d)), np.empty((networks, d)))
    found, done = np.empty((len(checkpoints), networks, K, d)), 0
    for filters, checkpoint in zip(found, checkpoints, strict=True):
        while done < checkpoint:
            if batches is None:
                more = min(AT_ONCE, checkpoint - done)
                descend(A, b, origin, rates, K, more, shift)
            else:
                more = 1
                follow(averages, labels, batches(done), origin, rates, K, shift)
            done += more
            if seen:
                seen(done / checkpoints[-1])
        filters[:] = _finite(start, shift)
    return found


def losses(filters: np.ndarray, averages: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean squared error (networks,) of filters (networks, K, d) over all images."""
    return mean_squares(sums(_float64(filters)), _float64(averages), _float64(labels))


def _float64(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float64)


def _finite(start: np.ndarray, shift: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        filters = start + shift[:, None]
    return np.where(np.isfinite(filters).all((1, 2), keepdims=True), filters, np.nan)


@compiled
def sums(filters):
    """Sums (networks, d) of the filters (networks, K, d) of every network."""
    networks, K, d = filters.shape
    total = np.zeros((networks, d))
    for n in range(networks):
        for k in range(K):
            for i in range(d):
                total[n, i] += filters[n, k, i]
    return total


@compiled
def moments(averages, labels):
    """A = mean p p^T (d, d), and b = mean y p (networks, d) of every network's labels."""
    images, d = averages.shape
    A, b = np.zeros((d, d)), np.zeros((len(labels), d))
    for image in range(images):
        for i in range(d):
            for j in range(d):
                A[i, j] += averages[image, i] * averages[image, j] / images
    for n in range(len(labels)):
        for image in range(images):
            for i in range(d):
                b[n, i] += labels[n, image] * averages[image, i] / images
    return A, b


@compiled
def descend(A, b, origin, rates, K, steps, shift):
    """Move `shift` (networks, d) by steps on the full batch; `origin` are the sums of the first filters."""
    networks, d = shift.shape
    pull = np.empty(d)
    for n in range(networks):
        for _ in range(steps):
            for i in range(d):
                pull[i] = b[n, i]
            for j in range(d):
                total = origin[n, j] + K * shift[n, j]
                for i in range(d):
                    pull[i] -= total * A[j, i]
            for i in range(d):
                shift[n, i] += 2 * rates[n] * pull[i]


@compiled
def follow(averages, labels, batches, origin, rates, K, shift):
    """Move `shift` by one step, each network on its examples `batches` (networks, batch)."""
    networks, d = shift.shape
    pull, total = np.empty(d), np.empty(d)
    for n in range(networks):
        for i in range(d):
            pull[i], total[i] = 0.0, origin[n, i] + K * shift[n, i]
        for image in batches[n]:
            short = labels[n, image] - dot(total, averages[image])
            for i in range(d):
                pull[i] += short * averages[image, i]
        for i in range(d):
            shift[n, i] += 2 * rates[n] / batches.shape[1] * pull[i]


@compiled
def mean_squares(total, averages, labels):
    networks, images = labels.shape
    found = np.zeros(networks)
    for n in range(networks):
        for image in range(images):
            found[n] += (labels[n, image] - dot(total[n], averages[image])) ** 2 / images
    return found


@compiled
def dot(x, y):
    """In four sums, which a processor adds at once."""
    a = b = c = e = 0.0
    whole = len(x) - len(x) % 4
    for i in range(0, whole, 4):
        a += x[i] * y[i]
        b += x[i + 1] * y[i + 1]
        c += x[i + 2] * y[i + 2]
        e += x[i + 3] * y[i + 3]
    for i in range(whole, len(x)):
        a += x[i] * y[i]
    return (a + b) + (c + e)
