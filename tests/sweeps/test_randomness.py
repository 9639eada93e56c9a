"""The randomness rule: known answers, slow twins, laws of addressing and the distribution of the normals."""

import hashlib
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from scipy import stats
from scipy.special import erfc, ndtri

from sweeps import randomness
from sweeps.randomness import canonical, key, normal_from_word, normals, philox, words

MASK = 2**32 - 1
COMPILES = settings(deadline=None)  # the first example may wait for numba


def slow_philox(counter, keys):
    """Philox4x32-10 in Python integers."""
    c, (k0, k1) = list(counter), keys
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k0, b & MASK, (a >> 32) ^ c[3] ^ k1, a & MASK]
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return tuple(c)


def slow_word(stream, draw, tensor, element):
    counter = (element // 4, tensor, draw & MASK, draw >> 32)
    return slow_philox(counter, (stream & MASK, stream >> 32))[element % 4]


def plain_normals(w):
    """The rule for normals in whole-array operations, which cannot be fused."""
    n = 2 * (w.astype(np.int64) & 0x7FFFFFFF) + 1
    octave = 32 - np.frexp(n.astype(np.float64))[1]
    a = n << octave
    row = 32 * octave + (a >> 26) - 32
    t = (((a >> 2) & 0xFFFFFF) - 2**23).astype(np.float32) * np.float32(2**-23)
    z = np.zeros(len(w), np.float32)
    for coefficient in randomness.TABLE[::-1]:
        z = z * t
        z = z + coefficient[row]
    return np.where(w >> 31, -z, z)


@njit
def from_words(w):
    z = np.empty(len(w), np.float32)
    for i in range(len(w)):
        z[i] = normal_from_word(w[i])
    return z


def u64(*values):
    return np.array(values, np.uint64)


def sample(networks, size, tensor=0, seed=5):
    """Normals of one stream: draws 0, 1, ..."""
    keys = np.full(networks, key(seed, "test", {}), np.uint64)
    return normals(keys, np.arange(networks, dtype=np.uint64), tensor, size)


@pytest.fixture(scope="module")
def million():
    return sample(1000, 1000).ravel().astype(np.float64)


# Philox


@pytest.mark.parametrize(
    ("counter", "keys", "answer"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((MASK,) * 4, (MASK,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_gives_the_published_answers(counter, keys, answer):
    assert philox(*counter, *keys) == answer
    assert slow_philox(counter, keys) == answer


WORD32, WORD64 = st.integers(0, MASK), st.integers(0, 2**64 - 1)


@COMPILES
@given(st.tuples(*[WORD32] * 4), st.tuples(WORD32, WORD32))
def test_philox_equals_the_slow_one(counter, keys):
    assert philox(*counter, *keys) == slow_philox(counter, keys)


@COMPILES
@given(WORD64, WORD64, WORD32, st.integers(1, 20))
def test_words_are_philox_at_their_address(stream, draw, tensor, size):
    got = words(u64(stream), u64(draw), tensor, size)
    assert got.tolist() == [[slow_word(stream, draw, tensor, e) for e in range(size)]]


def test_words_far_into_a_tensor():
    got = words(u64(7), u64(2**40 + 3), 9, 1_000_003)[0]
    for element in (0, 2047, 2048, 123_457, 1_000_002):
        assert got[element] == slow_word(7, 2**40 + 3, 9, element)


# addressing


@pytest.mark.parametrize("fill", [words, normals])
@COMPILES
@given(streams=st.lists(st.tuples(WORD64, WORD64), min_size=1, max_size=40), size=st.integers(0, 90), seed=WORD32)
def test_a_draw_does_not_depend_on_its_batch(fill, streams, size, seed):
    keys, draws = np.array(streams, np.uint64).T
    batch = fill(keys, draws, 3, size)
    assert batch.shape == (len(keys), size)
    order = np.random.default_rng(seed).permutation(len(keys))
    np.testing.assert_array_equal(fill(keys[order], draws[order], 3, size), batch[order])
    for i in range(len(keys)):
        np.testing.assert_array_equal(fill(keys[i : i + 1], draws[i : i + 1], 3, size)[0], batch[i])


@pytest.mark.parametrize("fill", [words, normals])
def test_the_first_elements_do_not_depend_on_size(fill):
    keys, draws = u64(1, 2, 3), u64(0, 0, 9)
    whole = fill(keys, draws, 1, 5000)
    for size in (0, 1, 3, 4, 17, 1024, 2049, 4999):
        np.testing.assert_array_equal(fill(keys, draws, 1, size), whole[:, :size])


@pytest.mark.parametrize("fill", [words, normals])
def test_no_networks(fill):
    assert fill(u64(), u64(), 0, 6).shape == (0, 6)


def test_every_part_of_the_address_counts():
    base = (1, 2, 3)
    others = [(2, 2, 3), (1 + 2**32, 2, 3), (1, 3, 3), (1, 2 + 2**32, 3), (1, 2, 4), (2, 1, 3), (3, 2, 1)]
    rows = [words(u64(k), u64(d), t, 64)[0] for k, d, t in [base, *others]]
    assert len(np.unique(np.concatenate(rows))) == 64 * len(rows)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (([1], u64(1), 0, 1), TypeError, "keys must be a uint64 array"),
        ((u64(1), np.array([1]), 0, 1), TypeError, "draws must be a uint64 array"),
        ((u64(1), u64(1, 2), 0, 1), ValueError, "got 1 and 2"),
        ((u64(1), u64(1), -1, 1), ValueError, "tensor"),
        ((u64(1), u64(1), 2**32, 1), ValueError, "tensor"),
        ((u64(1), u64(1), 0, -1), ValueError, "size"),
        ((u64(1), u64(1), 0, 2**34 + 1), ValueError, "size"),
    ],
)
@pytest.mark.parametrize("fill", [words, normals])
def test_refusals(fill, arguments, error, says):
    with pytest.raises(error, match=says):
        fill(*arguments)


# normals: bits

GOLDEN = {
    0x00000000: "40cad08d",
    0x00000001: "40c55364",
    0x00000002: "40c2b92e",
    0x0000003F: "40b1682d",
    0x00001000: "40986a4e",
    0x00ABCDEF: "4032ab5b",
    0x12345678: "3fbbd932",
    0x3FFFFFFF: "3f2cab5d",
    0x40000000: "3f2cab5c",
    0x5EADBEEF: "3eaa20b3",
    0x7FFFFFFF: "30800000",
    0x80000000: "c0cad08d",
    0xDEADBEEF: "beaa20b3",
    0xFFFFFFFF: "b0800000",
}


@pytest.mark.parametrize("word", GOLDEN, ids=hex)
def test_golden_bits(word):
    assert f"{np.float32(normal_from_word(np.uint32(word))).view(np.uint32):08x}" == GOLDEN[word]


def test_golden_digest():
    z = normals(np.full(64, 0x0123456789ABCDEF, np.uint64), np.arange(64, dtype=np.uint64), 5, 4099)
    assert (
        hashlib.sha256(z.astype("<f4").tobytes()).hexdigest()
        == "dc30a76bc45864e2c99b425be0fd720bd7c49b374cbca5f9a14bc3e4acfdf0fe"
    )


def test_normals_are_the_plain_rule_applied_to_words():
    keys, draws = u64(11, 12), u64(0, 1)
    w, z = words(keys, draws, 2, 500_001), normals(keys, draws, 2, 500_001)
    np.testing.assert_array_equal(z.view(np.uint32), plain_normals(w.ravel()).reshape(w.shape).view(np.uint32))
    np.testing.assert_array_equal(z.view(np.uint32), from_words(w.ravel()).reshape(w.shape).view(np.uint32))


@pytest.mark.parametrize("fast", [False, True])
def test_products_and_sums_are_not_fused(fast):
    """Neither marked for it in LLVM's code, nor joined in the machine's; `fast` shows that one could see it."""
    compiled = njit(fastmath=fast)(randomness._fill_normals.py_func)
    compiled.compile("void(uint64[::1], uint64[::1], uint32, int64, float32[::1])")
    (code,), (machine_code,) = compiled.inspect_llvm().values(), compiled.inspect_asm().values()
    products = re.findall(r"= (fmul|fadd) (.*?)(?:<.*>|float)", code)
    assert {kind for kind, _ in products} == {"fmul", "fadd"}
    assert {flags.strip() for _, flags in products} == ({"fast"} if fast else {""})
    if not fast:
        assert not re.search(r"llvm\.(fma|fmuladd)|\b(v?fn?m(add|sub)|fml[as])", code + machine_code)


def words_of_every_octave(each=20_000):
    """Magnitudes spread over all 32 octaves, each octave's ends included."""
    rng = np.random.default_rng(0)
    low = [0, *(2**k for k in range(31))]
    high = [0, *(2 ** (k + 1) - 1 for k in range(31))]
    inside = [rng.integers(a, b, each, endpoint=True) for a, b in zip(low, high, strict=True)]
    return np.concatenate([low, high, *inside]).astype(np.uint32)


def test_the_sign_bit_negates():
    w = words_of_every_octave(1000)
    z = from_words(w)
    assert (z > 0).all()
    np.testing.assert_array_equal(from_words(w | np.uint32(2**31)), -z)


def test_normals_follow_the_exact_quantile():
    w = words_of_every_octave()
    exact = -ndtri((2 * w.astype(np.float64) + 1) / 2**33)
    error = np.abs(from_words(w) - exact)
    assert error.max() < 4.8e-7
    assert np.all(error < 1.5e-7 * np.maximum(exact, 0.02))


def test_the_whole_range_of_magnitudes():
    assert from_words(np.array([0, 2**31 - 1], np.uint32)) == pytest.approx([6.3383, 0], abs=1e-3)


# normals: distribution, at fixed seeds


def test_kolmogorov_smirnov(million):
    assert stats.kstest(million, "norm").pvalue > 0.01


@pytest.mark.parametrize(("order", "moment", "variance"), [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)])
def test_moments(million, order, moment, variance):
    assert abs(np.mean(million**order) - moment) < 4 * math.sqrt(variance / len(million))


def test_tails():
    total, over = 0, np.zeros(2)
    for seed in range(20):
        z = np.abs(sample(512, 4096, seed=seed))
        over += (z > 4).sum(), (z > 5).sum()
        total += z.size
    expected = total * erfc(np.array([4, 5]) / math.sqrt(2))
    assert np.all(np.abs(over - expected) < 4 * np.sqrt(expected))


@pytest.mark.parametrize("what", ["tensors", "draws", "keys", "key bits", "elements"])
def test_neighbours_are_independent(what):
    n = 200_000
    near = {
        "tensors": [normals(u64(8), u64(0), t, n)[0] for t in range(8)],
        "draws": normals(np.full(8, 8, np.uint64), np.arange(8, dtype=np.uint64), 0, n),
        "keys": normals(np.arange(8, dtype=np.uint64), np.zeros(8, np.uint64), 0, n),
        "key bits": normals(np.uint64(1) << np.arange(0, 64, 8, dtype=np.uint64), np.zeros(8, np.uint64), 0, n),
        "elements": normals(u64(8), u64(0), 0, 8 * n).reshape(n, 8).T,
    }[what]
    for power in (1, 2):
        r = np.corrcoef(np.power(near, power, dtype=np.float64))[np.triu_indices(8, 1)]
        assert np.abs(r).max() < 4.5 / math.sqrt(n)
        assert stats.chi2.sf(n * np.sum(r**2), len(r)) > 1e-3


# keys

SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5))
VALUES = st.dictionaries(st.text(max_size=5), st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=5)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "{}"),
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        ({"a": 1.0}, '{"a":1}'),
        ({"a": -0.0}, '{"a":0}'),
        ({"a": 0.1}, '{"a":0.1}'),
        ({"a": 1e-7}, '{"a":1e-07}'),
        ({"a": float(2**53 - 1)}, '{"a":9007199254740991}'),
        ({"a": float(2**53)}, '{"a":9007199254740992.0}'),
        ({"a": 2**60}, '{"a":1152921504606846976}'),
        (
            {"a": np.float64(3), "b": np.int8(-3), "c": np.float32(0.1)},
            '{"a":3,"b":-3,"c":0.10000000149011612}',
        ),
        ({"a": True, "b": np.False_}, '{"a":true,"b":false}'),
        ({"a": 'é"'}, '{"a":"\\u00e9\\""}'),
        ({"a": [1.0, [True], "x"], "b": (2,)}, '{"a":[1,[true],"x"],"b":[2]}'),
    ],
)
def test_canonical_text(values, text):
    assert canonical(values) == text


def other(value):
    """The same value as another kind of number, where there is one."""
    match value:
        case bool() | str():
            return value
        case list():
            return [other(v) for v in value]
        case int():
            return float(value) if abs(value) < 2**53 else value
    return int(value) if value.is_integer() and abs(value) < 2**53 else np.float64(value)


@settings(deadline=None)
@given(VALUES)
def test_canonical_ignores_order_and_the_kind_of_number(values):
    turned = {name: other(values[name]) for name in reversed(values)}
    assert canonical(turned) == canonical(values)


@settings(deadline=None)
@given(VALUES)
def test_canonical_loses_nothing(values):
    assert json.loads(canonical(values)) == values


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), [math.nan]])
def test_canonical_refuses_what_is_not_finite(value):
    with pytest.raises(ValueError, match="finite"):
        canonical({"a": value})


@pytest.mark.parametrize("value", [None, 1j, b"x", {"b": 1}, np.zeros(2), {1}], ids=repr)
def test_canonical_refuses_other_types(value):
    with pytest.raises(TypeError, match="parameter value"):
        canonical({"a": value})


def test_canonical_refuses_names_that_are_not_strings():
    with pytest.raises(TypeError, match="names must be strings"):
        canonical({1: 2})


def test_key_is_the_hash_of_the_rule_seed_statistic_and_values():
    digest = hashlib.sha256(b'[1,7,"injectivity",{"depth":2,"ratio":3.5}]').digest()
    got = key(7, "injectivity", {"ratio": 3.5, "depth": 2.0})
    assert got == int.from_bytes(digest[:8], "little")


def test_keys_differ():
    values = [{}, {"a": 1}, {"a": 2}, {"a": True}, {"a": "1"}, {"a": [1]}, {"b": 1}]
    keys = {key(seed, name, v) for seed in (-1, 0, 1) for name in "xy" for v in values}
    assert len(keys) == 3 * 2 * len(values)


def test_a_changed_table_is_refused(monkeypatch):
    monkeypatch.setattr(randomness, "TABLE_SHA256", "0" * 64)
    with pytest.raises(ImportError, match="normal_table"):
        randomness._load_table()
