"""Every error a user can cause, in one hierarchy; each also is the builtin a caller would catch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SweepsError(Exception):
    """A user's mistake or an outside failure, told in one line; the command line exits with 2."""


class SpecError(SweepsError, ValueError):
    """A spec names a field that is wrong; the message says the field, the value and what would be right."""


class LostFileError(SpecError):
    """A user's file that a spec names is not there any more, or has changed."""


class UnknownNameError(SpecError, LookupError):
    """A name nobody knows; the message suggests the nearest known one."""


class StoreError(SweepsError, OSError):
    """A store cannot be read or written, or holds something else."""


class NoStoreError(StoreError, FileNotFoundError):
    """There is no store at a place."""


class RefusedError(SweepsError, RuntimeError):
    """A request is understood but would lose or mix results."""


class LaunchMemoryError(SweepsError, MemoryError):
    """A launch does not fit the device's memory, which trying again cannot change; the message says what it needs."""


class NotInjectiveError(SweepsError, ValueError):
    """An output does not tell its input; the message says how many rows are active and what dimension is lost."""


class NotInRangeError(SweepsError, ValueError):
    """No input has an output; the message says by how much."""


class OutsideError(SweepsError, ValueError):
    """0, or the domain, is not inside what the rows of a layer span, so that no facet's cone holds some inputs."""


def in_one_line(error: BaseException) -> str:
    """`ValueError: what it says`, the last line of it, for an event or a log."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1][:500]}"


def unknown(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """`unknown("axis", "widht", ["width"])` says: unknown axis 'widht'; did you mean 'width'? known: width."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UnknownNameError(f"unknown {kind} {name!r}; {hint}known: {', '.join(names) or 'none'}")
