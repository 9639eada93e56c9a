"""Making a sweep larger: more draws, a tighter halfwidth, more values on an axis; and what that adds to its plan.

New values come after those that were there, so positions along an axis never change. What they add to a grid is
cut into one box an axis: its new values, the old values of the axes before it, and all values of the axes after it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sweeps.axes import Axis
from sweeps.blocks import Piece, Plan, check_size, piece
from sweeps.errors import RefusedError, SpecError, unknown
from sweeps.inputs.files import content
from sweeps.sweep import Sweep


def grown(
    stored: Sweep, draws: int | None = None, halfwidth: float | None = None, axes: Mapping[str, Any] | None = None
) -> Sweep:
    """The stored sweep with more of something; values that an axis has already are left where they are.

    Raises:
        SpecError: a value is not one of the parameter's, or no such axis, or the sweep has no `until`.
    """
    data = _data(stored)
    if draws is not None:
        data["draws"] = draws
    if halfwidth is not None:
        if stored.until is None:
            raise SpecError("the sweep has a fixed number of draws and no until.halfwidth; give it more draws")
        data["until"]["halfwidth"] = halfwidth
    for name, form in (axes or {}).items():
        if name not in stored.axes:
            raise unknown("axis", name, stored.axes)
        data["axes"][name] = _expanded(name, form)
    wanted = Sweep.of(data)
    for name in axes or {}:
        data["axes"][name] = _after(stored.axes[name], wanted.axes[name])
    return Sweep.of(data)


def extended(stored: Sweep, wanted: Sweep) -> Sweep:
    """The wanted sweep with its values in the order of the stored one, which it must hold whole.

    Raises:
        RefusedError: it is less than the stored one somewhere, or another sweep; with the difference.
    """
    may = {"draws", "until.halfwidth", *(f"axes.{name}" for name in stored.axes)}
    if apart := difference(stored, wanted, but=may):
        raise RefusedError(f"an extension only adds draws, values and precision: {apart}")
    if wanted.draws < stored.draws:
        raise RefusedError(f"draws: the store has {stored.draws}, an extension cannot go back to {wanted.draws}")
    if stored.until and wanted.until and wanted.until.halfwidth > stored.until.halfwidth:
        there, here = stored.until.halfwidth, wanted.until.halfwidth
        raise RefusedError(f"until.halfwidth: the store has {there:g}, an extension cannot go back to {here:g}")
    for name, values in stored.axes.items():
        kept = set(wanted.axes[name])
        if lost := [v for v in values if v not in kept]:
            raise RefusedError(f"axes.{name} lacks {lost[0]!r}, which the store holds; an extension only adds values")
    data = _data(wanted)
    data["axes"] = {name: _after(values, wanted.axes[name]) for name, values in stored.axes.items()}
    data["points_per_block"] = stored.points_per_block
    return Sweep.of(data)


def extended_plan(cut: Plan, stored: Sweep, larger: Sweep) -> Plan:
    """The plan of the stored sweep, with a piece for every axis that has new values, and all batches.

    Raises:
        SpecError: too many blocks.
    """
    pieces = list(cut.pieces)
    names = list(stored.axes)
    for axis, name in enumerate(names):
        if len(larger.axes[name]) > len(stored.axes[name]):
            pieces.append(_box(stored, larger, axis))
    plan = Plan(tuple(pieces), cut.slowest, larger.batches)
    check_size(plan, larger)
    return plan


def _box(stored: Sweep, larger: Sweep, axis: int) -> Piece:
    """What new values of an axis add, beyond what the axes before it do."""
    data, origin = _data(larger), [0] * len(stored.axes)
    data["points_per_block"] = None
    for i, (name, old) in enumerate(stored.axes.items()):
        if i < axis:
            data["axes"][name] = list(old)
        elif i == axis:
            data["axes"][name] = list(larger.axes[name][len(old) :])
            origin[i] = len(old)
    return piece(Sweep.of(data), tuple(origin))


def difference(stored: Sweep, given: Sweep, but: Collection[str] = ()) -> str:
    """Where two sweeps differ, in words; empty where they do not."""
    old, new = (
        {**s.identity(), "keep": s.keep, **{f"fixed.{k}": content(v) for k, v in s.fixed.items()}}
        for s in (stored, given)
    )
    pairs = ((key, old.get(key), new.get(key)) for key in {**old, **new} if key not in but)
    return "; ".join(f"{key} is {_short(a)} there, {_short(b)} here" for key, a, b in pairs if a != b)


def _short(value: Any) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:40]} ... {text[-16:]}"


def _data(sweep: Sweep) -> dict[str, Any]:
    return json.loads(sweep.to_json())


def _after(old: tuple, new: tuple) -> list:
    """The old values, then those that are new."""
    known = set(map(content, old))
    return [*old, *(v for v in new if content(v) not in known)]


def _expanded(name: str, form: Any) -> list:
    try:
        return list(TypeAdapter(Axis).validate_python(form))
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(f"axes.{name}: {first.get('ctx', {}).get('error', first['msg'])}") from None
