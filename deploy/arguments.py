"""What the command line's texts stand for: values of an axis, limits of a budget, quantiles."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from sweeps.budget import Budget
from sweeps.errors import SpecError


def more_values(texts: Iterable[str]) -> dict[str, Any]:
    """`width=48,96` as {"width": [48, 96]}; a list or a form such as { linspace = [0, 1, 5] } is read as in TOML.

    Raises:
        SpecError: a text is not of that form, or an axis comes twice.
    """
    found: dict[str, Any] = {}
    for name, values in map(_more, texts):
        if name in found:
            raise SpecError(f"--axis {name} is given twice; give all its values at once: {name}=a,b")
        found[name] = values
    return found


def _more(text: str) -> tuple[str, Any]:
    name, equals, values = (part.strip() for part in text.partition("="))
    if not (name and equals and values):
        raise SpecError(f"--axis reads name=values, such as width=48,96, got {text!r}")
    if values.startswith(("[", "{")):
        try:
            return name, tomllib.loads(f"values = {values}")["values"]
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"--axis {name}: {values!r} is not TOML: {error}") from None
    return name, [_value(part.strip()) for part in values.split(",")]


def _value(text: str) -> Any:
    """A number or a truth value where TOML sees one, else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def fractions(option: str, text: str) -> list[float]:
    """`0.05,0.5` as numbers.

    Raises:
        SpecError: they are none.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise SpecError(f"{option} reads numbers such as 0.05,0.5,0.95, got {text!r}") from None


def larger(budget: Budget, max_time: str | None, max_gpu_hours: float | None, max_draws: int | None) -> Budget:
    """The budget with the limits that are given in the place of its own.

    Raises:
        SpecError: a limit is not above 0, or the time not one.
    """
    time: Any = float(max_time) if max_time is not None and _is_number(max_time) else max_time
    given = {"max_time": time, "max_gpu_hours": max_gpu_hours, "max_draws": max_draws}
    try:
        return Budget.model_validate(budget.model_dump() | {k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        wrong = f"{first['msg'].removeprefix('Input ')}, got {first['input']!r}"
        raise SpecError(f"{option} {first.get('ctx', {}).get('error', wrong)}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
