"""Trained rows against the same filters of the statistic of first layers, and against no training."""

from __future__ import annotations

import numpy as np
import pytest

from sweeps import randomness
from sweeps.errors import UnknownNameError
from sweeps.frames import trained_rows
from sweeps.frames.trained_rows import inputs, trained
from sweeps.networks.initial import initial
from sweeps.networks.small_cnns import small_cnn
from sweeps.statistic import Networks, Points
from sweeps.statistics import _first_layer
from sweeps.statistics.first_layer import FirstLayerParameters
from tests.sweeps.networks_of import networks_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_rows_are_the_filters_that_first_layers_learn():
    p = FirstLayerParameters(width=5, steps=7, learning_rate=0.05)
    varying = {"learning_rate": np.full(2, 0.05), "label_noise": np.zeros(2), "scale": np.ones(2)}
    shared = {k: v for k, v in p.model_dump().items() if k not in varying}
    key = np.full(2, randomness.key(0, "first_layer", {}), np.uint64)
    networks = Networks(Points(shared, varying, 2), key, np.arange(2, dtype=np.uint64))
    found = trained(networks, 5, "digits", 3, 7, "cpu")
    expected = _first_layer.trained(p, networks, "cpu", lambda share: None)
    assert np.array_equal(found, expected.filters[:, 0])
    assert np.array_equal(trained(networks, 5, "digits", 3, 0, "cpu"), expected.start)
    assert (np.abs(found - expected.start).max((1, 2)) > 1e-3).all()


def test_untrained_rows_are_he_s():
    layered = small_cnn("cnn", (1, 8, 8), 6, 5, 10)
    start = initial(networks_of(3), layered, "he", np.ones(3), np.zeros(3))
    weights = layered.unpack(start)[0][0].swapaxes(1, 2)
    assert np.array_equal(trained(networks_of(3), 6, "digits", 5, 0, "cpu"), weights.astype(np.float32))


@pytest.mark.parametrize(("data", "n"), [("digits", 9), ("mnist", 9), ("photographs", 27)])
def test_rows_see_patches_of_all_channels(data, n):
    assert trained(networks_of(2), 4, data, 3, 1, "cpu").shape == (2, 4, n)
    assert inputs(data, 3) == n


def test_company_changes_no_bit():
    one = trained(networks_of(4, first=2), 4, "digits", 3, 3, "cpu")
    assert np.array_equal(one[0], trained(networks_of(4, first=1), 4, "digits", 3, 3, "cpu")[1])


def test_lanes_are_within_memory():
    for m, data, steps in [(4, "digits", 0), (60, "digits", 100), (64, "photographs", 100)]:
        lane, each = trained_rows.lane(m, data, 3, steps), trained_rows.memory(m, data, 3, steps)
        assert lane * each <= 2**28 or lane == 1
        assert lane & (lane - 1) == 0
    assert trained_rows.seconds(8, "digits", 3, 200) > 10 * trained_rows.seconds(8, "digits", 3, 10)


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match="must be odd, got 4"):
        trained(networks_of(1), 4, "digits", 4, 1, "cpu")
    with pytest.raises(UnknownNameError, match="unknown data 'digit'; did you mean 'digits'"):
        trained(networks_of(1), 4, "digit", 3, 1, "cpu")
