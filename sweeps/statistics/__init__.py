"""The statistics: one module each. The folder is the registry; plugins join through entry points."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points

from sweeps.errors import unknown
from sweeps.statistic import Statistic


@cache
def names() -> tuple[str, ...]:
    """Every known statistic, built in or from the entry-point group `relu_sweeps.statistics`."""
    return tuple(sorted(_built_in() | {e.name for e in entry_points(group="relu_sweeps.statistics")}))


@cache
def get(name: str) -> Statistic:
    """The statistic called `name`; its module holds it as `STATISTIC`. A plugin cannot take a built-in's name.

    Raises:
        UnknownNameError: nobody has that name.
    """
    if name in _built_in():
        return importlib.import_module(f"{__name__}.{name}").STATISTIC
    for plugin in entry_points(group="relu_sweeps.statistics"):
        if plugin.name == name:
            return plugin.load()
    raise unknown("statistic", name, names())


def _built_in() -> set[str]:
    return {m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")}
