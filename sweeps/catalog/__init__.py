"""Ready sweeps, runnable by name: `sweeps run angle-photos`. Each is a .toml file beside this one."""

from __future__ import annotations

from importlib.resources import files

from sweeps.errors import unknown


def names() -> tuple[str, ...]:
    return tuple(sorted(f.name.removesuffix(".toml") for f in files(__name__).iterdir() if f.name.endswith(".toml")))


def text(name: str) -> str:
    """The TOML text of a catalog sweep.

    Raises:
        UnknownNameError: no sweep of that name.
    """
    if name not in names():
        raise unknown("catalog sweep", name, names())
    return files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
