"""The statistic `trained_folding`: its draws against one network at a time, and the paths of both networks."""

import numpy as np
import pytest

from sweeps import randomness
from sweeps.inputs import labelled
from sweeps.measure import numerics
from sweeps.networks import attacks, training
from sweeps.networks.folds import walk_path
from sweeps.networks.initial import initial
from sweeps.statistic import Networks, Points
from sweeps.statistics.trained_folding import PATHS, STATISTIC, TrainedFoldingParameters, phi

VARYING = ("learning_rate", "label_noise", "scale", "radius")
SMALL = {"width": 8, "depth": 2, "epochs": 2, "examples": 400, "paths": 6}


def networks(draws, **given):
    values = TrainedFoldingParameters(**{**SMALL, **given}).model_dump()
    key = np.array([randomness.key(0, "trained_folding", values)] * draws, dtype=np.uint64)
    varying = {name: np.full(draws, values.pop(name)) for name in VARYING}
    return Networks(Points(values, varying, draws), key, np.arange(draws, dtype=np.uint64))


def sample(draws, **given):
    with numerics("float32"):
        return STATISTIC.sample(networks(draws, **given), "cpu")


def chi_of(walk, neurons, samples=None):
    """chi by the patterns between flips, or at samples, one neuron at a time."""
    changed, path = np.zeros(neurons, bool), [np.zeros(neurons, bool)]
    groups = np.unique(walk.places) if samples is None else np.linspace(0, 1, samples)[1:]
    at = 0
    for place in groups:
        while at < len(walk.places) and walk.places[at] <= place:
            changed[walk.neurons[at]] ^= True
            at += 1
        path.append(changed.copy())
    path = np.array(path)
    r2 = (path[1:] != path[:-1]).sum()
    return 1 - path.sum(1).max() / r2 if r2 else 0.0


@pytest.mark.parametrize("route", ["pairs", "fgsm"])
@pytest.mark.parametrize("shape", [{}, {"network": "cnn", "width": 3, "pool": "max", "pool_layers": 1, "paths": 3}])
def test_a_draw_is_what_its_parts_say(shape, route):
    given = {**shape, "route": route, "radius": 0.3, "checkpoints": 2, "samples": 50, "layers": 2}
    p, many = TrainedFoldingParameters(**{**SMALL, **given}), networks(3, **given)
    found = sample(3, **given)
    data, layered = labelled.load("digits", "", 400), p.layered
    assert (len(data.train_labels), len(data.validation_labels)) == (320, 80)
    start, labels = initial(many, layered, "he", np.ones(3), np.zeros(3)), np.tile(data.train_labels, (3, 1))
    with numerics("float32"):
        trained = training.train(layered, start, data, labels, many, p.recipe, np.full(3, 0.003), "cpu")
        chosen = labelled.choose(data.validation_labels, many.words(PATHS, p.paths, 2), "between")
        ends = data.validation_images[chosen]
        if route == "fgsm":
            images, labels = ends[:, :, 0], data.validation_labels[chosen[..., 0]]
            ends[:, :, 1] = attacks.fgsm(layered, trained.packed[-1], images, labels, 0.3, (0.0, 1.0), "cpu")
    np.testing.assert_array_equal(found["accuracy"], trained.accuracy[1:].T)
    np.testing.assert_array_equal(found["loss"], trained.loss[1:].T)
    neurons = sum(layered.hidden)
    for i in range(3):
        for c in range(3):
            paths = ends[i].reshape(p.paths, 2, -1).astype(float)
            walks = [walk_path(layered, trained.packed[c, i], path) for path in paths]
            chi = np.array([chi_of(walk, neurons) for walk in walks])
            chi_sampled = np.array([chi_of(walk, neurons, 50) for walk in walks])
            name, at = ("_untrained", i) if c == 0 else ("", (i, c - 1))
            expected = {
                "chi": chi.mean(),
                "folded": (chi > 0).mean(),
                "breakpoints": np.mean([len(np.unique(walk.places)) for walk in walks]),
                "phi": np.median(chi[chi > 0]) if chi.any() else np.nan,
                "phi_sampled": np.median(chi_sampled[chi_sampled > 0]) if chi_sampled.any() else np.nan,
            }
            for outcome, value in expected.items():
                assert found[outcome + name][at] == pytest.approx(value, nan_ok=True), outcome
    for outcome in ("phi", "folded", "chi"):
        gain = found[outcome] - found[f"{outcome}_untrained"][:, None]
        np.testing.assert_array_equal(found[f"{outcome}_gain"], gain)
    assert not found["chi_of_layer"][:, 0].any()
    assert found["chi_of_layer"][:, 1].any() or route == "fgsm"


def test_epochs_in_steps():
    """Ten whole batches of 32 in 320 examples, six of 50."""
    for batch, each in ((32, 10), (50, 6)):
        p = TrainedFoldingParameters(**{**SMALL, "epochs": 6, "checkpoints": 3, "batch_size": batch})
        assert p.recipe == training.Recipe(6 * each, batch, "adam", tuple(each * epochs for epochs in (0, 2, 4, 6)))


def test_phi_leaves_out_what_does_not_fold():
    chi = np.array([[0, 0.2, 0.6, 0.1], [0, 0, 0, 0], [np.nan] * 4])
    np.testing.assert_array_equal(phi(chi), [0.2, np.nan, np.nan])


def test_networks_that_diverge_are_undefined_and_disturb_no_other():
    many = networks(4, width=4, activation="abs")
    wild = Networks(
        Points(many.points.shared, {**many.points.varying, "learning_rate": np.array([0.003, 1000, 0.003, 0.003])}, 4),
        many.keys,
        many.draws,
    )
    wild.points.shared["optimiser"] = "sgd"
    many.points.shared["optimiser"] = "sgd"
    with numerics("float32"):
        usual, found = (STATISTIC.sample(n, "cpu") for n in (many, wild))
    assert np.isnan(found["phi"][1]).all()
    assert np.isnan(found["accuracy"][1]).all()
    assert found["chi_untrained"][1] == usual["chi_untrained"][1]
    for name, values in found.items():
        kept = [0, 2, 3]
        np.testing.assert_array_equal(values[kept], usual[name][kept], err_msg=name)


@pytest.mark.parametrize("data", ["mnist", "photographs"])
def test_other_images_are_learnt_too(data):
    """Three times as well as by guessing, and more."""
    found = sample(4, data=data, examples=1000, epochs=10, width=20)
    assert found["accuracy"].min() > 3 / labelled.classes(data, "")
    assert np.isfinite(found["chi"]).all()


def test_label_noise_and_batch_normalisation():
    found = sample(4, label_noise=1.0, epochs=4, batch_norm=True, optimiser="momentum", learning_rate=0.05)
    assert found["accuracy"].mean() < 0.35
    found = sample(4, label_noise=0.0, epochs=4, batch_norm=True, optimiser="momentum", learning_rate=0.05)
    assert found["accuracy"].mean() > 0.6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"path": "x"}, "path"),
        ({"data": "file"}, "data 'file' needs path"),
        ({"examples": 2000}, "2000 examples were asked for, and 'digits' has 1797"),
        ({"batch_size": 500}, "batch_size must be at most the 320 training examples, got 500"),
        ({"epochs": 10, "checkpoints": 3}, "checkpoints must divide epochs 10, got 3"),
        ({"route": "pgd", "points": 3}, "got 3"),
        ({"network": "cnn", "filter_side": 4}, "filter_side must be odd, got 4"),
        ({"width": 2**20, "depth": 3}, "GiB"),
        ({"optimiser": "rmsprop"}, "optimiser"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        TrainedFoldingParameters(**{**SMALL, **given})
