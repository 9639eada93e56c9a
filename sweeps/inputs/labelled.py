"""Images with classes, cut into training and validation examples.

The cut is data: a function of how many images there are, never of a sweep's seed or of a draw. One permutation of them,
from a key of its own, says which come first; of the `examples` first the first 80 %, rounded down, are for training.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np

from sweeps.errors import unknown
from sweeps.inputs import choice, digits, files, user_images

Data = Literal["digits", "file"]
Pairs = Literal["any", "within", "between"]

FEWEST = 10
"""Examples that a cut needs: 8 and 2."""


class Labelled(NamedTuple):
    """Read-only images, float32 (n, channels, rows, cols), and their classes, int64 (n,), from 0 to `classes` - 1."""

    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray
    classes: int


def shape(data: Data, path: str = "") -> tuple[int, int, int]:
    """(channels, rows, cols) of the images, which are not read."""
    _, channels, rows, cols = _held(data, path)
    return channels, rows, cols


def count(data: Data, path: str = "", examples: int = 0) -> tuple[int, int]:
    """How many examples are for training, and how many for validation; no image is read.

    Raises:
        UnknownNameError: there is no such data.
        ValueError: there are not as many examples, or too few; in one line.
    """
    held = _held(data, path)[0]
    if examples > held:
        raise ValueError(f"{examples} examples were asked for, and {path or data!r} has {held}")
    if (n := examples or held) < FEWEST:
        raise ValueError(f"examples must be at least {FEWEST}, 8 to train with and 2 to validate with, got {n}")
    return n * 4 // 5, n - n * 4 // 5


def _held(data: Data, path: str) -> tuple[int, int, int, int]:
    if data not in get_args(Data):
        raise unknown("data", data, get_args(Data))
    if data == "digits":
        return digits.COUNT, 1, digits.SIDE, digits.SIDE
    if not path:
        raise ValueError("data 'file' needs path, a file or folder of images with labels")
    held = files.shape(path)
    if len(held) != 4:
        raise ValueError(f"path must name images (n, channels, rows, cols), got shape {held} in {path!r}")
    return held


@lru_cache(maxsize=2)
def load(data: Data, path: str = "", examples: int = 0) -> Labelled:
    """The digits, or a user's images with labels, whose `path` is pinned (see user_images); 0 examples are all.

    Raises:
        LostFileError: the user's images cannot be read, or are not those that were pinned.
        UnknownNameError, ValueError: what `count` says, or there are no labels, or fewer than two classes among the
            examples for training; in one line.
    """
    training, validation = count(data, path, examples)
    images, labels = _all(data, path)
    order = _permutation(len(labels))[: training + validation]
    first, last = order[:training], order[training:]
    cut = images[first], labels[first], images[last], labels[last]
    for part in cut:
        part.flags.writeable = False
    if len(np.unique(cut[1])) < 2:
        raise ValueError(f"the training examples need at least 2 classes, and those of {path or data!r} have one")
    return Labelled(*cut, classes(data, path))


def standardised(data: Labelled) -> Labelled:
    """The images less the mean, and over the standard deviation, of each channel over those for training, as training
    pipelines do; a channel of one value is only made 0. Read-only float32.
    """
    channels = data.train_images.shape[1]
    found = np.array([_mean_and_deviation(data.train_images[:, c]) for c in range(channels)])
    shift, scale = found.T[:, :, None, None]
    train, validation = (_scaled(images, shift, scale) for images in (data.train_images, data.validation_images))
    return data._replace(train_images=train, validation_images=validation)


def _mean_and_deviation(pixels: np.ndarray) -> tuple[float, float]:
    """Of the pixels of a channel (n, rows, cols); deviation 1 where all are one value."""
    if (least := pixels.min()) == pixels.max():
        return float(least), 1.0
    mean = pixels.mean(dtype=np.float64)
    return float(mean), math.sqrt(sum(np.square(image - mean).sum() for image in pixels) / pixels.size)


def _scaled(images: np.ndarray, shift: np.ndarray, scale: np.ndarray) -> np.ndarray:
    scaled = np.empty(images.shape, np.float32)
    for image, into in zip(images, scaled, strict=True):
        into[:] = (image - shift) / scale
    scaled.flags.writeable = False
    return scaled


def members(data: Data, path: str, count: int, of: Pairs, index: int) -> np.ndarray:
    """The `index`-th set of `count` images, of all that there are, of which successive ones are such a pair; float32.

    Raises:
        LostFileError, UnknownNameError, ValueError: what `load` and `check_pairs` say.
    """
    images, labels = _all(data, path)
    words = choice.words(f"labelled/{of}", {}, index, 0, count)
    return images[choose(labels, np.array(words, np.uint32), of)]


def classes(data: Data, path: str) -> int:
    """How many classes the images have, of which a user's are read.

    Raises:
        LostFileError, ValueError: what `load` says.
    """
    return digits.CLASSES if data == "digits" else int(labels(data, path).max()) + 1


def labels(data: Data, path: str) -> np.ndarray:
    """The classes of all images, int64 (n,).

    Raises:
        LostFileError, ValueError: what `load` says.
    """
    return _all(data, path)[1]


def _all(data: Data, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, which have to be there."""
    images, labels = (digits.digits(), digits.labels()) if data == "digits" else user_images.load(path)
    if labels is None:
        raise ValueError(f"the images need labels, and {path!r} has none; an IDX file has them in a file beside it")
    return images, labels


def _permutation(n: int) -> np.ndarray:
    return np.argsort(choice.words("labelled", {"count": n}, 0, 0, n), kind="stable")


def check_pairs(labels: np.ndarray, of: Pairs) -> None:
    """Raises ValueError, in one line, where there are no such pairs of examples."""
    if of not in get_args(Pairs):
        raise unknown("pairs", of, get_args(Pairs))
    counts = np.bincount(labels)
    if of == "within" and counts.max() < 2:
        raise ValueError("pairs within a class need two examples of one class, and there are none")
    if of == "between" and counts.max() == len(labels):
        raise ValueError("pairs between classes need examples of two classes, and they are all of one")


def choose(labels: np.ndarray, words: np.ndarray, of: Pairs) -> np.ndarray:
    """Examples int64 (..., points), of uint32 words (..., points): vertices of paths. Consecutive ones are different,
    within one class, or between two classes.

    A path is a walk: its first two examples are a pair chosen uniformly among all ordered pairs wanted, and every next
    one is chosen uniformly among those that make such a pair with the one before. Uniform up to 2^-32.

    Raises:
        ValueError: what `check_pairs` says.
    """
    check_pairs(labels, of)
    in_order = np.argsort(labels, kind="stable")  # the members of a class are neighbours
    sizes = np.bincount(labels)
    ends = np.cumsum(sizes)
    end, size = ends[labels], sizes[labels]
    partners = {"any": np.full(len(labels), len(labels) - 1), "within": size - 1, "between": len(labels) - size}[of]
    place = np.argsort(in_order)
    chosen = np.empty(words.shape, np.int64)
    cumulated = np.cumsum(partners)
    chosen[..., 0] = np.searchsorted(cumulated, _below(words[..., 0], cumulated[-1]), side="right")
    for i in range(1, words.shape[-1]):
        last = chosen[..., i - 1]
        steps = _below(words[..., i], partners[last])
        match (
            of
        ):  # partners follow an example or its class, in the order by classes, round the whole or round its class
            case "any":
                at = (place[last] + 1 + steps) % len(labels)
            case "within":
                first = end[last] - size[last]
                at = first + (place[last] - first + 1 + steps) % size[last]
            case "between":
                at = (end[last] + steps) % len(labels)
        chosen[..., i] = in_order[at]
    return chosen


def _below(words: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    """32-bit words made integers in [0, n), n below 2^40."""
    return (words * 2.0**-32 * n).astype(np.int64)
