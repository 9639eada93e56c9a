"""The statistic `first_layer`: its draws against slow profiles and exact laws, its controls, its refusals."""

import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest

from sweeps import progress, randomness
from sweeps.blocks import plan
from sweeps.inputs import labelled
from sweeps.intervals import deviation, sem
from sweeps.measure import numerics
from sweeps.moments import Moments
from sweeps.networks.profiles import squared_energies
from sweeps.statistic import Networks, Points
from sweeps.statistics import _first_layer, first_layer
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
    assert predicted(**{**given, "batch_size": 80 if data == "digits" else 79})[1]["energy_squared"] == (
        data == "digits"
    )
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


def test_other_outcomes_are_what_they_are_called():
    given = {"examples": 150, "steps": 30, "learning_rate": 0.1, "data": "photographs", "components": 27}
    drawn, p = networks(2, **given), FirstLayerParameters(**given)
    found, data = sampled(drawn), labelled.standardised(labelled.load("photographs", "", 150))
    windows = np.lib.stride_tricks.sliding_window_view(data.train_images.astype(float), (3, 3), (2, 3))
    flat = windows.transpose(0, 2, 3, 1, 4, 5).reshape(len(windows), -1, 27)
    eigenvalues = np.linalg.eigvalsh(np.cov(flat.reshape(-1, 27).T, bias=True))[::-1]
    averages = np.linalg.eigvalsh(np.cov(flat.mean(1).T, bias=True))[::-1]
    np.testing.assert_allclose(found["eigenvalue"], [eigenvalues] * 2, rtol=1e-6)
    np.testing.assert_allclose(found["eigenvalue_average"], [averages] * 2, rtol=1e-6, atol=1e-9)
    assert found["eigenvalue"][0, 0] > 1.05 * found["eigenvalue_average"][0, 0]
    for network in range(2):
        profile, tau = found["energy"][network, 0], 10 ** found["log_tau"][network, 0]
        curve = (1 - np.exp(-tau * eigenvalues)) / np.sqrt(eigenvalues)
        assert found["fit"][network, 0] == pytest.approx(np.corrcoef(profile, curve)[0, 1], abs=1e-6)
        fitted = curve * (curve @ profile) / (curve @ curve)
        np.testing.assert_allclose(found["energy_fitted"][network, 0], fitted, rtol=1e-5)
        slope = np.polyfit(np.log(eigenvalues) / 2, np.log(profile), 1)[0]
        assert found["slope"][network, 0] == pytest.approx(slope, rel=1e-4)
    done = trained(p, drawn)
    np.testing.assert_array_equal(found["training_accuracy"], done.training_accuracy)
    assert (found["training_accuracy"] != found["accuracy"]).all()


def test_filters_are_read_in_the_order_of_patches(tmp_path):
    """Images of horizontal stripes: filters learn stripes, but for what they see of the border of zeros."""
    rng = np.random.default_rng(3)
    pattern = rng.standard_normal((2, 10, 1)).repeat(10, axis=2)
    strength = rng.standard_normal(120)
    images = strength[:, None, None, None] * pattern + 0.01 * rng.standard_normal((120, 2, 10, 10))
    np.save(tmp_path / "X.npy", images.astype(np.float32))
    np.save(tmp_path / "X-labels.npy", (strength > 0).astype(np.int64))
    for architecture in ("linear", "cnn"):
        found = sample(4, data="file", path=str(tmp_path / "X.npy"), architecture=architecture, components=18,
                       steps=200, learning_rate=0.02, batch_size=16)  # fmt: skip
        seen = found["eigenvalue"][0] > 0.01 * found["eigenvalue"][0, 0]
        energy = found["energy_squared"][:, 0]
        assert seen.sum() == 6  # of 18: three heights in two channels
        assert (energy[:, seen].sum(1) > 0.8 * energy.sum(1)).all()


def test_permuted_labels_are_the_same_labels_in_another_order():
    given = {**FEW, "labels": "permuted"}
    drawn, p = networks(3, **given), FirstLayerParameters(**given)
    data = labelled.load("digits", "", 200)
    for labels in (found := _first_layer._classes(p, drawn, data)):
        assert sorted(labels) == sorted(data.train_labels)
        assert not (labels == data.train_labels).all()
    assert not (found[0] == found[1]).all()


@pytest.mark.parametrize("gain", [1.0, 5.0])
def test_deciles_order_images_by_the_energy_of_the_component_before_any_gain(gain):
    p = FirstLayerParameters(labels="deciles", component=2, component_gain=gain)
    found, plain = _first_layer.material(p), _first_layer.material(FirstLayerParameters())
    np.testing.assert_array_equal(found.direction, plain.basis.vectors[:, 1])
    data = _first_layer.with_labels(p, found)
    assert data.classes == 10
    counts = np.bincount(data.train_labels)
    assert counts.max() - counts.min() <= 1
    images = np.concatenate([data.train_images, data.validation_images])[:, 0].astype(float)
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), (1, 2))
    centred = windows - windows.mean((0, 1, 2))
    energy = ((centred * found.direction.reshape(3, 3)).sum((3, 4)) ** 2).mean((1, 2))
    labels = np.concatenate([data.train_labels, data.validation_labels])
    lowest = [energy[: len(data.train_labels)][data.train_labels == i].min() for i in range(10)]
    for i in range(10):  # those for validation by the same bounds
        assert (energy[labels == i] >= (lowest[i] if i else 0) * (1 - 1e-9)).all()
        assert i == 9 or (energy[labels == i] <= lowest[i + 1] * (1 + 1e-9)).all()


def test_a_gain_makes_a_component_stronger_and_no_other_image():
    plain = _first_layer.material(FirstLayerParameters())
    u = plain.basis.vectors[:, 1]
    for gain in (4.0, 0.0):
        made = _first_layer.material(FirstLayerParameters(component=2, component_gain=gain)).basis
        variance = u @ (made.vectors * made.eigenvalues) @ made.vectors.T @ u
        strength = variance / plain.basis.eigenvalues[1]
        assert (2 < strength < 16) if gain else strength < 0.5


def test_the_second_network_with_labels_of_its_own_has_no_noise():
    given = {**FEW, "label_noise": 1.0, "reference": "same"}
    for reference_labels, noisy in (("classes", False), ("same", True)):
        p = FirstLayerParameters(**given, reference_labels=reference_labels)
        drawn = networks(2, **given, reference_labels=reference_labels)
        second = first_layer._of_second(p.second, p, drawn)
        data = labelled.load("digits", "", 200)
        right = (_first_layer._classes(p.second, second, data) == data.train_labels).mean()
        assert right < 0.3 if noisy else right == 1


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


@pytest.mark.parametrize(
    "given",
    [
        {"architecture": "linear", "batch_size": 0, "learning_rate": 1000.0},
        {"architecture": "linear", "batch_size": 1, "learning_rate": 0.5, "steps": 4000},  # stable for full batches
        {"architecture": "cnn", "learning_rate": 1000.0},
        {"architecture": "vgg", "width": 4, "learning_rate": 1000.0, "steps": 60},
    ],
    ids=str,
)
def test_a_diverged_network_is_undefined(given):
    found = sample(3, **{**FEW, "checkpoints": 1, **given}, components=12)
    for name in ("energy", "energy_raw", "fit", "log_tau", "largest", "slope", "loss", "trained_against_initial"):
        assert np.isnan(found[name]).all(), name
    assert np.isfinite(found["fit_initial"]).all()


def test_networks_that_grow_and_then_die_are_undefined_though_their_loss_is_a_usual_one():
    found = sample(8, examples=200, width=4, learning_rate=3.0, steps=60)
    assert 0 < np.isnan(found["loss"]).sum() < 8
    assert np.isnan(found["energy"][np.isnan(found["loss"])]).all()
    assert np.nanmax(found["energy"]) < 2e4


@pytest.mark.parametrize("architecture", ["linear", "cnn"])
def test_a_network_that_does_not_move_has_no_profile(architecture):
    found = sample(2, **FEW, architecture=architecture, learning_rate=1e-300)
    assert (found["energy"] == 0).all()
    for name in ("fit", "log_tau", "largest", "slope", "trained_against_initial"):
        assert np.isnan(found[name]).all(), name


@pytest.mark.parametrize(
    "given", [{"architecture": "linear", "batch_size": 0, "steps": 5000}, {"reference": "same"}], ids=str
)
def test_training_tells_how_far_it_is(given, monkeypatch):
    told = []
    monkeypatch.setattr(progress, "tell", told.append)
    sample(1, **{**FEW, **given})
    assert len(told) > 3
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] == 1


def test_components_that_images_do_not_vary_along_are_undefined(tmp_path):
    grey = np.random.default_rng(0).standard_normal((60, 1, 5, 5)).repeat(3, axis=1)
    np.save(tmp_path / "X.npy", grey.astype(np.float32))
    np.save(tmp_path / "X-labels.npy", np.arange(60) % 3)
    given = {"data": "file", "path": str(tmp_path / "X.npy"), "components": 27, "steps": 4, "batch_size": 8}
    found = sample(2, **given)
    for name in ("energy", "energy_initial", "eigenvalue"):
        assert np.isfinite(found[name][..., :9]).all()
        assert np.isnan(found[name][..., 9:]).all()
    with pytest.raises(ValueError, match="component must be at most 9, as patches vary along no more, got 10"):
        FirstLayerParameters(**given, component=10, labels="deciles")


@pytest.mark.parametrize(("labels", "said"), [(None, "need labels"), (np.zeros(60, np.int64), "at least 2 classes")])
def test_files_that_cannot_be_trained_on_are_refused_early(labels, said, tmp_path):
    np.save(tmp_path / "X.npy", np.random.default_rng(0).standard_normal((60, 1, 5, 5)).astype(np.float32))
    if labels is not None:
        np.save(tmp_path / "X-labels.npy", labels)
    for architecture in ("linear", "cnn"):
        with pytest.raises(ValueError, match=said):
            FirstLayerParameters(data="file", path=str(tmp_path / "X.npy"), architecture=architecture, batch_size=8)


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
        ({"reference_width": 3}, 'are of a second network, and reference is "none"'),
        ({"architecture": "linear", "examples": 12, "batch_size": 8, "steps": 300000}, "steps must be at most 262144"),
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


@pytest.mark.parametrize("architecture", ["cnn", "linear"])
def test_a_worker_that_had_no_torch_measures_its_first_block_once(architecture):
    fixed = {"examples": 50, "steps": 2, "batch_size": 8, "architecture": architecture}
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
    assert ran.stdout.decode().split() == ["False", str(architecture != "linear"), "1"]
