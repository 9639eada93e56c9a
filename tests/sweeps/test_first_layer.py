"""The statistic `first_layer`: its draws against slow profiles and exact laws, its controls, its refusals."""

import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest

from sweeps import randomness
from sweeps.blocks import plan
from sweeps.inputs import labelled
from sweeps.intervals import deviation, sem
from sweeps.measure import numerics
from sweeps.moments import Moments
from sweeps.networks.profiles import squared_energies
from sweeps.statistic import Networks, Points
from sweeps.statistics import _first_layer
from sweeps.statistics.first_layer import STATISTIC as FIRST_LAYER
from sweeps.statistics.first_layer import FirstLayerParameters
from sweeps.sweep import Sweep
from sweeps.theory import first_layer as theory

VARYING = ("learning_rate", "label_noise", "scale")
FEW = {"examples": 200, "steps": 12, "checkpoints": 2}
LINEAR = {"architecture": "linear", "examples": 100, "batch_size": 0, "learning_rate": 0.01, "steps": 64}


def networks(draws, **given):
    """Draws of one point."""
    values = FirstLayerParameters(**given).model_dump()
    key = np.array([randomness.key(0, "first_layer", values)] * draws, dtype=np.uint64)
    varying = {name: np.full(draws, values.pop(name)) for name in VARYING}
    return Networks(Points(values, varying, draws), key, np.arange(draws, dtype=np.uint64))


def sampled(drawn):
    with numerics("float32"):
        return FIRST_LAYER.sample(drawn, "cpu")


def trained(p, drawn):
    with numerics("float32"):
        return _first_layer.trained(p, drawn, "cpu", lambda done: None)


def sample(draws, **given):
    return sampled(networks(draws, **given))


def predicted(**given):
    point = Points(FirstLayerParameters(**given).model_dump())
    found, exact = FIRST_LAYER.theory(point), FIRST_LAYER.exact(point)
    return {name: values[0] for name, values in found.items()}, {name: bool(known[0]) for name, known in exact.items()}


@pytest.mark.parametrize("architecture", ["linear", "cnn", "vgg", "resnet"])
def test_the_profile_is_the_filters_movement_along_each_component(architecture):
    given = {**FEW, "architecture": architecture, "width": 4, "learning_rate": 0.05}
    drawn = networks(2, **given)
    p = FirstLayerParameters(**given)
    done = trained(p, drawn)
    found, u = sampled(drawn), _first_layer.material(p).basis.vectors
    for network in range(2):
        for time in range(2):
            for i in range(9):
                moved = [
                    (w - w0) @ u[:, i] for w, w0 in zip(done.filters[network, time], done.start[network], strict=True)
                ]
                raw = [w @ u[:, i] for w in done.filters[network, time]]
                assert found["energy"][network, time, i] == pytest.approx(np.sqrt(np.mean(np.square(moved))))
                assert found["energy_raw"][network, time, i] == pytest.approx(np.sqrt(np.mean(np.square(raw))))
            profile = found["energy"][network, time]
            assert found["largest"][network, time] == 1 + np.argmax(profile)
            start = found["energy_initial"][network]
            assert found["trained_against_initial"][network, time] == pytest.approx(np.corrcoef(profile, start)[0, 1])


def test_energies_do_not_depend_on_company_and_sum_to_the_filters_length():
    rng = np.random.default_rng(0)
    filters, basis = rng.standard_normal((5, 3, 4, 27)), np.linalg.qr(rng.standard_normal((27, 27)))[0]
    found = squared_energies(filters, basis)
    np.testing.assert_allclose(found.sum(-1), (filters**2).sum(-1).mean(-1))
    assert squared_energies(filters[2, 1], basis).tobytes() == found[2, 1].tobytes()


@pytest.mark.parametrize("data", ["digits", "photographs"])
@pytest.mark.parametrize(
    "given",
    [
        {"labels": "classes"},
        {"labels": "classes", "label_noise": 0.4},
        {"labels": "permuted"},
        {"labels": "permuted", "label_noise": 0.4, "scale": 0.3},
        {"labels": "planted", "component": 3, "label_noise": 0.5},
        {"labels": "deciles", "component": 2, "scale": 2.0},
    ],
    ids=str,
)
def test_linear_networks_meet_their_laws(data, given):
    given = {**LINEAR, "width": 3, "checkpoints": 3, "components": 30, "data": data, **given}
    found, (law, exact) = sample(400, **given), predicted(**given)
    assert exact["energy_squared"]
    assert exact["energy_raw_squared"]
    for name in ("energy_squared", "energy_raw_squared", *(["energy"] if exact["energy"] else [])):
        moments = Moments.of(np.moveaxis(found[name], 0, -1))
        known = np.isfinite(law[name])
        assert known.sum() == 3 * min(30, {"digits": 9, "photographs": 27}[data])
        z = deviation(moments.mean, law[name], sem(moments))[known]
        assert np.abs(z).max() < 4.5, name  # of up to 81
        assert np.sqrt(np.mean(z**2)) < 2


def test_a_linear_network_is_its_closed_form():
    given = {**LINEAR, "width": 3, "labels": "permuted"}
    drawn, p = networks(4, **given), FirstLayerParameters(**given)
    done, found = trained(p, drawn), _first_layer.material(p)
    A = found.averages.T @ found.averages / len(found.averages)
    labels = _first_layer._numbers(p, drawn, found)
    for start, filters, y in zip(done.start, done.filters[:, 0], labels, strict=True):
        expected = theory.law1(start, A, found.averages.T @ y / len(y), p.learning_rate, p.steps)
        np.testing.assert_allclose(filters, expected, rtol=1e-9, atol=1e-12)


def test_permuted_labels_are_the_same_labels_in_another_order():
    given = {**FEW, "labels": "permuted"}
    drawn, p = networks(3, **given), FirstLayerParameters(**given)
    data = labelled.load("digits", "", 200)
    for labels in (found := _first_layer._classes(p, drawn, data)):
        assert sorted(labels) == sorted(data.train_labels)
        assert not (labels == data.train_labels).all()
    assert not (found[0] == found[1]).all()


def test_deciles_order_images_by_energy():
    p = FirstLayerParameters(labels="deciles", component=2)
    found = _first_layer.material(p)
    data = _first_layer.with_labels(p, found)
    assert data.classes == 10
    counts = np.bincount(data.train_labels)
    assert counts.max() - counts.min() <= 1
    images, u, mean = found.data.train_images[:, 0].astype(float), found.basis.vectors[:, 1].reshape(3, 3), 0.0
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), (1, 2))
    mean = windows.mean((0, 1, 2))
    energy = (((windows - mean) * u).sum((3, 4)) ** 2).mean((1, 2))
    highest = [energy[data.train_labels == i].max() for i in range(9)]
    lowest = [energy[data.train_labels == i].min() for i in range(1, 10)]
    assert (np.array(highest) <= np.array(lowest) + 1e-9).all()


def test_a_gain_changes_how_strong_a_component_is():
    strong = [_first_layer.material(FirstLayerParameters(component=2, component_gain=gain)) for gain in (1.0, 4.0)]
    u = strong[0].basis.vectors[:, 1]
    variances = [u @ (m.basis.vectors * m.basis.eigenvalues) @ m.basis.vectors.T @ u for m in strong]
    assert variances[1] > 2 * variances[0]


def test_the_reference_is_another_network_of_the_same_draw():
    given = {**FEW, "width": 4, "reference": "cnn", "reference_labels": "permuted", "reference_width": 6}
    drawn, p = networks(3, **given), FirstLayerParameters(**given)
    assert (p.second.architecture, p.second.labels, p.second.width) == ("cnn", "permuted", 6)
    other = dataclasses.replace(drawn, first_tensor=2**30)
    profiles = []
    for one, which in ((p, drawn), (p.second, other)):
        done = trained(one, which)
        moved = done.filters - done.start[:, None]
        profiles.append(np.sqrt(squared_energies(moved, _first_layer.material(p).basis.vectors)))
    found = sampled(drawn)["consistency"]
    for network in range(3):
        expected = np.corrcoef(profiles[0][network, 1], profiles[1][network, 1])[0, 1]
        assert found[network, 1] == pytest.approx(expected)
    assert np.isnan(sample(2, **FEW)["consistency"]).all()


def test_an_earlier_checkpoint_is_a_shorter_training():
    long = networks(2, **{**FEW, "steps": 16, "checkpoints": 3})
    short = dataclasses.replace(
        long, points=Points({**long.points.shared, "steps": 4, "checkpoints": 1}, long.points.varying, 2)
    )
    both = sampled(long), sampled(short)
    np.testing.assert_array_equal(both[0]["energy"][:, 0], both[1]["energy"][:, 0])
    assert FirstLayerParameters(steps=20, checkpoints=4).looked_at == (3, 5, 10, 20)


@pytest.mark.parametrize("architecture", ["linear", "cnn"])
def test_a_diverged_network_is_undefined(architecture):
    batch = {"batch_size": 0} if architecture == "linear" else {}
    found = sample(2, **FEW, **batch, architecture=architecture, learning_rate=1000.0, components=12)
    for name in ("energy", "fit", "log_tau", "largest", "slope", "loss", "trained_against_initial"):
        assert np.isnan(found[name][:, -1]).all(), name
    assert np.isfinite(found["fit_initial"]).all()


def test_components_beyond_a_patch_are_undefined():
    found = sample(1, **FEW, components=11)
    assert np.isfinite(found["energy"][..., :9]).all()
    assert np.isnan(found["energy"][..., 9:]).all()
    assert np.isnan(found["eigenvalue"][..., 9:]).all()


def test_training_learns():
    found = sample(2, steps=200, learning_rate=0.1, checkpoints=3)
    assert (found["accuracy"][:, -1] > 0.8).all()
    assert (found["loss"][:, -1] < found["loss"][:, 0]).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"labels": "planted"}, 'labels "planted" are numbers, for architecture "linear"'),
        ({"component": 10}, "component must be at most channels x patch^2 = 9"),
        ({"steps": 3, "checkpoints": 3}, "checkpoints 3 need at least 4 steps, got 3"),
        ({"batch_size": 5000}, "batch_size must be at most the 1437 training examples, got 5000"),
        ({"architecture": "vgg", "batch_size": 1}, "the batch normalisation of vgg needs batch_size 2 or more"),
        ({"path": "x"}, "cannot be read"),
        ({"data": "file"}, "needs path"),
        ({"patch": 4}, "3, 5 or 7"),
        ({"architecture": "linear", "labels": "planted", "reference": "vgg"}, 'labels "planted" are numbers'),
        ({"width": 2**14, "architecture": "vgg"}, "GiB a network"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_in_one_line(given, said):
    with pytest.raises(ValueError, match="1 validation error") as caught:
        FirstLayerParameters(**given)
    assert said in caught.value.errors()[0]["msg"]


def test_a_worker_that_had_no_torch_measures_its_first_block_once():
    fixed = {"examples": 50, "steps": 2, "batch_size": 8}
    sweep = Sweep.of({"name": "a", "statistic": "first_layer", "draws": 2, "draws_per_batch": 2,
                      "axes": {"width": [2]}, "fixed": fixed})  # fmt: skip
    script = """
import pickle, sys
from sweeps import measure

sweep, block = pickle.load(sys.stdin.buffer)
launched, count = measure._launched, 0

def counted(*given):
    global count
    count += 1
    return launched(*given)

measure._launched = counted
before = "torch" in sys.modules
measure.measure(sweep, block)
print(before, "torch" in sys.modules, count)
"""
    given = pickle.dumps((sweep, plan(sweep)[0]))
    ran = subprocess.run([sys.executable, "-c", script], input=given, capture_output=True, check=True)
    assert ran.stdout.decode().split() == ["False", "True", "1"]
