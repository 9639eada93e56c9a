"""A folder of PNG and JPEG images, all of one size and either all grey or all in colour, in the order of their names.

Its folders are classes, if it has any: then all images lie in these, and a class is the position of its folder's name
in order. Files whose names begin with a dot are no part of it. Pixels are as they are stored, 8 bits a channel: no
profile, gamma or orientation in an image's metadata is applied.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sweeps.errors import in_one_line
from sweeps.inputs.pixels import LIMIT, Pixels, check_shape, is_folder, refused, size, unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = {".png", ".jpg", ".jpeg"}
_PNG_END = b"IEND\xaeB`\x82"
_PNG_DEPTH = 24  # where it is in the data
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"


def images(folder: Path) -> dict[str, Path]:
    """The images by their names within the folder, in order.

    Raises:
        ValueError: the folder cannot be read, or holds something else, or nothing.
    """
    here, classes = _entries(folder)
    if here and classes:
        raise refused(
            folder, f"has images ({here[0].name!r}) beside folders ({classes[0].name!r}); use one or the other"
        )
    found = {path.name: path for path in here}
    for within in classes:
        files, deeper = _entries(within)
        if deeper or not files:
            raise refused(
                within, f"must hold PNG or JPEG images, got {f'the folder {deeper[0].name!r}' if deeper else 'none'}"
            )
        found |= {f"{within.name}/{path.name}": path for path in files}
    if not found:
        raise refused(folder, "holds no images: no PNG, no JPEG and no data_batch_*.bin of CIFAR-10")
    return found


def read(folder: Path) -> Pixels:
    """The images (n, channels, rows, cols), one channel if grey and three if not, and classes where there are folders.

    Raises:
        ValueError: a file is no whole PNG or JPEG image, or another kind than the first, or they are too many.
    """
    found = images(folder)
    pixels = np.empty(0, np.uint8)
    for i, path in enumerate(found.values()):
        image = _opened(path)
        mode = "L" if image.mode in ("1", "L") else "RGB"
        shape = (1 if mode == "L" else 3, image.height, image.width)
        if not i:
            check_shape(folder, (len(found), *shape))
            pixels = np.empty((len(found), *shape), np.uint8)
        if shape != pixels.shape[1:]:
            raise refused(
                path, f"has (channels, rows, cols) = {shape}, and the first image of its folder {pixels.shape[1:]}"
            )
        pixels[i] = np.asarray(_decoded(path, image, mode)).reshape(*shape[1:], shape[0]).transpose(2, 0, 1)
    names = [name.rpartition("/")[0] for name in found]
    classes = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return Pixels(pixels, None if "" in classes else np.array([classes[name] for name in names]))


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """(images, folders) of a folder, each in the order of names."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from None
    files: list[Path] = []
    folders: list[Path] = []
    for path in entries:
        (folders if is_folder(path) else files).append(path)
    strange = [path.name for path in files if path.suffix.lower() not in _SUFFIXES]
    if strange and (folders or len(strange) < len(files)):
        raise refused(
            folder,
            f"must hold PNG and JPEG images alone, got {strange[0]!r}; take it out, or rename it to .{strange[0]}",
        )
    return [] if strange else files, folders


def _opened(path: Path) -> Image:
    """The image, its header read and its end seen: Pillow takes images that lack theirs."""
    from PIL import Image, UnidentifiedImageError

    if size(path) > LIMIT:
        raise refused(path, "is too large for one image")
    try:
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(data), formats=("PNG", "JPEG"))
    except UnidentifiedImageError:
        raise refused(path, "is no PNG or JPEG image, or cut") from None
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # whatever a decoder raises on what it was not made for
        raise refused(path, f"is no PNG or JPEG image: {in_one_line(error)}") from None
    png = image.format == "PNG"
    if not (_PNG_END in data if png else data.rfind(_JPEG_END) > data.rfind(_JPEG_SCAN)):
        raise refused(path, f"is cut: its {image.format} data has no end")
    if image.mode not in ("1", "L", "P", "RGB") or "transparency" in image.info or (png and data[_PNG_DEPTH] > 8):
        raise refused(path, f"must be 8-bit grey or RGB without transparency, got mode {image.mode}; convert it")
    return image


def _decoded(path: Path, image: Image, mode: str) -> Image:
    try:
        return image.convert(mode)
    except Exception as error:  # as above
        raise refused(path, f"cannot be decoded: {in_one_line(error)}") from None
