"""The randomness rule in torch and Triton, bit for bit the one in numba, on every device that is here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numba import njit

from sweeps import randomness, randomness_device, randomness_torch
from tests.gpu.paths import CUDA, PATHS, TRITON, Path, interpret

MASK = 2**32 - 1
ANSWERS = [  # four counter and two key words, four outputs: Salmon et al. 2011
    ((0,) * 6, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((MASK,) * 6, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.fixture(params=PATHS, ids=lambda p: f"{p.name}, {p.device}")
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    interpret(monkeypatch)
    return request.param


@njit
def from_words(w):
    z = np.empty(len(w), np.float32)
    for i in range(len(w)):
        z[i] = randomness.normal_from_word(w[i])
    return z


@njit
def philox(x):
    out = np.empty((4, x.shape[1]), np.uint32)
    for i in range(x.shape[1]):
        c0, c1, c2, c3, k0, k1 = x[:, i]
        out[0, i], out[1, i], out[2, i], out[3, i] = randomness.philox(c0, c1, c2, c3, k0, k1)
    return out


def streams(networks: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Keys and draws over all of 64 bits, the extremes first."""
    rng = np.random.default_rng(seed)
    keys, draws = rng.integers(0, 2**64, (2, networks), np.uint64)
    ends = np.array([2**64 - 1, 2**32, 2**32 - 1, 2**63, 0], np.uint64)[:networks]
    keys[: len(ends)], draws[: len(ends)] = ends, ends[::-1]
    return keys, draws


def assert_same_bits(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


def words_of_every_row() -> np.ndarray:
    """Every row of the table that a word can name: every octave, segment and sign, ends of the fraction and between."""
    octave, segment = np.repeat(np.arange(20), 32), np.tile(np.arange(32), 20)
    fractions = [0, 1, 2**23 - 1, 2**23, 2**24 - 1, *np.random.default_rng(0).integers(0, 2**24, 20)]
    a = 2**31 + segment[:, None] * 2**26 + np.array(fractions) * 4
    magnitudes = np.concatenate([(a >> octave[:, None] >> 1).ravel(), np.arange(2**12), [2**31 - 1]])
    return np.concatenate([magnitudes, magnitudes + 2**31]).astype(np.uint32)


def test_the_words_name_every_row_that_words_can_name() -> None:
    n = 2 * (words_of_every_row().astype(np.int64) % 2**31) + 1
    octave = 32 - np.array([int(x).bit_length() for x in n])
    rows = set((32 * octave + ((n << octave) >> 26 & 31)).tolist())
    small = {32 * (32 - n.bit_length()) + ((n << (32 - n.bit_length())) >> 26 & 31) for n in range(1, 64, 2)}
    assert rows == set(range(26 * 32)) | small
    assert len(rows) == 26 * 32 + 32  # in the last 6 octaves p has less than 5 free bits


@pytest.mark.parametrize(("given", "answer"), ANSWERS, ids=["zeros", "ones", "pi"])
def test_philox_gives_the_published_answers(path: Path, given: tuple, answer: tuple) -> None:
    assert tuple(path.philox(np.array([given], np.uint32).T)[:, 0].tolist()) == answer


def test_philox_equals_numbas(path: Path) -> None:
    x = np.random.default_rng(1).integers(0, 2**32, (6, 5000), np.uint32)
    np.testing.assert_array_equal(path.philox(x), philox(x))


def test_the_normal_of_every_row_and_sign(path: Path) -> None:
    w = words_of_every_row()
    assert {0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF} <= set(w.tolist())
    assert_same_bits(path.from_words(w), from_words(w))


def test_the_normals_of_many_words(path: Path) -> None:
    w = np.random.default_rng(2).integers(0, 2**32, 100_000, np.uint32)
    assert_same_bits(path.from_words(w), from_words(w))


@pytest.mark.parametrize("fill", ["words", "normals"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 1023, 2051])
@pytest.mark.parametrize("tensor", [0, 1, 2**31, 2**32 - 1])
def test_networks_tensors_and_sizes(path: Path, fill: str, size: int, tensor: int) -> None:
    keys, draws = streams(37 if size < 100 else 6, seed=size)
    assert_same_bits(
        getattr(path, fill)(keys, draws, tensor, size), getattr(randomness, fill)(keys, draws, tensor, size)
    )


@pytest.mark.parametrize("fill", ["words", "normals"])
def test_a_large_tensor(path: Path, fill: str) -> None:
    keys, draws = streams(2)
    size = 9_001 if "interpreted" in path.name else 600_001  # more than a chunk
    assert_same_bits(getattr(path, fill)(keys, draws, 9, size), getattr(randomness, fill)(keys, draws, 9, size))


@pytest.mark.parametrize("fill", ["words", "normals"])
@pytest.mark.parametrize(("networks", "size"), [(0, 6), (3, 0), (0, 0)])
def test_nothing_to_fill(path: Path, fill: str, networks: int, size: int) -> None:
    assert getattr(path, fill)(*streams(networks), 0, size).shape == (networks, size)


@pytest.mark.parametrize("fill", ["words", "normals"])
def test_chunks_change_no_bit(fill: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, draws = streams(5)
    expected = getattr(randomness, fill)(keys, draws, 3, 38)
    for chunk in (1, 7, 10, 11, 49, 50):
        monkeypatch.setattr(randomness_torch, "CHUNK", chunk)
        assert_same_bits(getattr(randomness_torch, fill)(keys, draws, 3, 38, "cpu").numpy(), expected)


@pytest.mark.parametrize("fill", ["words", "normals"])
def test_what_addresses_nothing_is_refused(path: Path, fill: str) -> None:
    keys, draws = streams(2)
    for arguments in [(keys, draws[:1], 0, 1), (keys, draws, 2**32, 1), (keys, draws, 0, -1), (keys, draws, 0, 2**35)]:
        with pytest.raises(ValueError, match="got"):
            getattr(path, fill)(*arguments)
    with pytest.raises(TypeError, match="keys must be a uint64 array"):
        getattr(path, fill)([1], draws[:1], 0, 1)


ROOMY = [p for p in PATHS if p.device == "cuda" and torch.cuda.mem_get_info()[0] > 12 * 2**30]


@pytest.mark.skipif(not ROOMY, reason="needs a CUDA GPU with 12 GiB free")
@pytest.mark.parametrize("path", ROOMY or PATHS[:1], ids=lambda p: p.name)
def test_elements_beyond_2_to_the_31(path: Path) -> None:
    keys, draws = streams(1)
    size = 2**31 + 4096
    at = np.array([1, 2**31 - 2, 2**31, size - 1])  # one of each output of a counter
    z = path.generate["normals"](keys, draws, 5, size, path.device)[0, torch.tensor(at, device=path.device)]
    k, d = int(keys[0]), int(draws[0])
    counters = np.array([[e // 4, 5, d & MASK, d >> 32, k & MASK, k >> 32] for e in at.tolist()], np.uint32).T
    assert_same_bits(z.cpu().numpy(), from_words(philox(counters)[at % 4, np.arange(4)]))


def test_a_gpu_gets_the_fastest_generator_that_agrees() -> None:
    for device in ["cpu", *["cuda"] * CUDA]:
        chosen = randomness_device.generator(device).__module__
        on_gpu = "sweeps.randomness_triton" if TRITON else "sweeps.randomness_torch"
        assert chosen == (on_gpu if device == "cuda" else "sweeps.randomness_device")
