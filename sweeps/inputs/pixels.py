"""What the readers of users' images have in common: what they give, and what they refuse to read."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

LIMIT = 2**30
"""Most pixels of a set, all channels counted: 4 GiB as float32."""


class Pixels(NamedTuple):
    """Images as they are stored, (n, channels, rows, cols): uint8 stands for [0, 255], all else for itself."""

    pixels: np.ndarray
    labels: np.ndarray | None = None
    """Classes of the images, whole numbers (n,), where the format has them."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape


def is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # False where Path.is_dir raises, as within a folder that may not be read


def refused(path: Path, why: str) -> ValueError:
    return ValueError(f"{'folder' if is_folder(path) else 'file'} {str(path)!r} {why}")


def unreadable(path: Path, error: OSError | ValueError) -> ValueError:
    return refused(path, f"cannot be read: {getattr(error, 'strerror', None) or error}")


def size(path: Path) -> int:
    """Bytes of a file; ValueError where there is none, or nothing that ends, such as a pipe or a device."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if not stat.S_ISREG(found.st_mode):
        raise refused(path, "is no regular file")
    return found.st_size


def check_shape(path: Path, shape: Sequence[int]) -> None:
    """Refuse a set that is empty or too large, by what its header says."""
    text = " x ".join(map(str, shape))
    if not math.prod(shape):
        raise refused(path, f"has no images: its shape is {text}")
    if math.prod(shape) > LIMIT:
        raise refused(
            path,
            f"is too large: {text} is {4 * math.prod(shape) / 2**30:.3g} GiB as float32, over 4; take fewer images",
        )
