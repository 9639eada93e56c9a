"""Sets of square crops of real photographs from the scikit-learn and scikit-image wheels; no download.

A crop is a photograph chosen uniformly, then a place in it chosen uniformly; an all-black crop (a corner of the
astronaut) has no angle with anything and is drawn again, and so is one whose pixels are those of an earlier crop of
the set. What is made of the same crops:

- *raw*: pixels in [0, 1];
- *centred*: less the data set's mean of each channel;
- *standardised*: less that mean, over the data set's standard deviation of each channel, as training pipelines do;
- *grey*: the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, of raw pixels; one channel.

Mean and standard deviation are over the photographs, with equal weights as crops choose them, of their pixels. They
depend on neither the crop nor the set.

Labelled crops are `EACH` of every photograph, `SIDE` pixels a side, raw, at different places, none of them black; which
photograph a crop is of is its class. They overlap: each has pixels of two to four others, in the mean.

China, flower and rocket are JPEG files: decoders may differ by a level of
1/255.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import count as counting
from itertools import islice
from typing import Literal

import numpy as np

from sweeps.inputs import choice

NAMES = ("china", "flower", "astronaut", "chelsea", "coffee", "rocket")
LARGEST = 300
"""Largest side of a crop: the rows of the smallest photograph."""

SIDE, EACH = 16, 500
SPARE = 100
"""Places more than are needed, for black crops."""

LUMA = np.array([0.299, 0.587, 0.114])[:, None, None]
Pixels = Literal["raw", "centred", "standardised", "grey"]


@cache
def photographs() -> tuple[np.ndarray, ...]:
    """The photographs in the order of `NAMES`: read-only uint8 arrays (3, height, width), red first."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    decoded = [load_sample_image(f"{name}.jpg") for name in NAMES[:2]]
    decoded += [getattr(data, name)() for name in NAMES[2:]]
    images = tuple(np.ascontiguousarray(image.transpose(2, 0, 1)) for image in decoded)
    for image in images:
        image.flags.writeable = False
    return images


@cache
def channel_means() -> np.ndarray:
    """Mean of each channel over all photographs, float64 (3, 1, 1), in units of pixels in [0, 1]."""
    means = [image.mean(axis=(1, 2), dtype=np.float64) / 255 for image in photographs()]
    return np.mean(means, axis=0)[:, None, None]


@cache
def channel_deviations() -> np.ndarray:
    """Standard deviation of each channel over all photographs, float64 (3, 1, 1), in units of pixels in [0, 1]."""
    squares = [np.square(image / 255 - channel_means()).mean(axis=(1, 2)) for image in photographs()]
    return np.sqrt(np.mean(squares, axis=0))[:, None, None]


def members(count: int, side: int, index: int, pixels: Pixels) -> np.ndarray:
    """The `index`-th set of different crops, float32 (count, channels, side, side), side <= LARGEST.

    One index gives the same crops whatever `pixels`, and fewer members are the first ones of larger sets.
    """
    crops = np.stack(_crops(count, side, index)) / 255
    match pixels:
        case "centred":
            crops -= channel_means()
        case "standardised":
            crops = (crops - channel_means()) / channel_deviations()
        case "grey":
            crops = (LUMA * crops).sum(axis=1, keepdims=True)
    return crops.astype(np.float32)


@cache
def labelled() -> np.ndarray:
    """The labelled crops, photograph by photograph, read-only float32 (6 EACH, 3, SIDE, SIDE)."""
    found = [crop for which in range(len(NAMES)) for crop in islice(_spread(which), EACH)]
    images = (np.stack(found) / 255).astype(np.float32)
    images.flags.writeable = False
    return images


@cache
def labels() -> np.ndarray:
    """Which photographs they are of, read-only int64 (6 EACH,)."""
    found = np.repeat(np.arange(len(NAMES)), EACH)
    found.flags.writeable = False
    return found


def _spread(which: int) -> Iterator[np.ndarray]:
    """Crops of a photograph at different places, none of them black."""
    image = photographs()[which]
    across = image.shape[2] - SIDE + 1
    words = choice.words("photographs/labelled", {"photograph": which}, 0, 0, EACH + SPARE)
    for place in choice.distinct(words, (image.shape[1] - SIDE + 1) * across):
        top, left = divmod(place, across)
        if (crop := image[:, top : top + SIDE, left : left + SIDE]).any():
            yield crop


def _crops(count: int, side: int, index: int) -> list[np.ndarray]:
    """Different crops, uint8 (3, side, side), none of them black."""
    found: list[np.ndarray] = []
    for member in range(count):
        values = {"side": side, "member": member}
        tries = (_place(side, *choice.words("photographs", values, index, attempt, 3)) for attempt in counting())
        fit = (crop for crop in tries if crop.any() and not any(np.array_equal(crop, other) for other in found))
        found.append(next(fit))
    return found


def _place(side: int, which: int, down: int, right: int) -> np.ndarray:
    """The crop that three 32-bit words choose."""
    image = photographs()[choice.below(which, len(NAMES))]
    _, height, width = image.shape
    top, left = choice.below(down, height - side + 1), choice.below(right, width - side + 1)
    return image[:, top : top + side, left : left + side]
