"""Sets of inputs by the name of their family.

A set is data: a function of the parameters alone, never of a sweep's seed or of a draw. docs/inputs.md says what the
families are.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from sweeps.errors import unknown
from sweeps.inputs import choice, digits, extremal, files, gaussian, photographs, user_images

Family = Literal[
    "gaussian",
    "gaussian-expected",
    "photo-raw",
    "photo-centred",
    "photo-standardised",
    "photo-grey",
    "digits",
    "parallel-patches",
    "blobs",
    "rectangles",
    "file",
]

PARAMETERS: dict[Family, frozenset[str]] = {
    "gaussian": frozenset({"side", "correlation"}),
    "gaussian-expected": frozenset({"side", "correlation"}),
    "photo-raw": frozenset({"side"}),
    "photo-centred": frozenset({"side"}),
    "photo-standardised": frozenset({"side"}),
    "photo-grey": frozenset({"side"}),
    "digits": frozenset(),
    "parallel-patches": frozenset({"side", "correlation", "cell"}),
    "blobs": frozenset({"side", "correlation", "cell"}),
    "rectangles": frozenset({"side"}),
    "file": frozenset({"path"}),
}
"""Which of side, correlation, cell and path decide a family's images; the others are not looked at."""


def inputs(
    family: Family, count: int, side: int, correlation: float, index: int, cell: int = 1, path: str = ""
) -> np.ndarray:
    """The `index`-th set of `count` images, read-only float32 (count, channels, rows, cols).

    Members are different images, but for those of correlation 1. `cell` is the side of blobs, and the gap between the
    bands of parallel patches, in pixels; `path` is that of a user's images, pinned (see user_images).

    Raises:
        UnknownNameError: there is no such family.
        ValueError: the family has no such set; what `check` says.
        SpecError: the user's images cannot be read, or have changed.
    """
    check(family, count, side, correlation, cell, path)
    given = {"side": side, "correlation": correlation, "cell": cell, "path": path}
    unused: dict[str, int | float | str] = {"side": 0, "correlation": 0.0, "cell": 0, "path": ""}
    return _inputs(family, count, index, **{k: given[k] if k in PARAMETERS[family] else unused[k] for k in given})


@lru_cache(maxsize=128)
def _inputs(family: Family, count: int, index: int, *, side: int, correlation: float, cell: int, path: str):
    match family:
        case "gaussian" | "gaussian-expected":
            images = gaussian.members(count, side, correlation, index, exact=family == "gaussian")
        case "photo-raw":
            images = photographs.members(count, side, index, "raw")
        case "photo-centred":
            images = photographs.members(count, side, index, "centred")
        case "photo-standardised":
            images = photographs.members(count, side, index, "standardised")
        case "photo-grey":
            images = photographs.members(count, side, index, "grey")
        case "digits":
            images = digits.members(count, index)
        case "parallel-patches":
            images = extremal.parallel_patches(count, side, correlation, index, cell)
        case "blobs":
            images = extremal.blobs(count, side, correlation, index, cell)
        case "rectangles":
            images = extremal.rectangles(count, side, index)
        case "file":
            held = user_images.load(path).images
            images = held[choice.distinct(choice.words("file", {}, index, 0, count), len(held))]
    images.flags.writeable = False
    return images


def shape(family: Family, side: int, path: str = "") -> tuple[int, int, int]:
    """(channels, rows, cols) of a family's images, which are neither made nor read."""
    match family:
        case "file":
            _, channels, rows, cols = files.shape(path)
            return channels, rows, cols
        case "digits":
            return 1, digits.SIDE, digits.SIDE
        case "photo-grey":
            return 1, side, side
    return 3, side, side


def check(family: Family, count: int, side: int, correlation: float, cell: int = 1, path: str = "") -> None:
    """Refuse a set that does not exist, without making one.

    Raises:
        UnknownNameError: there is no such family.
        ValueError: what is wrong, its value and what would be right.
    """
    if family not in PARAMETERS:
        raise unknown("inputs", family, get_args(Family))
    needs = PARAMETERS[family]
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if "side" in needs and side < 1:
        raise ValueError(f"side must be at least 1, got {side}")
    if "cell" in needs and cell < 1:
        raise ValueError(f"cell must be at least 1, got {cell}")
    if "correlation" in needs:
        _check_correlation(family, count, correlation)
    match family:
        case "gaussian" if count > gaussian.CHANNELS * side**2:
            raise ValueError(
                f"{count} gaussian images of an exact cosine need as many pixels, and side {side} has "
                f"{gaussian.CHANNELS * side**2}; use a larger side or 'gaussian-expected'"
            )
        case "photo-raw" | "photo-centred" | "photo-standardised" | "photo-grey" if side > photographs.LARGEST:
            raise ValueError(f"side must be at most {photographs.LARGEST} for photographs, got {side}")
        case "digits" if count > digits.COUNT:
            raise ValueError(f"there are {digits.COUNT} digits, and {count} different ones were asked for")
        case "parallel-patches" if (count + 1) * (cell + 1) > side:
            raise ValueError(
                f"{count + 1} bands and gaps of cell = {cell} pixels need side >= {(count + 1) * (cell + 1)}, "
                f"got {side}"
            )
        case "blobs" if side % cell:
            raise ValueError(f"cell must divide side {side} for blobs, got {cell}")
        case "file":
            _check_file(count, path)


def _check_correlation(family: Family, count: int, correlation: float) -> None:
    most = 1.0
    match family:
        case "parallel-patches":
            least, most = 0.0, math.nextafter(1, 0)
        case "blobs" if count > 2:
            least = 0.0
        case _:
            least = -1 / (count - 1) if count > 2 else -1.0
    if not least <= correlation <= most:
        end = "<= 1" if most == 1 else "< 1"
        raise ValueError(
            f"{count} inputs of family {family!r} need {least:.6g} <= correlation {end}, got {correlation}"
        )


def _check_file(count: int, path: str) -> None:
    if not path:
        raise ValueError("inputs 'file' needs path, a file or folder of images")
    held = files.shape(path)
    if len(held) != 4:
        raise ValueError(f"path must name images (n, channels, rows, cols), got shape {held} in {path!r}")
    if count > held[0]:
        raise ValueError(f"{count} different images were asked for, and {path!r} has {held[0]}")
