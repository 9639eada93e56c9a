"""Space folding of trained networks, beside the same networks before training, on the same paths.

A draw is a network: its own random weights, order of examples and label noise, and its own paths between validation
examples. Over its paths, the global measure Phi is the median of the chi that are not zero; beside it stands the
fraction of paths that fold. Lewandowski, Eghbalzadeh, Heinzl, Pisoni, Moser, "On Space Folds of ReLU Neural Networks",
TMLR 2025 (arXiv 2502.09954), who trained networks of about 60 neurons on MNIST.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from sweeps.inputs import labelled
from sweeps.inputs.labelled import Labelled
from sweeps.inputs.user_images import UserImages
from sweeps.networks import attacks, folds, lessons, training
from sweeps.networks.architecture import lane_within
from sweeps.networks.initial import initial
from sweeps.networks.layered import Layered
from sweeps.networks.training import Optimiser, Recipe
from sweeps.statistic import Dim, Networks, Outcome, Statistic
from sweeps.statistics._layered import LayeredParameters

LIMIT = 2**32  # bytes one network may need
PATHS = 2**20  # the tensor that chooses paths
FLIPS = 0.3  # about the share of neurons that a segment flips
STEPS = 20  # of pgd
OF_PATHS = ("phi", "folded", "chi", "phi_sampled", "breakpoints")


class TrainedFoldingParameters(LayeredParameters):
    """One network, how it is trained, and the paths that it folds."""

    batch_norm: bool = Field(False, description="batch normalisation before every activation")
    data: labelled.Data = Field("digits", description="labelled images, of which four fifths are trained on")
    path: UserImages = Field("", description='labelled images, for data = "file": IDX, CIFAR-10, .npy or class folders')
    examples: int = Field(
        0, ge=0, description="labelled images taken, of all that there are; 0: all", json_schema_extra={"unit": "1"}
    )
    epochs: int = Field(20, ge=1, le=10**5, description="passes over the examples", json_schema_extra={"unit": "epoch"})
    batch_size: int = Field(32, ge=1, le=10**6, description="examples a step", json_schema_extra={"unit": "1"})
    optimiser: Optimiser = Field("adam", description="stochastic gradients: plain, with momentum .9, or Adam")
    learning_rate: float = Field(0.003, gt=0, le=1000, description="step size", json_schema_extra={"unit": "1"})
    label_noise: float = Field(
        0.0, ge=0, le=1, description="share of training labels drawn anew at random", json_schema_extra={"unit": "1"}
    )
    checkpoints: int = Field(
        1,
        ge=1,
        le=1000,
        description="times at which a network is looked at, every epochs/checkpoints epochs",
        json_schema_extra={"unit": "1"},
    )
    paths: int = Field(100, ge=1, le=10**5, description="paths a network", json_schema_extra={"unit": "1"})
    route: Literal["pairs", "fgsm", "pgd"] = Field(
        "pairs", description="paths between validation examples, or from one to an adversarial example made of it"
    )
    classes: labelled.Pairs = Field("between", description="successive examples: any, within a class, or between two")
    points: int = Field(
        2, ge=2, le=64, description="examples that a path joins by straight segments", json_schema_extra={"unit": "1"}
    )
    radius: float = Field(
        0.1, gt=0, le=1000, description="largest change of a pixel by fgsm or pgd", json_schema_extra={"unit": "1"}
    )
    samples: int = Field(
        1000, ge=2, le=10**5, description="equally spaced points that phi_sampled sees", json_schema_extra={"unit": "1"}
    )
    layers: int = Field(
        1,
        ge=1,
        le=1000,
        description="layers of which chi is given one by one; undefined beyond the depth",
        json_schema_extra={"unit": "layer"},
    )

    @property
    def layered(self) -> Layered:
        classes = labelled.classes(self.data, self.path)
        return self.stacked(labelled.shape(self.data, self.path), batch_norm=self.batch_norm, outputs=classes)

    @property
    def recipe(self) -> Recipe:
        """Looked at before training and at the checkpoints."""
        epoch = _examples(self) // self.batch_size
        steps, each = self.epochs * epoch, self.epochs // self.checkpoints * epoch
        return Recipe(steps, self.batch_size, self.optimiser, tuple(range(0, steps + 1, each)))

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.path and self.data != "file":
            raise ValueError(f'path is for data = "file", and data is "{self.data}"; leave it out, or change data')
        examples, _ = labelled.count(self.data, self.path, self.examples)
        if self.batch_size > examples:
            raise ValueError(f"batch_size must be at most the {examples} training examples, got {self.batch_size}")
        if self.batch_norm and self.batch_size == 1:
            raise ValueError("batch_norm needs batches of at least 2 examples, got batch_size 1")
        if self.epochs % self.checkpoints:
            raise ValueError(f"checkpoints must divide epochs {self.epochs}, got {self.checkpoints}")
        if self.route != "pairs" and self.points != 2:
            raise ValueError(
                f'route "{self.route}" joins 2 points, an example and another made of it, got {self.points}'
            )
        if self.data == "file" or self.examples:  # all digits have pairs of every kind
            labelled.check_pairs(labelled.load(self.data, self.path, self.examples).validation_labels, self.classes)
        if (needed := _memory(self) + folds.path_bytes(self.layered, self.points - 1, FLIPS)) > LIMIT:
            raise ValueError(
                f"width {self.width}, depth {self.depth} and {self.paths} paths of {self.points} points need "
                f"{needed / 2**30:.1f} GiB a network, more than {LIMIT / 2**30:.0f}; use less of these"
            )
        return self


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    p = TrainedFoldingParameters(**networks.points.point(0))
    layered, data = p.layered, labelled.load(p.data, p.path, p.examples)
    start = initial(networks, layered, p.initialisation, networks.column("scale"), np.zeros(len(networks)))
    labels = lessons.noisy(data, networks, networks.column("label_noise"))
    trained = training.train(layered, start, data, labels, networks, p.recipe, networks.column("learning_rate"), device)
    paths = _paths(p, networks, trained.packed[-1], data, device)
    before, *after = (_measured(p, packed, paths) for packed in trained.packed)
    along = {name: np.stack([found[name] for found in after], axis=1) for name in before}  # (networks, checkpoints)
    return {
        **{name: along[name] for name in OF_PATHS},
        **{f"{name}_untrained": before[name] for name in OF_PATHS},
        **{f"{name}_gain": along[name] - before[name][:, None] for name in ("phi", "folded", "chi")},
        "chi_of_layer": along["chi_of_layer"][:, -1],
        "chi_of_layer_untrained": before["chi_of_layer"],
        "accuracy": trained.accuracy[1:].T,
        "training_accuracy": trained.training_accuracy[1:].T,
        "loss": trained.loss[1:].T,
    }


def _paths(
    p: TrainedFoldingParameters, networks: Networks, packed: np.ndarray, data: Labelled, device: str
) -> np.ndarray:
    """Float64 (networks, paths, points, inputs)."""
    words = networks.words(PATHS, p.paths, p.points)
    chosen = labelled.choose(data.validation_labels, words, p.classes)
    if p.route == "pairs":
        found = data.validation_images[chosen]
    else:
        images, labels = data.validation_images[chosen[..., 0]], data.validation_labels[chosen[..., 0]]
        every = data.train_images, data.validation_images
        bounds = min(float(part.min()) for part in every), max(float(part.max()) for part in every)
        steps, radius = 1 if p.route == "fgsm" else STEPS, networks.column("radius")
        made = attacks.pgd(p.layered, packed, images, labels, radius, steps, bounds, device)
        made[~np.isfinite(packed).all(1)] = np.nan  # a network that has diverged has no adversary
        found = np.stack([images, made], axis=2)
    return found.reshape(*chosen.shape, -1).astype(np.float64)


def _measured(p: TrainedFoldingParameters, packed: np.ndarray, paths: np.ndarray) -> dict[str, np.ndarray]:
    """Over the paths of every network, (networks,) or (networks, layers)."""
    networks, count = paths.shape[:2]
    of_network = np.repeat(np.arange(networks), count)
    flat = paths.reshape(-1, *paths.shape[2:])
    found = folds.fold_paths(p.layered, packed, of_network, flat, layers=p.layers, samples=p.samples)
    chi, sampled = found.chi.reshape(networks, count), found.chi_sampled.reshape(networks, count)
    return {
        "phi": phi(chi),
        "folded": np.where(np.isnan(chi), np.nan, chi > 0).mean(axis=1),
        "chi": chi.mean(axis=1),
        "phi_sampled": phi(sampled),
        "breakpoints": found.breakpoints.reshape(networks, count).mean(axis=1),
        "chi_of_layer": found.by_layer.reshape(networks, count, -1).mean(axis=1),
    }


def phi(chi: np.ndarray) -> np.ndarray:
    """Median (networks,) of the chi (networks, paths) that are not zero; NaN where no path folds."""
    return np.array([np.median(row[row > 0]) if (row > 0).any() else np.nan for row in chi])


def _examples(p: TrainedFoldingParameters) -> int:
    return labelled.count(p.data, p.path, p.examples)[0]


def _cost(p: TrainedFoldingParameters) -> float:
    walks = p.paths * (p.checkpoints + 1) * folds.seconds(p.layered, p.points - 1, FLIPS)
    return training.seconds(p.layered, p.recipe, _examples(p)) + walks


def _memory(p: TrainedFoldingParameters) -> int:
    """Of training, and of the paths in float64, as images and as what is made of them."""
    entries = math.prod(p.layered.image)
    return training.launch_bytes(p.layered, p.recipe, _examples(p)) + 24 * p.paths * p.points * entries


def _lane(p: TrainedFoldingParameters) -> int:
    return lane_within(2**29, _memory(p), training.lane(p.layered, p.recipe, _examples(p)))


_TIME = (Dim("checkpoint", "checkpoints", "checkpoint"),)
_LAYER = (Dim("layer", "layers", "layer"),)
_PHI = "median of the chi that are not zero"

STATISTIC = Statistic(
    name="trained_folding",
    summary="Space folding of trained networks, beside the same networks before training",
    source="Lewandowski, Eghbalzadeh, Heinzl, Pisoni, Moser, TMLR 2025 (arXiv 2502.09954)",
    parameters=TrainedFoldingParameters,
    shape=frozenset(TrainedFoldingParameters.model_fields) - {"learning_rate", "label_noise", "scale", "radius"},
    outcomes=(
        Outcome("phi", f"Phi, {_PHI}, over the paths of a network", dims=_TIME, bins=tuple(i / 50 for i in range(51))),
        Outcome("folded", "fraction of the paths that fold", dims=_TIME),
        Outcome("chi", "mean chi over the paths", dims=_TIME),
        Outcome("phi_sampled", "Phi that equally spaced points show", dims=_TIME),
        Outcome("breakpoints", "mean number of places where the pattern changes", dims=_TIME),
        Outcome("phi_untrained", "Phi of the same paths before training"),
        Outcome("folded_untrained", "fraction of the same paths that fold before training"),
        Outcome("chi_untrained", "mean chi of the same paths before training"),
        Outcome("phi_sampled_untrained", "Phi that equally spaced points show before training"),
        Outcome("breakpoints_untrained", "mean number of places where the pattern changes before training"),
        Outcome("phi_gain", "Phi less that before training", dims=_TIME),
        Outcome("folded_gain", "fraction of paths that fold, less that before training", dims=_TIME),
        Outcome("chi_gain", "mean chi less that before training", dims=_TIME),
        Outcome("chi_of_layer", "mean chi of the bits of each layer alone, trained", dims=_LAYER),
        Outcome("chi_of_layer_untrained", "mean chi of the bits of each layer alone, before training", dims=_LAYER),
        Outcome("accuracy", "validation accuracy", dims=_TIME),
        Outcome("training_accuracy", "accuracy on the training examples, with the labels trained on", dims=_TIME),
        Outcome("loss", "mean cross-entropy on the training examples", units="nat", dims=_TIME),
    ),
    sample=_sample,
    cost=_cost,
    memory=_memory,
    lane=_lane,
)
