"""The values of an axis: a list, or a form that stands for one.

[64, 256]                       the values themselves
{ linspace = [0, 1, 11] }       start, stop, count: evenly spaced, both ends included
{ logspace = [1, 1000, 4] }     start, stop, count: evenly spaced in logarithm, both ends included
{ range = [2, 10, 2] }          first, last, step (1 unless given): whole numbers, both ends included
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator

from sweeps.errors import unknown

Value = bool | int | float | str
MAX_POINTS = 10**8
LARGEST = 2**63 - 1


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits, except in hexadecimal
        kind = type(value).__name__
        text = hex(value) if isinstance(value, int) else f"a {kind} with a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:60]} ... {text[-10:]}"


def _linspace(start: float, stop: float, count: int) -> list[float]:
    if not math.isfinite(stop - start):
        raise ValueError(f"linspace from {start:g} to {stop:g} is too wide for float64")
    span = max(abs(stop - start), abs(start), 1e-300)
    decimals = 14 - math.ceil(math.log10(span))
    inner = [round(float(v), decimals) + 0.0 for v in np.linspace(start, stop, count)]  # 0.1, not 0.09999999999999998
    return _with_ends(inner, start, stop)


def _with_ends(values: list[float], start: float, stop: float) -> list[float]:
    """The ends exactly as given: a point's numbers depend on its values to the last bit."""
    return [float(start), *values[1:-1], float(stop)] if len(values) > 1 else [float(start)]


def _logspace(start: float, stop: float, count: int) -> list[float]:
    if start <= 0 or stop <= 0:
        raise ValueError(f"logspace runs between two positive values, got {start:g} and {stop:g}")
    return _with_ends([float(f"{v:.14g}") for v in np.geomspace(start, stop, count)], start, stop)


def _range(first: int, last: int, step: int = 1) -> list[int]:
    if step == 0 or not all(isinstance(v, int) for v in (first, last, step)):
        raise ValueError(f"range takes whole numbers and a step other than 0, got {[first, last, step]}")
    if (last - first) * step < 0:
        raise ValueError(f"range never gets from {first} to {last} in steps of {step}; give a step of {-step}")
    return list(range(first, last + (1 if step > 0 else -1), step))


_FORMS = {"linspace": (_linspace, "[start, stop, count]"), "logspace": (_logspace, "[start, stop, count]")}
_FORMS["range"] = (_range, "[first, last] or [first, last, step], both ends included")  # type: ignore[assignment]


def _expand(form: Any) -> Any:
    """The list of values that `{ linspace = [...] }` and its kin stand for."""
    try:
        if isinstance(form, Mapping):
            return _expand_table(form)
        for place, value in enumerate(form):
            plain(value, f"value {place}")
        return form
    except OverflowError:
        raise ValueError(f"holds a number too large for float64: {shown(form)}") from None


def plain(value: Any, what: str) -> Value:
    """The value, if TOML has it as a plain one: its whole numbers have 64 bits."""
    if isinstance(value, int) and not -LARGEST - 1 <= value <= LARGEST:
        raise ValueError(f"{what} should be a whole number between -2^63 and 2^63 - 1, got {shown(value)}")
    if isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{what} should be a number, a text, or true or false, got {shown(value)}")


def _expand_table(form: Mapping[str, Any]) -> Any:
    if len(form) != 1:
        raise ValueError(f"give one of {', '.join(_FORMS)}, got {shown(dict(form))}")
    [(name, arguments)] = form.items()
    if name not in _FORMS:
        raise ValueError(str(unknown("kind of axis", name, _FORMS)))
    expand, usage = _FORMS[name]
    numbers = isinstance(arguments, list | tuple) and all(
        isinstance(a, int | float) and not isinstance(a, bool) and math.isfinite(a) for a in arguments
    )
    if not numbers or len(arguments) not in ((2, 3) if name == "range" else (3,)):
        raise ValueError(f"{name} takes {usage}, got {shown(arguments)}")
    if name != "range" and (arguments[2] != int(arguments[2]) or not 1 <= arguments[2] <= MAX_POINTS):
        raise ValueError(f"{name} takes a whole count between 1 and {MAX_POINTS}, got {shown(arguments[2])}")
    if name != "range":
        return expand(arguments[0], arguments[1], int(arguments[2]))
    first, last, step = (*arguments, 1)[:3]
    if step and abs((last - first) / step) > MAX_POINTS:
        raise ValueError(f"range has more than {MAX_POINTS} values, got {shown(arguments)}")
    return expand(*arguments)


Axis = Annotated[tuple[Value, ...], BeforeValidator(_expand)]
