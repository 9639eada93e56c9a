"""Energy profile of the first layer of trained convolutional networks, beside what linear theory says.

A draw is a network, trained by stochastic gradients from its own random weights. Its profile e_i is how much its
first-layer filters moved along the i-th principal component of the training images' patches; see
sweeps.networks.profiles. Chowers, Weiss, "What do CNNs Learn in the First Layer and Why? A Linear Systems Perspective",
ICML 2023 (arXiv 2206.02454). They find it to be much the same for all seeds, widths, architectures and even for random
labels, and near to one curve of one parameter; laws and curve are in sweeps.theory.first_layer.

Patches lie inside the images, at stride 1; images are standardised channel by channel over the training examples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from sweeps.inputs import labelled
from sweeps.inputs.patches import Basis
from sweeps.inputs.user_images import UserImages
from sweeps.networks.architecture import gpu_lane, lane_within
from sweeps.networks.lessons import check_epochs
from sweeps.networks.profiles import squared_energies
from sweeps.networks.small_cnns import SmallCnn
from sweeps.statistic import Dim, Networks, Outcome, Parameters, Points, Statistic, by_point
from sweeps.statistics import _first_layer
from sweeps.theory import first_layer as theory

LIMIT = 2**32  # bytes one network may need

Architecture = Literal["linear", SmallCnn]
Labels = Literal["classes", "permuted", "deciles", "planted"]


class FirstLayerParameters(Parameters):
    """One network, how it is trained, and the one that it is compared with."""

    architecture: Architecture = Field(
        "cnn", description="linear (convolution, global average pool, sum), cnn, a small vgg or a small resnet"
    )
    width: int = Field(8, ge=1, le=2**14, description="filters K of the first layer", json_schema_extra={"unit": "1"})
    patch: Literal[3, 5, 7] = Field(
        3, description="side p of the first layer's filters", json_schema_extra={"unit": "pixel"}
    )
    data: labelled.Data = Field("digits", description="labelled images, of which four fifths are trained on")
    path: UserImages = Field("", description='images with labels, for data = "file": IDX, CIFAR-10, .npy or folders')
    examples: int = Field(
        0, ge=0, description="labelled images taken, of all that there are; 0: all", json_schema_extra={"unit": "1"}
    )
    labels: Labels = Field(
        "classes",
        description="the images' classes, these permuted, deciles of the energy along `component`; or, for linear, "
        "planted: an average patch's part along `component`",
    )
    label_noise: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of training labels drawn anew at random; of the variance of planted labels the noise's",
        json_schema_extra={"unit": "1"},
    )
    component: int = Field(
        1,
        ge=1,
        le=2**14,
        description="the principal component that deciles, planted labels and component_gain are about",
        json_schema_extra={"unit": "index"},
    )
    component_gain: float = Field(
        1.0,
        ge=0,
        le=1000,
        description="images are filtered so that what looks like `component` is so much stronger",
        json_schema_extra={"unit": "1"},
    )
    steps: int = Field(500, ge=1, le=10**8, description="steps of training", json_schema_extra={"unit": "step"})
    batch_size: int = Field(
        32, ge=0, le=10**6, description="examples a step; 0: all of them", json_schema_extra={"unit": "1"}
    )
    learning_rate: float = Field(
        0.01, gt=0, le=1000, description="step size of stochastic gradients", json_schema_extra={"unit": "1"}
    )
    scale: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="factor of the weights before training, whose variance is 2/fan-in",
        json_schema_extra={"unit": "1"},
    )
    checkpoints: int = Field(
        1,
        ge=1,
        le=60,
        description="times C at which a network is looked at, after steps/2^(C-1), ..., steps/2, steps steps",
        json_schema_extra={"unit": "1"},
    )
    components: int = Field(
        9,
        ge=1,
        le=2**14,
        description="components of which the profile is given; undefined beyond channels x p^2",
        json_schema_extra={"unit": "1"},
    )
    reference: Literal["none", "same", Architecture] = Field(
        "none", description="architecture of a second network, of another seed, that `consistency` compares with"
    )
    reference_labels: Literal["same", "classes", "permuted", "deciles"] = Field(
        "same", description="what the second network is trained on"
    )
    reference_width: int = Field(
        0, ge=0, le=2**14, description="its filters; 0: as many", json_schema_extra={"unit": "1"}
    )

    @property
    def looked_at(self) -> tuple[int, ...]:
        """Steps after which a network is looked at."""
        return tuple(-(-self.steps // 2**j) for j in reversed(range(self.checkpoints)))

    @property
    def is_about_one(self) -> bool:
        """Whether anything here is about `component`."""
        return self.labels in ("deciles", "planted") or self.reference_labels == "deciles" or self.component_gain != 1

    @property
    def dimension(self) -> int:
        """Entries d of a filter."""
        return labelled.shape(self.data, self.path)[0] * self.patch**2

    @property
    def second(self) -> FirstLayerParameters | None:
        """The network compared with."""
        if self.reference == "none":
            return None
        changes: dict[str, Any] = {"reference": "none"}
        if self.reference != "same":
            changes["architecture"] = self.reference
        if self.reference_labels != "same":
            changes |= {"labels": self.reference_labels, "label_noise": 0.0}
        return self.model_copy(update=changes | {"width": self.reference_width or self.width})

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.path and self.data != "file":
            raise ValueError(f'path is for data = "file", and data is "{self.data}"; leave it out, or change data')
        _, rows, columns = labelled.shape(self.data, self.path)
        if self.patch > min(rows, columns):
            raise ValueError(f"patch {self.patch} is larger than the images, {rows} x {columns} pixels")
        if self.component > self.dimension:
            raise ValueError(
                f"component must be at most channels x patch^2 = {self.dimension}, the entries of a patch, got "
                f"{self.component}"
            )
        if self.steps < 2 ** (self.checkpoints - 1):
            raise ValueError(
                f"checkpoints {self.checkpoints} need at least {2 ** (self.checkpoints - 1)} steps, got {self.steps}"
            )
        if self.reference == "none" and (self.reference_labels != "same" or self.reference_width):
            raise ValueError('reference_labels and reference_width are of a second network, and reference is "none"')
        if self.data == "file":
            labelled.load(self.data, self.path, self.examples)
            _first_layer.material(self)
        for one in (self, self.second):
            if one is not None:
                _check_network(one)
        return self


def _check_network(p: FirstLayerParameters) -> None:
    """Raises ValueError, in one line, where such a network cannot be trained."""
    count = _first_layer.examples(p)
    if p.batch_size > count:
        raise ValueError(f"batch_size must be at most the {count} training examples, got {p.batch_size}")
    if p.architecture != "linear" or p.batch_size not in (0, count):
        check_epochs(p.steps, count, p.batch_size or count)
    if p.labels == "planted" and p.architecture != "linear":
        raise ValueError(
            f'labels "planted" are numbers, for architecture "linear"; the {p.architecture} network needs classes'
        )
    if p.architecture in ("vgg", "resnet") and p.batch_size == 1:
        raise ValueError(f"the batch normalisation of {p.architecture} needs batch_size 2 or more, got 1")
    _first_layer.architecture(p)
    if (needed := _memory_of(p)) > LIMIT:
        raise ValueError(
            f"architecture {p.architecture} of width {p.width} needs {needed / 2**30:.1f} GiB a network, more than "
            f"{LIMIT / 2**30:.0f}; use a smaller width or batch_size"
        )


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    p = FirstLayerParameters(**networks.points.point(0))
    basis, other = _first_layer.material(p).basis, p.second
    tell = partial(_first_layer.tell, share=0.5 if other else 1.0)
    trained = _first_layer.trained(p, networks, device, tell(0.0))
    squared = squared_energies(trained.filters - trained.start[:, None], basis.vectors)
    raw = squared_energies(trained.filters, basis.vectors)
    start = np.sqrt(squared_energies(trained.start, basis.vectors))[:, None]
    energy = np.sqrt(squared)  # (networks, checkpoints, components)
    fit = theory.fit(energy, basis.eigenvalues)
    moved = energy.max(-1) > energy.min(-1)
    consistency = np.full(moved.shape, np.nan)
    if other is not None:
        profile = _profile(other, _of_second(other, p, networks), basis, device, tell(0.5))
        consistency = theory.correlation(energy, profile)
    shown = partial(_shown, p)
    always = np.ones((len(networks), 1))
    return {
        "energy": shown(energy),
        "energy_squared": shown(squared),
        "energy_fitted": shown(fit.fitted),
        "energy_raw": shown(np.sqrt(raw)),
        "energy_raw_squared": shown(raw),
        "energy_initial": shown(start[:, 0]),
        "fit": fit.correlation,
        "fit_initial": theory.fit(start[:, 0], basis.eigenvalues).correlation,
        "log_tau": np.log10(fit.tau),
        "consistency": consistency,
        "trained_against_initial": theory.correlation(energy, start),
        "largest": np.where(moved, 1.0 + np.argmax(energy, axis=-1), np.nan),
        "slope": theory.slope(energy, basis.eigenvalues),
        "eigenvalue": shown(always * basis.eigenvalues),
        "eigenvalue_average": shown(always * _average_eigenvalues(p)),
        "accuracy": trained.accuracy,
        "training_accuracy": trained.training_accuracy,
        "loss": trained.loss,
    }


def _of_second(other: FirstLayerParameters, p: FirstLayerParameters, networks: Networks) -> Networks:
    """The second networks of these draws."""
    points = networks.points
    if p.reference_labels != "same":
        varying = {**points.varying, "label_noise": np.full(len(points), other.label_noise)}
        points = Points({k: v for k, v in points.shared.items() if k != "label_noise"}, varying, len(points))
    return dataclasses.replace(networks, points=points, first_tensor=_first_layer.REFERENCE)


def _profile(
    p: FirstLayerParameters, networks: Networks, basis: Basis, device: str, seen: Callable[[float], None]
) -> np.ndarray:
    """Energies (networks, checkpoints, components)."""
    trained = _first_layer.trained(p, networks, device, seen)
    return np.sqrt(squared_energies(trained.filters - trained.start[:, None], basis.vectors))


def _average_eigenvalues(p: FirstLayerParameters) -> np.ndarray:
    """Of the covariance of the images' average patches, descending (d,)."""
    averages = _first_layer.material(p).averages
    return np.maximum(np.linalg.eigvalsh(averages.T @ averages / len(averages))[::-1], 0)


def _shown(p: FirstLayerParameters, values: np.ndarray) -> np.ndarray:
    """The first components (..., components) of all that images vary along, NaN where there are none."""
    found = np.full((*values.shape[:-1], p.components), np.nan)
    count = min(p.components, values.shape[-1])
    found[..., :count] = values[..., :count]
    return found


def _cost(p: FirstLayerParameters) -> float:
    return sum(_cost_of(one) for one in (p, p.second) if one is not None)


def _cost_of(p: FirstLayerParameters) -> float:
    if p.architecture == "linear":
        rows = min(p.batch_size or p.dimension, _first_layer.examples(p))
        return 1e-5 + p.steps * p.dimension * (2 * rows + p.width) * 1e-9
    from sweeps.networks import training

    return training.seconds(_first_layer.architecture(p), _first_layer.recipe(p), _first_layer.examples(p))


def _memory(p: FirstLayerParameters) -> int:
    """Of training, and of profiles and what is shown of them."""
    profiles = 8 * p.checkpoints * (6 * p.components + 10 * p.dimension)
    return profiles + max(_memory_of(one) for one in (p, p.second) if one is not None)


def _memory_of(p: FirstLayerParameters) -> int:
    examples = _first_layer.examples(p)
    if p.architecture == "linear":
        return 32 * examples + 8 * p.width * p.dimension * (3 * p.checkpoints + 6)
    from sweeps.networks import training

    return training.launch_bytes(_first_layer.architecture(p), _first_layer.recipe(p), examples)


def _lane(p: FirstLayerParameters) -> int:
    return lane_within(2**28, _memory(p), 64)


def _theory(p: FirstLayerParameters) -> dict[str, Any]:
    """Of linear networks."""
    nowhere = np.full((p.checkpoints, p.components), np.nan)
    nothing: dict[str, Any] = dict.fromkeys(("energy", "energy_squared", "energy_raw_squared"), nowhere)
    if p.architecture != "linear":
        return nothing
    if not _first_layer.is_stable(p, found := _first_layer.material(p), p.learning_rate):
        return nothing
    labels = _first_layer.label_moments(p, found)
    variance = p.scale**2 * 2 / p.dimension
    given = found.averages, found.basis.vectors, labels, p.width, variance, p.learning_rate
    at = [theory.energies(*given, steps) for steps in p.looked_at]
    return {
        "energy": _shown(p, np.stack([found.mean for found in at])),
        "energy_squared": _shown(p, np.stack([found.squared for found in at])),
        "energy_raw_squared": _shown(p, np.stack([found.raw_squared for found in at])),
    }


def _exact(points: Points) -> dict[str, Any]:
    """In expectation, where every step sees all examples; of the mean energy where it has one Gaussian direction."""
    rows = [FirstLayerParameters(**points.point(i)) for i in range(len(points))]
    whole = [p.architecture == "linear" and p.batch_size in (0, _first_layer.examples(p)) for p in rows]
    squared = np.array(whole)[:, None, None]
    normal = np.array([p.labels == "planted" or (p.labels != "permuted" and not p.label_noise) for p in rows])
    return {"energy_squared": squared, "energy_raw_squared": squared, "energy": squared & normal[:, None, None]}


_TIME = Dim("checkpoint", "checkpoints", "checkpoint; steps double from one to the next")
_COMPONENT = Dim("component", "components", "principal component of patches, by falling variance")
_BOTH, _EACH = (_TIME, _COMPONENT), (_COMPONENT,)

STATISTIC = Statistic(
    name="first_layer",
    summary="Energy profile of the first layer of trained convolutional networks",
    source="Chowers, Weiss, ICML 2023 (arXiv 2206.02454)",
    parameters=FirstLayerParameters,
    shape=frozenset(FirstLayerParameters.model_fields) - {"learning_rate", "label_noise", "scale"},
    outcomes=(
        Outcome("energy", "energy of the filters, less the initial ones, along a component", dims=_BOTH),
        Outcome("energy_squared", "square of that energy", dims=_BOTH),
        Outcome("energy_fitted", "the curve of one parameter fitted to that energy", dims=_BOTH),
        Outcome("energy_raw", "energy of the filters along a component", dims=_BOTH),
        Outcome("energy_raw_squared", "square of the energy of the filters", dims=_BOTH),
        Outcome("energy_initial", "energy of the initial filters along a component", dims=_EACH),
        Outcome("fit", "correlation of the profile with the fitted curve", dims=(_TIME,)),
        Outcome("fit_initial", "control: correlation of the initial filters' profile with the curve fitted to it"),
        Outcome("log_tau", "log10 of the fitted effective time tau", dims=(_TIME,)),
        Outcome("consistency", "correlation of the profile with that of the reference network", dims=(_TIME,)),
        Outcome("trained_against_initial", "control: its correlation with the initial filters' profile", dims=(_TIME,)),
        Outcome("largest", "component with the largest energy", kind="count", dims=(_TIME,)),
        Outcome("slope", "slope of log energy over log lambda", dims=(_TIME,)),
        Outcome("eigenvalue", "variance lambda^2 of patches along a component", dims=_EACH),
        Outcome("eigenvalue_average", "eigenvalue of the covariance of average patches", dims=_EACH),
        Outcome("accuracy", f"accuracy on up to {_first_layer.JUDGED} validation examples", dims=(_TIME,)),
        Outcome(
            "training_accuracy",
            f"accuracy on up to {_first_layer.JUDGED} training examples, with the labels trained on",
            dims=(_TIME,),
        ),
        Outcome("loss", "mean cross-entropy on these; squared error (linear)", units="nat or 1", dims=(_TIME,)),
    ),
    sample=_sample,
    cost=_cost,
    memory=_memory,
    lane=_lane,
    gpu_lane=lambda p: gpu_lane(_memory(p)),
    theory=by_point(_theory, FirstLayerParameters),
    exact=_exact,
    theory_note="linear networks: in expectation over initial weights and labels, exact for full batches",
)
