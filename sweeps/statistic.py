"""What a statistic is: a value with a name, parameters, outcomes, a sampler and, where there is one, a theory.

A statistic knows nothing of blocks, files, Ray or moments. Its `sample` gets a run of *networks*
(one per draw) that share every shape-fixing parameter, and returns one number (or one array over the
outcome's dims) per network and outcome. Everything random comes from `networks.normals` and its kin,
which are functions of (point, draw) alone; see docs/randomness.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from sweeps import randomness
from sweeps.witness import Witness

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["real", "proportion", "count"]


class Parameters(BaseModel):
    """Base of a statistic's parameters: one field a parameter, with its range, unit and meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


@dataclass(frozen=True)
class Dim:
    """A dimension of an outcome, as long as the parameter `length` says, numbered from `start`."""

    name: str
    length: str
    long_name: str
    start: int = 1


@dataclass(frozen=True)
class Outcome:
    """One measured quantity.

    `kind` decides the interval: `proportion` draws are 0 or 1 (Wilson), the others get a t interval.
    `bins` are the edges of a histogram kept beside the moments; values outside fall into the end bins.
    """

    name: str
    long_name: str
    kind: Kind = "real"
    units: str = "1"
    dims: tuple[Dim, ...] = ()
    bins: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Known:
    """Something known beforehand; `where` names the values of other parameters that it holds for."""

    where: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, hash=False, kw_only=True)

    def holds(self, values: Mapping[str, Collection[Any]]) -> bool:
        """Whether it does for some of the `values` that parameters have; of those not named it does for all."""
        return all(name not in values or set(given) & set(values[name]) for name, given in self.where.items())


@dataclass(frozen=True)
class Reference(Known):
    """A known value of a parameter to mark in a figure, such as a threshold."""

    parameter: str
    value: float
    label: str
    source: str


@dataclass(frozen=True)
class Curve(Known):
    """What an outcome tends to along one parameter, in a limit of the others, to draw beside what is measured.

    `parameter` may be another outcome: such a curve, a bound say, is drawn in figures of the one against the other.
    values(parameter) -> (len,) of a sorted float64 array (len,), NaN where it is not known.
    """

    outcome: str
    parameter: str
    label: str
    source: str
    values: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Points:
    """A run of grid points that share every shape-fixing parameter.

    `shared` holds one value a parameter; `varying` holds arrays of length `len(self)`.
    """

    shared: Mapping[str, Any]
    varying: Mapping[str, np.ndarray] = field(default_factory=dict)
    size: int = 1

    def __post_init__(self) -> None:
        wrong = {k: np.shape(v) for k, v in self.varying.items() if np.shape(v) != (self.size,)}
        if wrong:
            raise ValueError(f"varying parameters must have shape ({self.size},), got {wrong}")

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, name: str) -> Any:
        """The one value of a shape-fixing parameter."""
        return self.shared[name]

    def column(self, name: str) -> np.ndarray:
        """Any parameter as an array (points,)."""
        if name in self.varying:
            return self.varying[name]
        return np.full(self.size, self.shared[name])

    def point(self, i: int) -> dict[str, Any]:
        """All parameters of point `i` as plain Python values."""
        return {**self.shared, **{k: v[i].item() for k, v in self.varying.items()}}

    def take(self, index: np.ndarray) -> Points:
        """The points at `index`, repeats allowed."""
        return Points(self.shared, {k: v[index] for k, v in self.varying.items()}, len(index))


@dataclass(frozen=True)
class Networks:
    """A run of random networks, one per (point, draw): what a statistic samples at one launch.

    `points` has one row a network (points repeat); `keys` (networks,) uint64 are the points' stream keys and
    `draws` (networks,) uint64 the draws' indices at their points. `first_tensor` is added to the number of every tensor
    that `normals`, `normals_on` and `words` are asked for: `replace(networks, first_tensor=2**24)` are other networks
    of the same draws.
    """

    points: Points
    keys: np.ndarray
    draws: np.ndarray
    first_tensor: int = 0

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, name: str) -> Any:
        return self.points[name]

    def column(self, name: str) -> np.ndarray:
        return self.points.column(name)

    def normals(self, tensor: int, *shape: int) -> np.ndarray:
        """Standard normals, float32 (networks, *shape); `tensor` tells a network's tensors apart."""
        flat = randomness.normals(
            self.keys, self.draws, self.first_tensor + tensor, int(np.prod(shape, dtype=np.int64))
        )
        return flat.reshape(len(self), *shape)

    def normals_on(self, device: str, tensor: int, *shape: int) -> Tensor:
        """`normals` as a torch tensor made on `device`: the same bits, without a copy from the CPU to a GPU."""
        from sweeps import randomness_device  # torch, which takes seconds to import

        size = int(np.prod(shape, dtype=np.int64))
        flat = randomness_device.normals(self.keys, self.draws, self.first_tensor + tensor, size, device)
        return flat.view(len(self), *shape)

    def words(self, tensor: int, *shape: int) -> np.ndarray:
        """Uniform 32-bit words, uint32 (networks, *shape)."""
        flat = randomness.words(self.keys, self.draws, self.first_tensor + tensor, int(np.prod(shape, dtype=np.int64)))
        return flat.reshape(len(self), *shape)


Sampler = Callable[[Networks, str], Mapping[str, Any]]
Theory = Callable[[Points], Mapping[str, np.ndarray]]
Exact = Callable[[Points], Mapping[str, Any]]


@dataclass(frozen=True)
class Statistic:
    """A statistic as a value.

    sample(networks, device) -> {outcome: (networks, *dims)} numpy array or torch tensor; NaN marks an undefined draw.
    theory(points) -> {outcome: (points, *dims)}: closed forms or limits; NaN where there is none.
    exact(points) -> {outcome: truth values that broadcast to (points, *dims)}: where what `theory` gives, if it gives
        anything, is the mean of a draw at the point's own size, and no limit or approximation. Outcomes without an
        entry are nowhere exact.
    cost(parameters) -> seconds a draw on one CPU core, roughly; it sizes tiles and orders pilots, nothing else.
    lane(parameters) -> networks a launch, a function of shape-fixing parameters alone. Kernels whose last bits
        may depend on the batch shape (BLAS) must give it; launches are padded to it. None: the kernel treats each
        network by itself, and a launch may hold any number.
    gpu_lane: the same on a GPU, whose last bits are its own in any case. None: `lane`.
    memory(parameters) -> bytes a network needs during a launch.
    witness(networks) -> for a run of one network, two inputs with one output, or None where there are none.
    realised: parameters that a network meets only approximately, such as a ratio of whole numbers, each with
        (parameters) -> the value that it has.
    """

    name: str
    summary: str
    source: str
    parameters: type[Parameters]
    shape: frozenset[str]
    outcomes: tuple[Outcome, ...]
    sample: Sampler
    cost: Callable[[Any], float]
    memory: Callable[[Any], int]
    lane: Callable[[Any], int] | None = None
    gpu_lane: Callable[[Any], int] | None = None
    theory: Theory | None = None
    theory_note: str = ""
    exact: Exact | None = None
    references: tuple[Reference, ...] = ()
    curves: tuple[Curve, ...] = ()
    witness: Callable[[Networks], Witness | None] | None = None
    realised: Mapping[str, Callable[[Any], float]] = field(default_factory=dict, hash=False)

    def outcome(self, name: str) -> Outcome:
        return next(o for o in self.outcomes if o.name == name)

    @property
    def length_parameters(self) -> frozenset[str]:
        """Parameters that set the length of an outcome's dimension; they cannot be axes."""
        return frozenset(d.length for o in self.outcomes for d in o.dims)


def by_point(f: Callable[[Any], Mapping[str, Any]], parameters: type[Parameters]) -> Theory:
    """Lift a theory of one point to a run of points: `f(parameters) -> {outcome: value}`."""

    def lifted(points: Points) -> Mapping[str, np.ndarray]:
        rows: Sequence[Mapping[str, Any]] = [f(parameters(**points.point(i))) for i in range(len(points))]
        return {name: np.stack([np.asarray(row[name], dtype=np.float64) for row in rows]) for name in rows[0]}

    return lifted
