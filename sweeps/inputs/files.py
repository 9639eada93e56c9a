"""A user's data in a spec: a path, which validation completes with what lies there.

    "weights.npy"  becomes  "/home/ada/weights.npy#shape=500x6&sha256=9f86..."

So a spec says which numbers it was made for: a store can be read where the file is not, a file that has changed since
is refused, and what is random depends on what is behind the #, wherever the file lies. Nothing is ever unpickled.

The hash is that of the file. Of several, images with their labels or a folder of images, it is the hash of a text with
one line a file in the order of names: its hash, two blanks, its name in quotes as Python writes it, a newline.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import numpy as np
from pydantic import AfterValidator

from sweeps.errors import LostFileError, SpecError, in_one_line
from sweeps.inputs import cifar, image_folder, labels
from sweeps.inputs.pixels import is_folder, refused, size, unreadable

_PINNED = re.compile(
    r"(?P<path>.+)#(?P<content>shape=(?P<shape>\d+(x\d+)*)&sha256=(?P<sha256>[0-9a-f]{64}))", re.DOTALL
)


class Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


Held = TypeVar("Held", bound=Shaped)


def pin(text: str) -> str:
    """`text` with the shape and hash of the .npy file it names, unless it has them; the empty text names none.

    Raises:
        ValueError: the file is not there or holds no array of finite real numbers.
    """
    return pin_by(text, _read)


UserArray = Annotated[str, AfterValidator(pin)]
"""The type of a parameter that names a user's .npy file; empty for none."""


def pin_by(text: str, read: Callable[[Path], Shaped]) -> str:
    """`pin` of what `read` makes of a path; it raises ValueError where it can make nothing."""
    if not text or _PINNED.fullmatch(text):
        return text
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"file {text!r} cannot be found: {error}") from None
    return f"{path}#{_content(path, read(path).shape)}"


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
        LostFileError: the file cannot be read, or is not the one that was pinned.
    """
    array = np.array(load_by(pinned, _read), dtype=np.float64)
    array.flags.writeable = False
    return array


def load_by(pinned: str, read: Callable[[Path], Held]) -> Held:
    """What `read` makes of a pinned path; raises as `load` does."""
    found = _PINNED.fullmatch(pinned)
    if found is None:
        raise SpecError(f"not a pinned file: {pinned!r}")
    path = Path(found["path"])
    try:
        held = read(path)
        now = _content(path, held.shape)
    except ValueError as error:
        raise LostFileError(str(error)) from None
    _check_same(path, now, found["content"])
    return held


def check(values: Iterable[Any]) -> None:
    """Compare every pinned file among the values of parameters with what it is now; raises as `load` does."""
    for value in values:
        found = _PINNED.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            continue
        path = Path(found["path"])
        try:
            now = _sha256(path, shape(value))
        except ValueError as error:
            raise LostFileError(str(error)) from None
        _check_same(path, f"sha256={now}", f"sha256={found['sha256']}")


def mapped(path: Path) -> np.ndarray:
    """The array of a .npy file, read when it is looked at.

    Raises:
        ValueError: the file is not there or holds no array of real numbers.
    """
    found = size(path)
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # numpy's reader of headers raises nearly anything
        raise refused(path, f"is not a whole .npy file of numbers: {in_one_line(error)}") from None
    if not isinstance(array, np.memmap) or array.dtype.kind not in "fiub" or not array.ndim or not array.size:
        what = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise refused(path, f"must be a .npy array of real numbers, got {what}")
    if found != (whole := array.offset + array.nbytes):
        raise refused(path, f"must have {whole} bytes for {array.shape} by its header, got {found}: it holds more")
    return array


def check_finite(path: Path, array: np.ndarray, dtype: type[np.floating]) -> None:
    """Refuse an array with entries that are not finite as `dtype`; a part at a time, as they may be many."""
    with np.errstate(over="ignore"):
        for part in np.array_split(array, -(-array.size // 2**24)):
            if not np.isfinite(part.astype(dtype)).all():
                raise refused(path, f"has entries that are not finite as {np.dtype(dtype)}")


def _read(path: Path) -> np.ndarray:
    array = mapped(path)
    check_finite(path, array, np.float64)
    return array


def _check_same(path: Path, now: str, then: str) -> None:
    if now != then:
        raise LostFileError(f"{path} has changed since the sweep was made: it has {now}, and had {then}")


def _content(path: Path, shape: tuple[int, ...]) -> str:
    return f"shape={'x'.join(map(str, shape))}&sha256={_sha256(path, shape)}"


def _sha256(path: Path, shape: tuple[int, ...]) -> str:
    digests = {name: _sha256_of_file(file) for name, file in _files(path, shape).items()}
    if list(digests) == [""]:
        return digests[""]
    return hashlib.sha256("".join(f"{digest}  {name!r}\n" for name, digest in digests.items()).encode()).hexdigest()


def _files(path: Path, shape: tuple[int, ...]) -> dict[str, Path]:
    """What is read of a path, by names that do not depend on where it lies; only what has 4 dimensions has labels."""
    if is_folder(path):
        return cifar.batches(path) or image_folder.images(path)
    beside = labels.beside(path) if len(shape) == 4 else None
    return {"images": path, "labels": beside} if beside else {"": path}


def _sha256_of_file(path: Path) -> str:
    size(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from None
