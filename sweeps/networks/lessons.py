"""What is random in the training of a network: the order of its examples, and which labels are wrong.

In each epoch a network goes through its n examples in an order drawn anew; an epoch is as many steps as there are whole
batches. Label noise p replaces every training label, with probability p, by a class drawn uniformly, the true one
included: once, before training.

Both are functions of the draw (see docs/randomness.md): tensor SHUFFLES + epoch has the words that, sorted, order the
examples; NOISE and NOISE + 1 say which labels are replaced, and by what, and PERMUTATION, sorted, permutes labels.
"""

from __future__ import annotations

import numpy as np

from sweeps.inputs.labelled import Labelled
from sweeps.statistic import Networks

SHUFFLES, EPOCHS = 2**18, 2**18
NOISE, PERMUTATION = SHUFFLES + EPOCHS, SHUFFLES + EPOCHS + 2


def check_epochs(steps: int, examples: int, batch: int) -> None:
    """Raises ValueError, in one line, where so many steps are more epochs than there are orders."""
    most = EPOCHS * (examples // batch)
    if steps > most:
        raise ValueError(f"steps must be at most {most}, {EPOCHS} epochs of {examples} examples, got {steps}")


def order(networks: Networks, epoch: int, n: int) -> np.ndarray:
    """The order in which every network goes through n examples in an epoch, int64 (networks, n)."""
    return _sorted(networks.words(SHUFFLES + epoch, n))


def noisy(data: Labelled, networks: Networks, label_noise: np.ndarray) -> np.ndarray:
    """The training labels, so many of them replaced in every network, int64 (networks, examples)."""
    n = len(data.train_labels)
    replaced = networks.words(NOISE, n) < np.asarray(label_noise)[:, None] * 2.0**32
    drawn = (networks.words(NOISE + 1, n).astype(np.uint64) * np.uint64(data.classes)) >> np.uint64(32)
    return np.where(replaced, drawn.astype(np.int64), data.train_labels)


def permuted(labels: np.ndarray, networks: Networks) -> np.ndarray:
    """Labels (networks, examples), those of every network in a random order."""
    return np.take_along_axis(labels, _sorted(networks.words(PERMUTATION, labels.shape[1])), axis=1)


def _sorted(words: np.ndarray) -> np.ndarray:
    """What sorts uint32 words (networks, n), ties by index; int64."""
    words = words.astype(np.uint64)
    found = np.sort((words << np.uint64(32)) | np.arange(words.shape[1], dtype=np.uint64), axis=1)
    return (found & np.uint64(2**32 - 1)).astype(np.int64)
