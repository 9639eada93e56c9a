"""IDX files, the format of MNIST and its kin: a big-endian header, then bytes in row-major order.

    0 0 type dimensions, then one 32-bit length a dimension

Images are three-dimensional and of unsigned bytes, type 8. Labels, one-dimensional, are taken from the file beside them
that is named like it: `train-labels-idx1-ubyte` beside `train-images-idx3-ubyte`, also with `.idx` for `-idx`.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from sweeps.inputs.pixels import Pixels, check_shape, refused, size, unreadable

_UNSIGNED_BYTE = 8


def read(path: Path) -> Pixels:
    """The images (n, 1, rows, cols) and, where their file is there, labels; nothing but the header is read yet.

    Raises:
        ValueError: this is no whole IDX file of images, or its labels are not theirs.
    """
    images = _mapped(path)
    if images.ndim == 1:
        raise refused(path, "holds labels; give the file of images, whose name has images-idx3 in it")
    if images.ndim != 3:
        raise refused(path, f"must have 3 dimensions (n, rows, cols), got {images.ndim}")
    beside = labels_beside(path)
    if beside is None:
        return Pixels(images[:, None])
    labels = _mapped(beside)
    if labels.shape != images.shape[:1]:
        raise refused(beside, f"must hold one label for each of {len(images)} images, got shape {labels.shape}")
    return Pixels(images[:, None], labels)


def labels_beside(path: Path) -> Path | None:
    """The file of labels that goes with a file of images, if there is one."""
    for images, labels in (("images-idx3-ubyte", "labels-idx1-ubyte"), ("images.idx3-ubyte", "labels.idx1-ubyte")):
        if path.name.endswith(images):
            beside = path.with_name(path.name.removesuffix(images) + labels)
            return beside if os.path.exists(beside) else None
    return None


def _mapped(path: Path) -> np.ndarray:
    found = size(path)
    try:
        with path.open("rb") as file:
            header = file.read(4 + 4 * 255)
    except OSError as error:
        raise unreadable(path, error) from None
    magic = header[:4]
    if len(header) < 4 or len(header) < 4 + 4 * magic[3]:
        raise refused(path, "ends within its IDX header")
    lengths = np.frombuffer(header[4 : 4 + 4 * magic[3]], ">u4").tolist()
    if magic[:2] != b"\0\0" or not lengths:
        raise refused(path, f"is no IDX file: it begins with {magic.hex(' ')}, not with 00 00 08 and a dimension")
    if magic[2] != _UNSIGNED_BYTE:
        raise refused(path, f"has IDX type 0x{magic[2]:02x}; only unsigned bytes, 0x08, are read")
    check_shape(path, lengths)
    whole = 4 + 4 * len(lengths) + math.prod(lengths)
    if found != whole:
        text = " x ".join(map(str, lengths))
        raise refused(
            path, f"must have {whole} bytes for {text} by its header, got {found}: it was cut or is no IDX file"
        )
    return np.memmap(path, np.uint8, "r", offset=4 + 4 * len(lengths), shape=tuple(lengths))
