"""IDX files, the format of MNIST and its kin: a big-endian header, then bytes in row-major order.

    0 0 type dimensions, then one 32-bit length a dimension

Images are three-dimensional and of unsigned bytes, type 8. Labels, one-dimensional, are taken from the file beside them
(labels.py).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from sweeps.inputs import labels
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
    beside = labels.beside(path)
    return Pixels(images[:, None], None if beside is None else labels.check(beside, _mapped(beside), len(images)))


def _mapped(path: Path) -> np.ndarray:
    found = size(path)
    try:
        with path.open("rb") as file:
            header = file.read(4 + 4 * 255)
    except OSError as error:
        raise unreadable(path, error) from None
    magic = header[:4]
    if len(magic) == 4 and (magic[:2] != b"\0\0" or not magic[3]):
        raise refused(path, f"is no IDX file: it begins with {magic.hex(' ')}, not with 00 00 08 and a dimension")
    if len(magic) < 4 or len(header) < 4 + 4 * magic[3]:
        raise refused(path, "ends within its IDX header")
    lengths = np.frombuffer(header[4 : 4 + 4 * magic[3]], ">u4").tolist()
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
