"""How a sweep lies in a Zarr group: pieces, arrays, dims, dtypes, chunks, attributes. Pure; no I/O.

    zarr.json                 the spec, its fingerprint, its pieces; what made it
    extension-<n>/zarr.json   the same after the n-th extension
    piece-<i>/                a box of the grid that was laid out at once:
        <outcome>             (*axes, batch, *dims, moment)  float64   chunk = tile x 1 batch
        <outcome>_histogram   (*axes, batch, *dims, bin)     int64     likewise
        <outcome>_draws       (*axes, batch, *dims, draw)    float64   likewise, with `keep = "draws"`
        commit                (*tiles, batch)                string    one chunk a block: its receipt, written last
        <axis>, moment, <dim>, <outcome>_bin_left, <outcome>_bin_right         coordinates

A block owns one chunk of each, so no two writers ever share one, and a chunk once committed is not written again:
more draws make the batch dimension longer, more values make new pieces.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from sweeps import randomness
from sweeps.blocks import Piece, Plan, settled, slowest
from sweeps.errors import SpecError
from sweeps.moments import FIELDS
from sweeps.statistic import Outcome
from sweeps.sweep import Sweep

COMMIT = "commit"
ATTRIBUTE = "relu_sweeps"
LAYOUT = 1


@dataclass(frozen=True)
class ArrayLayout:
    """One array of the group. `values` are written at creation (coordinates); None is filled by blocks."""

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    fill: Any
    attributes: Mapping[str, Any] = field(default_factory=dict)
    values: np.ndarray | None = None


def arrays(sweep: Sweep, cut: Plan, piece: Piece) -> tuple[ArrayLayout, ...]:
    """The arrays of a piece.

    Raises:
        SpecError: an axis, a dimension and an outcome, or what is derived from one, would share a name.
    """
    found = [*coordinates(sweep, piece), _commit(sweep, cut, piece)]
    for outcome in sweep.definition.outcomes:
        found.append(_moments(sweep, cut, piece, outcome))
        if outcome.bins is not None:
            found += _histogram(sweep, cut, piece, outcome, outcome.bins)
        if sweep.keep == "draws":
            found.append(_draws(sweep, cut, piece, outcome))
    _refuse_clashes(sweep, [a.name for a in found] + RESERVED)
    return tuple(found)


RESERVED = ["batch", "draw", "converged"]  # dims without coordinates, and what `open_sweep` adds to an `until`
DERIVED = ("std", "sem", "ci_low", "ci_high", "n", "undefined", "min", "max", "theory", "z")  # shown by `open_sweep`


def _refuse_clashes(sweep: Sweep, stored: list[str]) -> None:
    shown = stored + [f"{o.name}_{suffix}" for o in sweep.definition.outcomes for suffix in DERIVED]
    twice = sorted({name for name in shown if shown.count(name) > 1})
    if twice:
        raise SpecError(
            f"{sweep.statistic!r} uses the name {twice[0]!r} twice, for a parameter, a dimension or an outcome"
        )


def attributes(sweep: Sweep, cut: Plan) -> dict[str, Any]:
    """What the group says of itself: the spec, its fingerprint and pieces, and what made it."""
    return {
        "title": sweep.name,
        "source": sweep.definition.source,
        ATTRIBUTE: {
            "layout": LAYOUT,
            "rule": randomness.RULE,
            "fingerprint": sweep.fingerprint,
            "spec": stored_spec(sweep),
            "pieces": [dataclasses.asdict(piece) for piece in cut.pieces],
            "versions": versions(),
        },
    }


def stored_plan(sweep: Sweep, pieces: list[dict[str, Any]]) -> Plan:
    """The plan of a stored sweep from the pieces in its attributes."""
    found = tuple(Piece(**{k: tuple(v) for k, v in piece.items()}) for piece in pieces)
    return Plan(found, slowest(sweep), sweep.batches)


def piece_name(index: int) -> str:
    return f"piece-{index}"


def stored_spec(sweep: Sweep) -> dict[str, Any]:
    """The spec as a store keeps it: with its tiles settled, without its own place, and without a tracking server's
    URI that could carry a secret. A store is what people share."""
    spec = json.loads(settled(sweep).to_json())
    del spec["store"]
    if sweep.track.uri is not None and may_be_secret(sweep.track.uri):
        spec["track"]["uri"] = None
    return spec


def may_be_secret(uri: str) -> bool:
    """Whether a tracking URI could carry a password or a token; where one ends is not asked, it need not be quoted."""
    return any(mark in uri for mark in "@?#")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that could matter to a number."""
    found = {"python": platform.python_version()}
    for package in ("relu-sweeps", "torch", "numpy", "scipy", "numba", "zarr"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def lengths(sweep: Sweep, outcome: Outcome) -> tuple[int, ...]:
    """Lengths of an outcome's own dimensions."""
    return tuple(int(sweep.fixed[d.length]) for d in outcome.dims)


def histogram_name(outcome: str) -> str:
    return f"{outcome}_histogram"


def draws_name(outcome: str) -> str:
    return f"{outcome}_draws"


def coordinates(sweep: Sweep, piece: Piece | None = None) -> list[ArrayLayout]:
    """Of a piece, or of the whole grid."""
    fields = sweep.definition.parameters.model_fields
    found: dict[str, ArrayLayout] = {}
    for axis, (name, values) in enumerate(sweep.axes.items()):
        if piece is not None:
            values = values[piece.origin[axis] : piece.origin[axis] + piece.shape[axis]]
        extra = fields[name].json_schema_extra
        units = extra.get("unit", "1") if isinstance(extra, dict) else "1"
        found[name] = _coordinate(name, np.asarray(values), long_name=fields[name].description or name, units=units)
    found["moment"] = _coordinate("moment", np.asarray(FIELDS), long_name="moment of the draws of a batch")
    for outcome in sweep.definition.outcomes:
        for dim, length in zip(outcome.dims, lengths(sweep, outcome), strict=True):
            found[dim.name] = _coordinate(dim.name, dim.start + np.arange(length), long_name=dim.long_name)
    return list(found.values())


def _coordinate(name: str, values: np.ndarray, **attributes: Any) -> ArrayLayout:
    dtype = "str" if values.dtype.kind == "U" else str(values.dtype)
    fill = {"f": np.nan, "U": "", "b": False}.get(values.dtype.kind, 0)
    return ArrayLayout(name, values.shape, values.shape, dtype, (name,), fill, attributes, values)


def _moments(sweep: Sweep, cut: Plan, piece: Piece, outcome: Outcome) -> ArrayLayout:
    own = lengths(sweep, outcome)
    return ArrayLayout(
        outcome.name,
        (*piece.shape, cut.batches, *own, len(FIELDS)),
        (*piece.tile, 1, *own, len(FIELDS)),
        "float64",
        (*sweep.axes, "batch", *(d.name for d in outcome.dims), "moment"),
        np.nan,
        {"long_name": outcome.long_name, "units": outcome.units, "kind": outcome.kind},
    )


def _draws(sweep: Sweep, cut: Plan, piece: Piece, outcome: Outcome) -> ArrayLayout:
    own = lengths(sweep, outcome)
    return ArrayLayout(
        draws_name(outcome.name),
        (*piece.shape, cut.batches, *own, sweep.draws_per_batch),
        (*piece.tile, 1, *own, sweep.draws_per_batch),
        "float64",
        (*sweep.axes, "batch", *(d.name for d in outcome.dims), "draw"),
        np.inf,
        {"long_name": f"draws of {outcome.long_name}", "units": outcome.units},
    )


def _histogram(sweep: Sweep, cut: Plan, piece: Piece, outcome: Outcome, bins: tuple[float, ...]) -> list[ArrayLayout]:
    own, dim = lengths(sweep, outcome), f"{outcome.name}_bin"
    counts = ArrayLayout(
        histogram_name(outcome.name),
        (*piece.shape, cut.batches, *own, len(bins) - 1),
        (*piece.tile, 1, *own, len(bins) - 1),
        "int64",
        (*sweep.axes, "batch", *(d.name for d in outcome.dims), dim),
        -1,
        {"long_name": f"draws by {outcome.long_name}", "units": "1"},
    )
    return [counts, *bin_edges(outcome, bins)]


def bin_edges(outcome: Outcome, bins: tuple[float, ...]) -> list[ArrayLayout]:
    """Coordinates that say what a bin of an outcome's histogram holds."""
    edges, dim = np.asarray(bins, dtype=np.float64), f"{outcome.name}_bin"
    return [
        ArrayLayout(
            f"{dim}_{side}",
            values.shape,
            values.shape,
            "float64",
            (dim,),
            np.nan,
            {"long_name": f"{side} edge of a bin of {outcome.long_name}", "units": outcome.units},
            values,
        )
        for side, values in (("left", edges[:-1]), ("right", edges[1:]))
    ]


def _commit(sweep: Sweep, cut: Plan, piece: Piece) -> ArrayLayout:
    shape = (*piece.tiles, cut.batches)
    dims = (*(f"{name}_tile" for name in sweep.axes), "batch")
    return ArrayLayout(
        COMMIT,
        shape,
        (1,) * len(shape),
        "str",
        dims,
        "",
        {"long_name": "receipt of a committed block, as JSON; empty where none"},
    )
