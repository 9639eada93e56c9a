"""The spec of a sweep: validated, canonical, fingerprinted. A TOML file and a Python value are the same thing.

Nothing here runs code from a spec: a spec names a statistic and gives plain values.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from sweeps import catalog, randomness, statistics
from sweeps.axes import MAX_POINTS, Axis, Value, plain, shown
from sweeps.budget import Budget
from sweeps.errors import SpecError, UnknownNameError, unknown
from sweeps.inputs.files import content
from sweeps.statistic import Parameters, Statistic
from sweeps.stopping import Until

MAX_POINTS_PER_BLOCK = 2**20
MAX_BLOCK_VALUES = 2**26  # numbers one block holds before they are reduced: 512 MiB of float64

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class StoreSettings(BaseModel):
    """Where the numbers go."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    url: str = Field(min_length=1, description="a local path, or a URL such as s3://bucket/path")


class TrackSettings(BaseModel):
    """Where the MLflow runs go."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    experiment: str = Field("sweeps", min_length=1, description="MLflow experiment")
    by: str | None = Field(None, description="axis along which the child runs are cut")
    uri: str | None = Field(None, description="tracking server; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db")


class Sweep(BaseModel):
    """One statistic on many random networks at every point of a grid.

    `fixed` is completed with the statistic's defaults; `axes` holds the values themselves, whatever form they
    were given in. The fingerprint covers all that decides the numbers and their layout, and not where they are
    computed, stored or tracked, nor the name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME, description="letters, digits, dot, dash and underscore; at most 100")
    statistic: str = Field(description="what is measured: see `sweeps statistics`")
    seed: int = Field(0, ge=0, lt=2**63, strict=True, description="seed of all randomness")
    draws: int = Field(
        ge=1, le=2**40, strict=True, description="random networks at every point; the most of them with `until`"
    )
    draws_per_batch: int = Field(256, ge=1, le=2**26, strict=True, description="unit of storage; changes no draw")
    points_per_block: int | None = Field(
        None,
        ge=1,
        le=MAX_POINTS_PER_BLOCK,
        strict=True,
        description="points of a tile; by default sized for blocks of seconds",
    )
    until: Until | None = Field(None, description="stop at a point once its interval is narrow enough")
    keep: Literal["moments", "draws"] = Field("moments", description="draws: store every draw beside the moments")
    precision: Literal["float32", "tf32"] = Field("float32", description="matrix products on a GPU")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one")
    axes: dict[str, Axis] = Field(description="a list, or linspace, logspace = [start, stop, count], or range")
    fixed: dict[str, Value] = Field(default_factory=dict, description="parameters held at one value")
    budget: Budget = Field(default_factory=lambda: Budget.model_validate({}), description="what it may spend")
    store: StoreSettings | None = Field(None, description="where the numbers go")
    track: TrackSettings = Field(default_factory=lambda: TrackSettings.model_validate({}), description="MLflow")

    @model_validator(mode="before")
    @classmethod
    def _batches(cls, data: Any) -> Any:
        """`batches = 16` is another way to say `draws = 16 * draws_per_batch`."""
        if not isinstance(data, Mapping) or "batches" not in data:
            return data
        data = dict(data)
        batches = data.pop("batches")
        if "draws" in data:
            raise ValueError(f"give draws or batches, not both; got draws = {data['draws']!r}, batches = {batches!r}")
        if not isinstance(batches, int) or isinstance(batches, bool) or batches < 1:
            raise ValueError(f"batches must be a whole number of at least 1, got {batches!r}")
        size = data.get("draws_per_batch", cls.model_fields["draws_per_batch"].default)
        return {**data, "draws": batches * size if isinstance(size, int) else batches}

    @field_validator("fixed", mode="before")
    @classmethod
    def _fixed_values_are_plain(cls, fixed: Any) -> Any:
        return {k: plain(v, f"fixed.{k}") for k, v in fixed.items()} if isinstance(fixed, Mapping) else fixed

    @field_validator("axes", mode="before")
    @classmethod
    def _axes_are_a_table(cls, axes: Any) -> Any:
        if not isinstance(axes, Mapping) or not axes:
            raise ValueError(f"axes must name at least one parameter to vary, got {shown(axes)}")
        for name, values in axes.items():
            if not isinstance(values, list | tuple | Mapping | np.ndarray):
                raise ValueError(
                    f"axes.{name} must be a list of values or a table such as {{ linspace = [0, 1, 5] }}; "
                    f"got {values!r}; one value alone belongs in [fixed]"
                )
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in axes.items()}

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        """Check every name and value against the statistic, and complete `fixed` with its defaults."""
        statistic = self.definition
        fields = statistic.parameters.model_fields
        for where, given in (("axes", self.axes), ("fixed", self.fixed)):
            for name in given:
                if name not in fields:
                    raise ValueError(f"{where}.{name}: {unknown(f'parameter of {self.statistic!r}', name, fields)}")
        for name in self.axes:
            if name in self.fixed:
                raise ValueError(f"{name} is given twice, in axes and in fixed = {self.fixed[name]!r}; keep one")
            if name in statistic.length_parameters:
                raise ValueError(
                    f"axes.{name}: {name} sets the length of a dimension of the result, which is one in all of a "
                    f"sweep; put one value in [fixed], such as the largest"
                )
        object.__setattr__(self, "axes", {k: _checked_axis(k, v, fields[k]) for k, v in self.axes.items()})
        fixed = {k: _checker(fields[k])(f"fixed.{k}", [v])[0] for k, v in self.fixed.items()}
        missing = [k for k, f in fields.items() if f.is_required() and k not in self.axes and k not in fixed]
        if missing:
            raise ValueError(
                f"parameter {missing[0]!r} of {self.statistic!r} has no value; give it in axes or in fixed"
            )
        defaults = {k: f.default for k, f in fields.items() if k not in self.axes and not f.is_required()}
        object.__setattr__(self, "fixed", {k: (defaults | fixed)[k] for k in fields if k in defaults or k in fixed})
        self._check_limits(statistic)
        self._check_until(statistic)
        self._check_combinations(statistic)
        return self

    def _check_limits(self, statistic: Statistic) -> None:
        if self.draws % self.draws_per_batch:
            whole = max(1, round(self.draws / self.draws_per_batch)) * self.draws_per_batch
            raise ValueError(
                f"draws must be a whole number of batches of draws_per_batch = {self.draws_per_batch}, "
                f"got {self.draws}; the nearest is {whole}"
            )
        if self.size > MAX_POINTS:
            lengths = " x ".join(str(len(v)) for v in self.axes.values())
            raise ValueError(
                f"axes: the grid has {lengths} = {self.size} points, over the limit of {MAX_POINTS}; cut it"
            )
        if (numbers := self.draws_per_batch * self.numbers_a_draw) > MAX_BLOCK_VALUES:
            raise ValueError(
                f"draws_per_batch = {self.draws_per_batch} makes blocks of {numbers} numbers, over the limit of "
                f"{MAX_BLOCK_VALUES}; at most {MAX_BLOCK_VALUES // self.numbers_a_draw} here"
            )
        if self.track.by is not None and self.track.by not in self.axes:
            raise ValueError(f"track.by: {unknown('axis', self.track.by, self.axes)}")

    def _check_until(self, statistic: Statistic) -> None:
        if self.until is None:
            return
        known = [o.name for o in statistic.outcomes]
        if self.until.outcome not in known:
            raise ValueError(f"until.outcome: {unknown('outcome', self.until.outcome, known)}")
        if self.until.min_draws > self.draws:
            raise ValueError(
                f"until.min_draws must be at most draws = {self.draws}, the most that a point may get, "
                f"got {self.until.min_draws}"
            )

    def _check_combinations(self, statistic: Statistic) -> None:
        """Rules between parameters hold at every combination of shape-fixing ones with the ends of the others."""
        tried = [v if k in statistic.shape else _ends(v) for k, v in self.axes.items()]
        for values in itertools.product(*tried):
            here = dict(zip(self.axes, values, strict=True))
            try:
                statistic.parameters(**self.fixed, **here)
            except ValidationError as error:
                at = ", ".join(f"{k} = {v!r}" for k, v in here.items())
                raise ValueError(f"{_first(error)[1]} (at {at})") from None

    @property
    def definition(self) -> Statistic:
        return statistics.get(self.statistic)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes, in their order."""
        return tuple(len(v) for v in self.axes.values())

    @property
    def numbers_a_draw(self) -> int:
        """Numbers a draw, over all outcomes and their dimensions."""
        outcomes = self.definition.outcomes
        return sum(math.prod(self.fixed[d.length] for d in o.dims) for o in outcomes)  # type: ignore[misc]

    @property
    def size(self) -> int:
        """Points of the grid."""
        return math.prod(self.shape)

    @property
    def batches(self) -> int:
        return self.draws // self.draws_per_batch

    def parameters_at(self, index: tuple[int, ...]) -> Parameters:
        """The parameters of the point at `index`, one position an axis."""
        here = {k: v[i] for (k, v), i in zip(self.axes.items(), index, strict=True)}
        return self.definition.parameters(**{**self.fixed, **here})

    def identity(self) -> dict[str, Any]:
        """All that decides the numbers; what the fingerprint covers. Parameters at their defaults are left out, so
        that a statistic may gain one; and so are the size of a tile and the order of values, which a store settles
        when it is created and extended."""
        fields = self.definition.parameters.model_fields
        defaults = {k: f.default for k, f in fields.items() if not f.is_required()}
        return {
            "rule": randomness.RULE,
            "statistic": self.statistic,
            "seed": self.seed,
            "draws": self.draws,
            "draws_per_batch": self.draws_per_batch,
            "precision": self.precision,
            **({"keep": self.keep} if self.keep != "moments" else {}),
            **({f"until.{k}": v for k, v in self.until.model_dump().items()} if self.until else {}),
            "order of axes": list(self.axes),
            **{f"axes.{k}": sorted(map(content, v)) for k, v in self.axes.items()},
            **{f"fixed.{k}": content(v) for k, v in self.fixed.items() if v != defaults.get(k)},
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the canonical form of `identity()`: 64 hexadecimal digits."""
        return hashlib.sha256(randomness.canonical(self.identity()).encode()).hexdigest()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Sweep:
        """A sweep from plain data, as a TOML file holds it.

        Raises:
            SpecError: the first thing wrong, with its field, its value and what would be right.
        """
        unknown_keys = [k for k in data if k not in cls.model_fields and k != "batches"]
        if unknown_keys:
            raise unknown("key", unknown_keys[0], [*cls.model_fields, "batches"])
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            where, message = _first(error)
            named = not where or message.startswith(where)
            raise SpecError(message if named else f"{where}: {message}") from None

    @classmethod
    def from_toml(cls, path: str | Path) -> Sweep:
        """Read a spec from a file, or, where there is no such file, from the catalog by name.

        Raises:
            SpecError: no such file or name, or it is not TOML, or no valid spec; the message begins with the path.
        """
        try:
            return cls.of(_tables(path))
        except UnknownNameError as error:
            raise UnknownNameError(f"{path}: {error}") from None
        except SpecError as error:
            raise SpecError(f"{path}: {error}") from None

    def to_json(self) -> str:
        """The whole spec; `Sweep.of(json.loads(...))` gives it back."""
        return self.model_dump_json()


def _tables(path: str | Path) -> dict[str, Any]:
    try:
        known = not Path(path).exists() and str(path) in catalog.names()
        text = catalog.text(str(path)) if known else Path(path).read_text(encoding="utf-8-sig")
        return tomllib.loads(text)
    except OSError as error:
        if Path(path).parent == Path() and not Path(path).suffix:
            raise unknown("file or catalog sweep", str(path), catalog.names()) from None
        names = ", ".join(catalog.names())
        raise SpecError(f"{error.strerror}; give the path of a TOML file, or a catalog name: {names}") from None
    except UnicodeDecodeError:
        raise SpecError("not UTF-8 text, so not TOML") from None
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and tables thousands deep
        raise SpecError(f"not valid TOML: {error}") from None


def _ends(values: Sequence[Value]) -> Sequence[Value]:
    """The least and the greatest of numbers; all of anything else."""
    numeric = not isinstance(values[0], str | bool)
    return sorted({min(values), max(values)}) if numeric else values  # type: ignore[type-var]


def _first(error: ValidationError) -> tuple[str, str]:
    """(field, message) of the first error, the message with the value and what would be right."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])  # a typo explains what is missing
    parts = [str(p) for p in first["loc"] if str(p) not in {"function-before[_expand()]", "tuple"}]
    where = ".".join(parts)
    if first["type"] == "value_error":
        return where, str(first.get("ctx", {})["error"])
    if first["type"] == "extra_forbidden":
        return ".".join(parts[:-1]), str(unknown("key", parts[-1], _keys_beside(parts)))
    if first["type"] == "missing":
        return where, "is missing"
    return where, f"{_sentence(first['msg'])}, got {shown(first['input'])}"


def _keys_beside(parts: list[str]) -> list[str]:
    tables: dict[str, type[BaseModel]] = {
        "store": StoreSettings,
        "track": TrackSettings,
        "until": Until,
        "budget": Budget,
    }
    return list(tables.get(parts[0], Sweep).model_fields)


def _sentence(message: str) -> str:
    """Pydantic's `Input should be ...` without its subject, which we name."""
    return message.removeprefix("Input ").removeprefix("String ")


def _checker(field: FieldInfo) -> Callable[[str, Sequence[Any]], tuple[Any, ...]]:
    """check(where, values) -> the values as the field's type, or a ValueError that says what would be right."""
    adapter = TypeAdapter(
        tuple[Annotated[field.annotation, None, *field.metadata], ...],  # type: ignore[valid-type]
        config=ConfigDict(allow_inf_nan=False, strict=True),
    )

    def check(where: str, values: Sequence[Any]) -> tuple[Any, ...]:
        try:
            return adapter.validate_python(tuple(map(_whole, values)) if field.annotation is int else tuple(values))
        except ValidationError as error:
            first = error.errors()[0]
            place, value = where.replace("[]", f"[{first['loc'][0]}]"), values[int(first["loc"][0])]
            if first["type"] == "value_error":
                raise ValueError(f"{place}: {first.get('ctx', {})['error']}") from None
            raise ValueError(f"{place} {_sentence(first['msg'])}, got {shown(value)}") from None

    return check


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and math.isfinite(value) and value == int(value) else value


def _checked_axis(name: str, values: tuple[Any, ...], field: FieldInfo) -> tuple[Any, ...]:
    if not values:
        raise ValueError(f"axes.{name} is empty; give it at least one value")
    checked = _checker(field)(f"axes.{name}[]", values)
    contents = [content(v) for v in checked]
    if len(set(contents)) < len(checked):
        seen: dict[Any, int] = {}
        for i, v in enumerate(contents):
            if v in seen:
                raise ValueError(f"axes.{name} has {v!r} twice, at positions {seen[v]} and {i}; values must differ")
            seen[v] = i
    return checked
