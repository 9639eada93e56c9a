"""A user's array in a spec: a path, which validation completes with what the file holds.

    "weights.npy"  becomes  "/home/ada/weights.npy#shape=500x6&sha256=9f86..."

So a spec says which numbers it was made for: a store can be read where the file is not, a file that has changed since
is refused, and what is random depends on what is behind the #, wherever the file lies. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from zipfile import BadZipFile

import numpy as np
from pydantic import AfterValidator

from sweeps.errors import SpecError

_PINNED = re.compile(r"(?P<path>.+)#(?P<content>shape=(?P<shape>\d+(x\d+)*)&sha256=[0-9a-f]{64})", re.DOTALL)


def pin(text: str) -> str:
    """`text` with the shape and hash of the file it names, unless it has them; the empty text names none.

    Raises:
        ValueError: the file is not there or holds no array of finite real numbers.
    """
    if not text or _PINNED.fullmatch(text):
        return text
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"file {text!r} cannot be found: {error}") from None
    array = _read(path)
    return f"{path}#{_content(path, array)}"


UserArray = Annotated[str, AfterValidator(pin)]
"""The type of a parameter that names a user's .npy file; empty for none."""


def content(value: Any) -> Any:
    """What of a parameter's value decides the numbers: of a pinned file, all but its path."""
    found = _PINNED.fullmatch(value) if isinstance(value, str) else None
    return found["content"] if found else value


def shape(pinned: str) -> tuple[int, ...]:
    """The shape of a pinned file's array, without a look at the file."""
    found = _PINNED.fullmatch(pinned)
    if found is None:
        raise ValueError(f"not a pinned file: {pinned!r}")
    return tuple(map(int, found["shape"].split("x")))


@lru_cache(maxsize=4)
def load(pinned: str) -> np.ndarray:
    """The array of a pinned file, read-only float64.

    Raises:
        SpecError: the file cannot be read, or is not the one that was pinned.
    """
    found = _PINNED.fullmatch(pinned)
    if found is None:
        raise SpecError(f"not a pinned file: {pinned!r}")
    path = Path(found["path"])
    try:
        array = _read(path)
    except ValueError as error:
        raise SpecError(str(error)) from None
    if (now := _content(path, array)) != found["content"]:
        raise SpecError(f"{path} has changed since the sweep was made: it has {now}, and had {found['content']}")
    array = np.array(array, dtype=np.float64)
    array.flags.writeable = False
    return array


def check(values: Iterable[Any]) -> None:
    """Read every pinned file among the values of parameters, as `load` does."""
    for value in values:
        if isinstance(value, str) and _PINNED.fullmatch(value):
            load.__wrapped__(value)  # the file as it is now


def _read(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except OSError as error:
        raise ValueError(f"file {str(path)!r} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"file {str(path)!r} is not a whole .npy file of numbers: {error}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub" or not array.ndim or not array.size:
        what = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise ValueError(f"file {str(path)!r} must be a .npy array of real numbers, got {what}")
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(np.float64)).all()
    if not finite:
        raise ValueError(f"file {str(path)!r} has entries that are not finite")
    return array


def _content(path: Path, array: np.ndarray) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"shape={'x'.join(map(str, array.shape))}&sha256={digest}"
