"""Settings of the places where sweeps run: which there are, and where each one comes from.

A setting is asked for in four places, and the first that has it counts: an option of the command line
(`--nodes 4`, or `--set slurm.partition=gpu`), the environment (`SWEEPS_SLURM_PARTITION`), a file `sweeps.toml` in the
working directory or else `~/.config/relu-sweeps/sweeps.toml` (one table a section, never both files), and the default.
Where others have a name for a setting already, such as MLFLOW_TRACKING_URI, that one is the environment's.
No setting is a secret, so none may be written down where it could be read: those stay Ray's, MLflow's and the
object store's own, in the environment. `sweeps settings` prints all of it, secrets masked.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from sweeps.errors import SpecError, unknown

FILE = "sweeps.toml"
SECTIONS = {
    "cluster": "deploy.base_settings:Cluster",
    "tracking": "deploy.base_settings:Tracking",
    "log": "deploy.base_settings:Log",
    "slurm": "deploy.slurm.settings:Slurm",
    "kuberay": "deploy.kuberay.settings:Kuberay",
}
EVERYWHERE = ("cluster", "tracking", "log")  # read from the environment, where they are needed
DEFAULT = "default"


class Section(BaseModel):
    """The settings of one place; every field has a description, and a default or it is required."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    @classmethod
    def others_call(cls, field: str) -> str:
        """The environment variable of another program that is this setting; empty where there is none."""
        return ""


@dataclass(frozen=True)
class Setting:
    """A value and its source, in words: `--nodes`, `SWEEPS_SLURM_NODES`, the path of a file, or `default`."""

    name: str
    value: Any
    source: str


def matching(pattern: re.Pattern[str], what: str) -> AfterValidator:
    """For the type of a field, whose texts are all of one form; `what` says of it what a wrong one is not."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(what)
        return text

    return AfterValidator(check)


def names() -> list[str]:
    return list(SECTIONS)


def section(name: str) -> type[Section]:
    """The model of a section's settings.

    Raises:
        UnknownNameError: there is no such section.
    """
    if name not in SECTIONS:
        raise unknown("section of settings", name, SECTIONS)
    module, _, model = SECTIONS[name].partition(":")
    return getattr(import_module(module), model)


def resolve(name: str, options: Mapping[str, Any] | None = None, more: Iterable[str] = ()) -> Section:
    """The settings of a section: `options` by field (None is not given), `more` as `slurm.partition=gpu`.

    Raises:
        SpecError: a setting is unknown or wrong; the message names it, its source and its value.
    """
    return _checked(name, found(name, options, more))


def found(name: str, options: Mapping[str, Any] | None = None, more: Iterable[str] = ()) -> list[Setting]:
    """Every setting of a section with its source, unchecked; required ones that nobody gave are left out.

    Raises:
        SpecError: one is given that does not exist, or the file cannot be read.
    """
    fields = section(name).model_fields
    given: dict[str, Setting] = {}
    for setting in _from_file(name) + _from_environment(name) + _from_options(name, options or {}, more):
        if setting.name not in fields:
            raise SpecError(f"{setting.source}: {unknown(f'setting of {name}', setting.name, fields)}")
        given[setting.name] = setting
    defaults = {n: Setting(n, f.get_default(call_default_factory=True), DEFAULT) for n, f in fields.items()}
    return [given.get(n, defaults[n]) for n, f in fields.items() if n in given or not f.is_required()]


def file() -> Path | None:
    """The file that counts, if there is one."""
    places = (Path(FILE), Path.home() / ".config" / "relu-sweeps" / FILE)
    return next((path for path in places if path.is_file()), None)


def _checked(name: str, settings: list[Setting]) -> Section:
    sources = {s.name: s.source for s in settings}
    try:
        return section(name).model_validate({s.name: s.value for s in settings if s.source != DEFAULT})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or name
        top = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "missing" and top not in sources:
            raise SpecError(f"{name}.{field} is not given; {ways(name, field)}") from None
        why = first.get("ctx", {}).get("error", first["msg"].removeprefix("Input "))
        place = f" (from {sources[top]})" if top in sources else ""
        raise SpecError(f"{name}.{field}{place} {why}, got {first['input']!r}") from None


def ways(name: str, field: str) -> str:
    """How a setting can be given, in words."""
    return f"use --set {name}.{field}=..., {variable(name, field)}, or {field} in [{name}] of {FILE}"


def variable(name: str, field: str) -> str:
    return section(name).others_call(field) or f"SWEEPS_{name}_{field}".upper()


def into_environment() -> None:
    """What the file says of settings that are read from variables, as these variables, where they are not set.

    Raises:
        SpecError: the file cannot be read, has a secret, or a setting is wrong.
    """
    for name in EVERYWHERE if file() else ():
        for setting in _from_file(name):
            if setting.name in section(name).model_fields and not os.environ.get(variable(name, setting.name)):
                os.environ[variable(name, setting.name)] = str(setting.value)
    for name in EVERYWHERE:
        resolve(name)


def _from_options(name: str, options: Mapping[str, Any], more: Iterable[str]) -> list[Setting]:
    settings = []
    for text in more:
        key, equals, value = (part.strip() for part in text.partition("="))
        place, dot, field = key.partition(".")
        if not (equals and dot and field):
            raise SpecError(f"--set reads section.setting=value, such as slurm.partition=gpu, got {text!r}")
        section(place)
        if place != name:
            raise SpecError(f"--set {key} is a setting of {place}, and here those of {name} count")
        settings.append(Setting(field, _value(value), f"--set {key}"))
    named = [Setting(k, v, "--" + k.replace("_", "-")) for k, v in options.items() if v is not None]
    return settings + named


def _from_environment(name: str) -> list[Setting]:
    fields = section(name).model_fields
    there = [(field, variable(name, field)) for field in fields if os.environ.get(variable(name, field))]
    return [Setting(field, _value(os.environ[known]), known) for field, known in there]


def _from_file(name: str) -> list[Setting]:
    path = file()
    if path is None:
        return []
    _refuse_of_others(path)
    try:
        held = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{path}: {error}") from None
    for table in held:
        if table not in SECTIONS:
            raise SpecError(f"{path}: {unknown('section of settings', table, SECTIONS)}")
    values = held.get(name, {})
    if not isinstance(values, dict):
        raise SpecError(f"{path}: [{name}] is a table of settings, got {values!r}")
    for field, value in values.items():
        if section(name).others_call(field) and any(mark in str(value) for mark in "@?#"):
            raise SpecError(
                f"{path}: {name}.{field} has an '@', a '?' or a '#', so perhaps a secret, which belongs in the "
                f"environment: set {variable(name, field)}"
            )
    return [Setting(field, value, str(path)) for field, value in values.items()]


def _refuse_of_others(path: Path) -> None:
    """Whoever can write the file says where passwords are sent, and which shell is run."""
    known = path.stat()
    if known.st_uid not in (0, os.getuid()) or known.st_mode & stat.S_IWOTH:
        whose = f"uid {known.st_uid}, mode {stat.S_IMODE(known.st_mode):o}"
        raise SpecError(f"{path} can be written by others ({whose}); it has to be yours, chmod o-w")


def _value(text: str) -> Any:
    """A list or a table as in TOML; anything else is left to the field's type."""
    if text.startswith(("[", "{")):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text
