"""The randomness rule: every random word is a function of what is drawn, never of who draws it or when.

Words come from Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3",
SC 2011) with key = (key low, key high) and counter = (element // 4, tensor, draw low, draw high);
an element is output element % 4, and the key is a hash of (rule, seed, statistic, the point's values).

A word becomes a normal by the inverse distribution function: the top bit is the sign, and the other 31 bits m
stand for p = (2m + 1) / 2**33 in (0, 1/2). The magnitude -quantile(p) is a cubic in t, one cubic for each of
32 segments of each of 32 octaves of p, in float32 with every product and sum rounded by itself.
docs/randomness.md gives the rule to the bit.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from sweeps.compiled import compiled

RULE = 1
"""Version of the rule; any change to a word or a normal is a new version."""

MAX_SIZE = 2**34
"""Most elements of one tensor: the counter has 32 bits for element // 4."""


def _json(value: Any) -> str:
    match value:
        case bool() | np.bool_():
            return "true" if bool(value) else "false"
        case int() | np.integer():
            return str(int(value))
        case float() | np.floating():
            x = float(value)
            if not math.isfinite(x):
                raise ValueError(f"a parameter value must be finite, got {x}")
            return str(int(x)) if x.is_integer() and abs(x) < 2**53 else repr(x)
        case str():
            return json.dumps(value, ensure_ascii=True)
        case list() | tuple():
            return f"[{','.join(map(_json, value))}]"
    kind = type(value).__name__
    raise TypeError(f"a parameter value must be a bool, int, float, str or list of these, got {kind}: {value!r}")


def canonical(values: Mapping[str, Any]) -> str:
    """The one text of a mapping of parameter values: JSON, keys sorted, no blanks, 1.0 written as 1.

    Raises ValueError for NaN and infinities and TypeError for any other kind of value or key.
    """
    strange = [name for name in values if not isinstance(name, str)]
    if strange:
        raise TypeError(f"parameter names must be strings, got {strange}")
    return "{" + ",".join(entry(name, values[name]) for name in sorted(values)) + "}"


def entry(name: str, value: Any) -> str:
    """A parameter in the text of a point: `"width":64`."""
    return f"{_json(name)}:{_json(value)}"


def key(seed: int, statistic: str, values: Mapping[str, Any]) -> int:
    """The 64-bit stream key of a point of a statistic's grid under a sweep's seed."""
    text = f"[{RULE},{operator.index(seed)},{_json(statistic)},{canonical(values)}]"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def keys(seed: int, statistic: str, points: Iterable[Iterable[str]]) -> np.ndarray:
    """The same of many points, uint64 (points,), each given as its entries in the order of names."""
    begun = hashlib.sha256(f"[{RULE},{operator.index(seed)},{_json(statistic)},{{".encode())
    found = bytearray()
    for entries in points:
        one = begun.copy()
        one.update(f"{','.join(entries)}}}]".encode())
        found += one.digest()[:8]
    return np.frombuffer(found, dtype="<u8").astype(np.uint64)


TABLE_SHA256 = "649b72453b544f4bd93615a74c7cd52caffbc75a87aac49a7efc800bd52ee181"


def _load_table() -> np.ndarray:
    """Coefficients of |z| by power of t and segment: float32 (4, 1024)."""
    text = files("sweeps").joinpath("normal_table.txt").read_text("ascii")
    words = np.array([int(word, 16) for word in text.split()], "<u4")
    digest = hashlib.sha256(words.tobytes()).hexdigest()
    if digest != TABLE_SHA256:
        raise ImportError(f"sweeps/normal_table.txt has sha256 {digest}, not {TABLE_SHA256}: reinstall the package")
    return np.ascontiguousarray(words.view("<f4").astype(np.float32).reshape(1024, 4).T)


TABLE = _load_table()
TABLE.flags.writeable = False
_A0, _A1, _A2, _A3 = TABLE

# Numba widens sums of uint32 to 64 bits, hence the many casts below.
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_HIGH = np.uint64(32)
_LANES = 512  # counters computed together, across networks: small tensors stay fast


@njit(inline="always")
def philox(c0, c1, c2, c3, k0, k1):
    """Four uint32 outputs of Philox4x32-10 (counter words, key words); for use inside kernels."""
    c0, c1, c2, c3 = np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)
    k0, k1 = np.uint32(k0), np.uint32(k1)
    for _ in range(10):
        a, b = _M0 * np.uint64(c0), _M1 * np.uint64(c2)
        c0, c1 = np.uint32(np.uint32(b >> _HIGH) ^ c1 ^ k0), np.uint32(b)
        c2, c3 = np.uint32(np.uint32(a >> _HIGH) ^ c3 ^ k1), np.uint32(a)
        k0, k1 = np.uint32(k0 + _W0), np.uint32(k1 + _W1)
    return c0, c1, c2, c3


@intrinsic
def _leading_zeros(_context, _word):
    def build(_context, builder, _signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))  # undefined at 0; here the word is odd

    return types.uint32(types.uint32), build


@njit(inline="always")
def normal_from_word(word):
    """The float32 standard normal that a uint32 word stands for; for use inside kernels."""
    w = np.uint32(word)
    n = np.uint32((w << np.uint32(1)) | np.uint32(1))  # p = n / 2**33
    octave = _leading_zeros(n)  # pyright: ignore[reportCallIssue]
    a = np.uint32(n << octave)  # top bit set; then 5 bits of segment, 24 of t, 2 dropped
    row = np.uint32((octave << np.uint32(5)) | ((a >> np.uint32(26)) & np.uint32(31)))
    fraction = np.int32((a >> np.uint32(2)) & np.uint32(0xFFFFFF))
    t = np.float32(fraction - np.int32(2**23)) * np.float32(2**-23)  # exact, in [-1, 1)
    z = ((_A3[row] * t + _A2[row]) * t + _A1[row]) * t + _A0[row]
    return -z if w >> np.uint32(31) else z


@compiled
def _fill_lanes(keys, draws, tensor, blocks, start, lanes, out):
    """Fill `out` from block `start` on, the networks' blocks being laid end to end; `lanes` is work space."""
    count = len(out) // 4
    c0, d0, d1, k0, k1 = lanes[0], lanes[1], lanes[2], lanes[3], lanes[4]  # one counter and key a lane
    i, block = start // blocks, start % blocks
    for r in range(count):
        c0[r] = np.uint32(block)
        d0[r], d1[r] = np.uint32(draws[i]), np.uint32(draws[i] >> _HIGH)
        k0[r], k1[r] = np.uint32(keys[i]), np.uint32(keys[i] >> _HIGH)
        block += 1
        if block == blocks:
            block = 0
            i += 1
    for r in range(count):
        x0, x1, x2, x3 = philox(c0[r], tensor, d0[r], d1[r], k0[r], k1[r])
        out[4 * r], out[4 * r + 1], out[4 * r + 2], out[4 * r + 3] = x0, x1, x2, x3


@compiled
def _fill_words(keys, draws, tensor, blocks, out):
    lanes = np.empty((5, _LANES), np.uint32)
    for start in range(0, len(out) // 4, _LANES):
        _fill_lanes(keys, draws, tensor, blocks, start, lanes, out[4 * start : 4 * (start + _LANES)])


@compiled
def _fill_normals(keys, draws, tensor, blocks, out):
    lanes = np.empty((5, _LANES), np.uint32)
    buffer = np.empty(4 * _LANES, np.uint32)
    for start in range(0, len(out) // 4, _LANES):
        normals = out[4 * start : 4 * (start + _LANES)]
        words = buffer[: len(normals)]
        _fill_lanes(keys, draws, tensor, blocks, start, lanes, words)
        for e in range(len(normals)):
            normals[e] = normal_from_word(words[e])


def _stream(name: str, values: np.ndarray) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.dtype != np.uint64 or values.ndim != 1:
        what = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise TypeError(f"{name} must be a uint64 array (networks,), got {what}; use np.asarray({name}, np.uint64)")
    return np.ascontiguousarray(values)


def checked(keys, draws, tensor: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Contiguous keys and draws; raises TypeError or ValueError where the four address nothing."""
    keys, draws = _stream("keys", keys), _stream("draws", draws)
    if len(keys) != len(draws):
        raise ValueError(f"keys and draws must have one entry a network each, got {len(keys)} and {len(draws)}")
    if not 0 <= tensor < 2**32:
        raise ValueError(f"tensor must be in [0, 2**32), got {tensor}")
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"size must be in [0, 2**34], got {size}; split it over several tensors")
    return keys, draws


def _generate(fill, dtype, keys, draws, tensor: int, size: int) -> np.ndarray:
    keys, draws = checked(keys, draws, tensor, size)
    blocks = -(-size // 4)
    out = np.empty(4 * blocks * len(keys), dtype)
    if out.size:
        fill(keys, draws, np.uint32(tensor), blocks, out)
    return np.ascontiguousarray(out.reshape(len(keys), 4 * blocks)[:, :size])


def words(keys: np.ndarray, draws: np.ndarray, tensor: int, size: int) -> np.ndarray:
    """Uniform 32-bit words, uint32 (networks, size), for uint64 keys and draws (networks,).

    `tensor` in [0, 2**32) tells a network's tensors apart. Raises ValueError for a size beyond 2**34.
    """
    return _generate(_fill_words, np.uint32, keys, draws, tensor, size)


def normals(keys: np.ndarray, draws: np.ndarray, tensor: int, size: int) -> np.ndarray:
    """Standard normals, float32 (networks, size): `normal_from_word` of the same `words`."""
    return _generate(_fill_normals, np.float32, keys, draws, tensor, size)
