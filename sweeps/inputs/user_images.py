"""A user's images in a spec: a path, pinned by its content as files.py says, of

- an IDX file of images, as MNIST has (idx.py), or a binary CIFAR-10 file, .bin, or a folder of these (cifar.py);
- a .npy file of (n, channels, rows, cols), of (n, rows, cols), or of vectors (n, features), which become the channels
  of images of one pixel; labels are those of the file beside it (labels.py);
- a folder of PNG or JPEG images (image_folder.py).

uint8 numbers are divided by 255; all others are taken as they are. Nothing is unpickled or unpacked, and what would not
fit is refused by what its header says.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import AfterValidator

from sweeps.inputs import cifar, files, idx, image_folder, labels
from sweeps.inputs.pixels import Pixels, check_shape, is_folder, refused, size, unreadable

_PACKED = {
    b"\x1f\x8b": "gzip; gunzip it first",
    b"BZh": "bzip2; bunzip2 it first",
    b"\xfd7zXZ": "xz; unxz it first",
    b"\x28\xb5\x2f\xfd": "zstd; unzstd it first",
    b"PK": "zip (.npz is too); unpack it first",
}
_GREYS = (np.arange(256) / 255).astype(np.float32)


class UserSet(NamedTuple):
    """A user's images."""

    images: np.ndarray
    """Read-only float32 (n, channels, rows, cols)."""
    labels: np.ndarray | None
    """Their classes, read-only int64 (n,), where the format has them."""


def pin(text: str) -> str:
    """`text` with the shape (n, channels, rows, cols) and hash of the images it names, unless it has them; the empty
    text names none.

    Raises:
        ValueError: there are no images, or none that can be read; in one line.
    """
    return files.pin_by(text, _read)


UserImages = Annotated[str, AfterValidator(pin)]
"""The type of a parameter that names a user's images; empty for none."""


@lru_cache(maxsize=2)
def load(pinned: str) -> UserSet:
    """The images of a pinned path, and their labels.

    Raises:
        LostFileError: they cannot be read, or are not those that were pinned.
    """
    pixels, classes = files.load_by(pinned, _read)
    images = np.take(_GREYS, pixels) if pixels.dtype == np.uint8 else np.array(pixels, dtype=np.float32, order="C")
    images.flags.writeable = False
    if classes is not None:
        classes = classes.astype(np.int64)
        classes.flags.writeable = False
    return UserSet(images, classes)


def _read(path: Path) -> Pixels:
    if is_folder(path):
        return cifar.read(path) if cifar.batches(path) else image_folder.read(path)
    if not size(path):
        raise refused(path, "is empty")
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise unreadable(path, error) from None
    for magic, kind in _PACKED.items():
        if head.startswith(magic):
            raise refused(path, f"is compressed with {kind}")
    if head[:1] == b"\x80":
        raise refused(path, "looks like a Python pickle, which is never opened; of CIFAR-10 take the binary version")
    if head.startswith((b"\x89PNG", b"\xff\xd8")):
        raise refused(path, "is one image; give the folder that holds the images")
    if path.suffix == ".bin":
        return cifar.read(path)
    if path.suffix == ".npy" or head.startswith(b"\x93NUMPY"):
        return _npy(path)
    if head.startswith(b"\0\0"):
        return idx.read(path)
    raise refused(
        path,
        f"is none of the kinds that are read: IDX images, CIFAR-10 (.bin), .npy, or a folder of PNG or JPEG images; it "
        f"begins with {head.hex(' ')}",
    )


def _npy(path: Path) -> Pixels:
    images, beside = _array(path), labels.beside(path)
    return Pixels(images, None if beside is None else labels.check(beside, files.mapped(beside), len(images)))


def _array(path: Path) -> np.ndarray:
    """The images of a .npy file, (n, channels, rows, cols)."""
    array = files.mapped(path)
    match array.shape:
        case (_, _):
            array = array[:, :, None, None]
        case (_, _, _):
            array = array[:, None]
        case (n, rows, cols, 3 | 4 as last) if rows == cols > last:
            raise refused(
                path,
                f"has its channels last, by its shape {array.shape}; save numpy.moveaxis(x, -1, 1), of shape "
                f"{(n, last, rows, cols)}",
            )
        case (_, _, _, _):
            pass
        case _:
            raise refused(
                path, f"must be (n, channels, rows, cols), (n, rows, cols) or (n, features), got {array.shape}"
            )
    check_shape(path, array.shape)
    files.check_finite(path, array, np.float32)
    return array
