"""Rows that training makes: first-layer filters of small convolutional networks, which see patches of images.

A network is the `cnn` of sweeps.networks.small_cnns with m filters of side x side pixels, from its He initialisation
trained by stochastic gradients, in batches of 32 at step size 0.05, on the true classes of images that are standardised
channel by channel. The layer's rows are its filters, of n = channels x side^2 entries in the order channel, row,
column; the biases that it learns beside them are left out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from sweeps.inputs import labelled
from sweeps.inputs.labelled import Labelled
from sweeps.networks.architecture import lane_within
from sweeps.networks.initial import initial
from sweeps.networks.layered import Layered
from sweeps.networks.small_cnns import first_filters, small_cnn
from sweeps.statistic import Networks

if TYPE_CHECKING:
    from sweeps.networks.training import Recipe

Data = Literal["digits", "mnist", "photographs"]

BATCH, RATE = 32, 0.05


def inputs(data: Data, side: int) -> int:
    """n, the entries of a filter."""
    return labelled.shape(data)[0] * side**2


def trained(networks: Networks, m: int, data: Data, side: int, steps: int, device: str) -> np.ndarray:
    """The filters after `steps` steps, float64 (networks, m, n); of a network that diverged NaN.

    They depend on how many networks are trained together, but not on which: launch `lane` of them.

    Raises:
        UnknownNameError, ValueError: no such data; the filters do not fit the images, or the steps are too many; in
            one line.
    """
    layered, count = _layered(m, data, side), len(networks)
    start = initial(networks, layered, "he", np.ones(count), np.zeros(count))
    if not steps:
        return first_filters(layered, start).astype(np.float32).astype(np.float64)  # as training begins from
    from sweeps.networks import training  # torch, which takes seconds to import

    given = _examples(data)
    labels = np.tile(given.train_labels, (count, 1))
    done = training.train(layered, start, given, labels, networks, _recipe(steps), np.full(count, RATE), device)
    return first_filters(layered, done.packed[0])


def lane(m: int, data: Data, side: int, steps: int) -> int:
    """Networks to train at once."""
    return lane_within(2**28, memory(m, data, side, steps), 64)


def memory(m: int, data: Data, side: int, steps: int) -> int:
    """Bytes that a network needs meanwhile."""
    from sweeps.networks import training

    return training.launch_bytes(_layered(m, data, side), _recipe(steps), labelled.count(data)[0])


def seconds(m: int, data: Data, side: int, steps: int) -> float:
    """Roughly what training a network takes on one core."""
    from sweeps.networks import training

    return training.seconds(_layered(m, data, side), _recipe(steps), labelled.count(data)[0])


def _layered(m: int, data: Data, side: int) -> Layered:
    return small_cnn("cnn", labelled.shape(data), m, side, labelled.classes(data, ""))


def _recipe(steps: int) -> Recipe:
    from sweeps.networks.training import Recipe

    return Recipe(steps, BATCH, "sgd", (steps,), judged=1)


@lru_cache(maxsize=1)
def _examples(data: Data) -> Labelled:
    return labelled.standardised(labelled.load(data))
