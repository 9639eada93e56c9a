"""Loops in machine code, compiled once and kept on disk where there is a place for that.

numba keeps it in NUMBA_CACHE_DIR, beside the source or in the user's cache folder, and refuses a function where none
of them can be written, as in a container with a read-only root. Then it is kept in a folder of the user's own in the
temporary directory, and where there is none of those either, every process compiles for itself.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cache
from typing import Any

import numba
from numba import extending
from numba.core import config

intrinsic: Any = extending.intrinsic  # what it makes is called without the typing context
CONFIG: Any = config  # made from the environment, so that pyright does not know what is in it


def compiled(function: Callable[..., Any], fastmath: Collection[str] = ()) -> Any:
    """`function` as machine code that runs without Python's lock, compiled when it is first called.

    `fastmath` are the liberties with float arithmetic, of LLVM's, that it may take.
    """
    found = numba.njit(nogil=True, fastmath=set(fastmath) or False)(function)
    try:
        found.enable_caching()
    except RuntimeError:  # numba has no place for it
        if folder := own_folder():
            _enable_caching_in(folder, found)
    return found


@cache
def own_folder() -> str | None:
    """A folder that nobody else can write: whoever writes there has machine code of theirs run."""
    try:
        path = os.path.join(tempfile.gettempdir(), f"relu-sweeps-{os.geteuid()}")
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
    except OSError:
        return None
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return path if ours else None


def _enable_caching_in(folder: str, function: Any) -> None:
    before, CONFIG.CACHE_DIR = CONFIG.CACHE_DIR, folder
    try:
        with suppress(RuntimeError):
            function.enable_caching()
    finally:
        CONFIG.CACHE_DIR = before
