"""Pairs of square crops of real photographs from the scikit-learn and scikit-image wheels; no download.

A crop is a photograph chosen uniformly, then a place in it chosen uniformly; an all-black crop (a corner
of the astronaut) has no angle with anything and is drawn again. The *centred* crop subtracts
the data set's mean of each channel, as training pipelines do: the mean over the photographs, with equal
weights as crops choose them, of their pixels. It depends neither on the crop nor on the pair.
China, flower and rocket are JPEG files: decoders may differ by a level of 1/255.
"""

from __future__ import annotations

from functools import cache
from itertools import count

import numpy as np

from sweeps import randomness

NAMES = ("china", "flower", "astronaut", "chelsea", "coffee", "rocket")


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


def pair(side: int, index: int, *, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """The `index`-th pair of independent crops, float32 (3, side, side), pixels in [0, 1] before centring.

    One index gives the same two crops whether `centred` or not.
    """
    x, y = (_crop(side, index, member) / 255 for member in (0, 1))
    if centred:
        x, y = x - channel_means(), y - channel_means()
    return x.astype(np.float32), y.astype(np.float32)


def _crop(side: int, index: int, member: int) -> np.ndarray:
    """Crop 0 or 1 of a pair, uint8 (3, side, side)."""
    values = {"side": side, "member": member}
    key = np.array([randomness.key(0, "inputs/photographs", values)], dtype=np.uint64)
    pairs = np.array([index], dtype=np.uint64)
    crops = (_place(side, *randomness.words(key, pairs, attempt, 3)[0].tolist()) for attempt in count())
    return next(crop for crop in crops if crop.any())


def _place(side: int, which: int, down: int, right: int) -> np.ndarray:
    """The crop that three 32-bit words choose."""
    image = photographs()[_below(which, len(NAMES))]
    _, height, width = image.shape
    top, left = _below(down, height - side + 1), _below(right, width - side + 1)
    return image[:, top : top + side, left : left + side]


def _below(word: int, n: int) -> int:
    """A 32-bit word made an integer in [0, n)."""
    return word * n >> 32
