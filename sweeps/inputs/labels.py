"""The file of labels that lies beside a file of images and is named like it.

| images | labels |
|---|---|
| `train-images-idx3-ubyte`, `train-images.idx3-ubyte` | `train-labels-idx1-ubyte`, `train-labels.idx1-ubyte` |
| `train.npy` | `train-labels.npy` |
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sweeps.inputs.pixels import refused

_NAMES = (
    ("images-idx3-ubyte", "labels-idx1-ubyte"),
    ("images.idx3-ubyte", "labels.idx1-ubyte"),
    (".npy", "-labels.npy"),
)
MOST = 2**16
"""Most classes that labels may tell apart."""


def beside(path: Path) -> Path | None:
    """The file of labels of a file of images, if there is one."""
    for images, labels in _NAMES:
        if path.name.endswith(images):
            found = path.with_name(path.name.removesuffix(images) + labels)
            return found if os.path.lexists(found) else None
    return None


def check(path: Path, labels: np.ndarray, images: int) -> np.ndarray:
    """The labels of so many images, unless they are no such.

    Raises:
        ValueError: they are not one whole number from 0 to `MOST` - 1 for each.
    """
    if labels.shape != (images,):
        raise refused(path, f"must hold one label for each of {images} images, got shape {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise refused(path, f"must hold whole numbers as labels, got {labels.dtype}")
    if (strange := np.flatnonzero((labels < 0) | (labels >= MOST))).size:
        raise refused(path, f"must hold labels from 0 to {MOST - 1}, got {labels[strange[0]]} at position {strange[0]}")
    return labels
