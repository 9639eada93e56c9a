"""The plain torch generator over its whole domain, and which generator a device gets."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps import randomness, randomness_device, randomness_torch
from sweeps.statistic import Networks, Points

WORD32, WORD64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
STREAMS = st.lists(st.tuples(WORD64, WORD64), min_size=1, max_size=20)
KEYS, DRAWS = np.array([1, 2**63], np.uint64), np.array([2**40, 0], np.uint64)


@settings(deadline=None)
@given(STREAMS, WORD32, st.integers(0, 40))
def test_plain_torch_gives_numbas_bits(streams, tensor, size):
    keys, draws = np.array(streams, np.uint64).T
    words = randomness_torch.words(keys, draws, tensor, size, "cpu")
    assert words.dtype == torch.uint32
    np.testing.assert_array_equal(words.numpy(), randomness.words(keys, draws, tensor, size))
    normals = randomness_torch.normals(keys, draws, tensor, size, "cpu").numpy()
    assert normals.tobytes() == randomness.normals(keys, draws, tensor, size).tobytes()


@settings(deadline=None)
@given(st.lists(WORD32, min_size=1, max_size=50))
def test_the_normal_of_any_word(words):
    given_words = np.array(words, np.uint32)
    plain = randomness_torch.normal_from_word(torch.tensor(words), randomness_torch.table_on("cpu")).numpy()
    expected = [randomness.normal_from_word(w) for w in given_words]
    np.testing.assert_array_equal(plain.view(np.uint32), np.array(expected, np.float32).view(np.uint32))


def test_no_product_comes_near_the_subnormals():
    """Else a device that flushes them to zero would give other bits."""
    assert np.abs(randomness.TABLE).min() * 2.0**-23 > 2.0**-60


@pytest.fixture
def generator():
    randomness_device.generator.cache_clear()
    yield randomness_device.generator
    randomness_device.generator.cache_clear()


def test_networks_normals_are_the_same_everywhere():
    networks = Networks(Points({}, size=2), KEYS, DRAWS)
    given_normals = networks.normals_on("cpu", 3, 5, 7)
    assert isinstance(given_normals, torch.Tensor)
    np.testing.assert_array_equal(given_normals.numpy(), networks.normals(3, 5, 7))


def test_a_second_network_has_tensors_further_up():
    networks = Networks(Points({}, size=2), KEYS, DRAWS)
    second = replace(networks, first_tensor=1000)
    np.testing.assert_array_equal(second.normals(3, 5, 7), networks.normals(1003, 5, 7))
    np.testing.assert_array_equal(second.normals_on("cpu", 3, 5, 7), networks.normals(1003, 5, 7))
    np.testing.assert_array_equal(second.words(3, 5, 7), networks.words(1003, 5, 7))
    assert not np.isin(second.words(3, 35), networks.words(3, 35)).any()


@pytest.mark.parametrize("off", ["a bit", "the shape"])
def test_a_generator_that_is_off_does_not_agree(off):
    def wrong(keys, draws, tensor, size, device):
        z = randomness_torch.normals(keys, draws, tensor, size, device)
        if off == "the shape":
            return z.T
        z.view(torch.int32)[-1, -1] ^= 1
        return z

    assert randomness_device.agrees(randomness_torch.normals, "cpu")
    assert not randomness_device.agrees(wrong, "cpu")


def test_the_first_that_agrees_is_used(generator, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(randomness_device.CANDIDATES, "cpu", ("randomness_missing", "randomness_torch"))
    assert generator("cpu") is randomness_torch.normals
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "randomness_missing" in caplog.text


def test_one_that_gives_other_bits_is_told_and_not_used(generator, monkeypatch, caplog):
    monkeypatch.setitem(randomness_device.CANDIDATES, "cpu", ("randomness_torch",))
    monkeypatch.setattr(randomness_torch, "normal_from_word", lambda words, table: words.to(torch.float32))
    normals = generator("cpu")(KEYS, DRAWS, 0, 9, "cpu")
    assert "randomness_torch gives other normals on cpu" in caplog.text
    np.testing.assert_array_equal(normals.numpy(), randomness.normals(KEYS, DRAWS, 0, 9))


def test_a_device_that_can_run_none_gets_copies(generator, caplog):
    """torch's device `meta` holds no numbers."""
    normals = generator("meta")(KEYS, DRAWS, 0, 9, "meta")
    assert (normals.device.type, normals.shape) == ("meta", (2, 9))
    assert "randomness_torch does not run on meta" in caplog.text
