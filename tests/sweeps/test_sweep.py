"""The spec: what is accepted, what a mistake is told, and what the fingerprint covers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps import catalog
from sweeps.errors import SpecError
from sweeps.sweep import Sweep
from tests.conftest import toy_spec
from tests.strategies import specs


@given(specs())
def test_a_sweep_survives_the_round_trip_through_json(spec: dict) -> None:
    sweep = Sweep.of(spec)
    again = Sweep.of(json.loads(sweep.to_json()))
    assert again == sweep
    assert again.fingerprint == sweep.fingerprint


@given(specs(), st.randoms())
def test_the_order_of_keys_does_not_change_the_fingerprint(spec: dict, random) -> None:
    keys, fixed = list(spec), list(spec["fixed"])
    random.shuffle(keys)
    random.shuffle(fixed)
    other = {k: spec[k] for k in keys} | {"fixed": {k: spec["fixed"][k] for k in fixed}}
    assert Sweep.of(other).fingerprint == Sweep.of(spec).fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"device": "cpu"},
        {"points_per_block": 2},
        {"store": {"url": "elsewhere.zarr"}},
        {"track": {"experiment": "x", "by": "size"}},
        {"draws": None, "batches": 3},
        {"fixed": {"steps": 3.0}},
        {"axes": {"size": {"range": [2, 8, 6]}, "shift": [-1, -0.5, 0, 0.5, 1.0], "colour": ["red", "blue"]}},
        {"axes": {"size": [8, 2], "shift": [0, 1, -1, 0.5, -0.5], "colour": ["blue", "red"]}},
        {"budget": {"max_time": "3 d", "max_draws": 10}},
        {"keep": "moments"},
    ],
    ids=lambda c: "-".join(c),
)
def test_the_fingerprint_leaves_out_what_decides_no_number(changes: dict) -> None:
    assert Sweep.of(toy_spec(**changes)).fingerprint == Sweep.of(toy_spec()).fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 4},
        {"draws": 32},
        {"draws_per_batch": 12},
        {"precision": "tf32"},
        {"fixed": {"steps": 4}},
        {"keep": "draws"},
        {"until": {"outcome": "level", "halfwidth": 0.1, "min_draws": 8}},
        {"axes": {"size": [2, 9], "shift": {"linspace": [-1, 1, 5]}, "colour": ["red", "blue"]}},
        {"axes": {"shift": {"linspace": [-1, 1, 5]}, "size": [2, 8], "colour": ["red", "blue"]}},
    ],
    ids=lambda c: "-".join(c),
)
def test_the_fingerprint_covers_what_decides_numbers_and_their_layout(changes: dict) -> None:
    assert Sweep.of(toy_spec(**changes)).fingerprint != Sweep.of(toy_spec()).fingerprint


@pytest.mark.parametrize(
    ("form", "values"),
    [
        ([0.5, 0.25], (0.5, 0.25)),
        ({"linspace": [-0.9, 0.9, 7]}, (-0.9, -0.6, -0.3, 0.0, 0.3, 0.6, 0.9)),
        ({"logspace": [0.001, 10, 5]}, (0.001, 0.01, 0.1, 1.0, 10.0)),
        ({"range": [1, 3]}, (1.0, 2.0, 3.0)),
        ({"range": [6, 2, -2]}, (6.0, 4.0, 2.0)),
    ],
    ids=str,
)
def test_axis_forms_mean_their_plain_values(form: object, values: tuple) -> None:
    assert Sweep.of(toy_spec(axes={"shift": form})).axes["shift"] == values


def test_a_default_said_aloud_is_the_same_sweep() -> None:
    silent, aloud = {"steps": 3}, {"steps": 3, "size": 4, "colour": "red"}
    a, b = (Sweep.of(toy_spec(axes={"shift": [1.0]}, fixed=f)) for f in (silent, aloud))
    assert a.fingerprint == b.fingerprint


def test_defaults_complete_the_fixed_parameters() -> None:
    assert Sweep.of(toy_spec(axes={"shift": [1.0]}, fixed={})).fixed == {
        "size": 4,
        "steps": 3,
        "colour": "red",
    }


nan, inf = float("nan"), float("inf")
BAD = {
    "unknown statistic": ({"statistic": "toi"}, "unknown statistic 'toi'; did you mean 'toy'?"),
    "unknown key": ({"draw": 3}, "unknown key 'draw'; did you mean 'draws'?"),
    "unknown key in a table": ({"store": {"uri": "x"}}, "unknown key 'uri'; did you mean 'url'?"),
    "unknown axis": (
        {"axes": {"shfit": [1.0]}},
        "axes.shfit: unknown parameter of 'toy' 'shfit'; did you mean 'shift'?",
    ),
    "unknown parameter": (
        {"fixed": {"step": 3}},
        "fixed.step: unknown parameter of 'toy' 'step'; did you mean 'steps'?",
    ),
    "out of range on an axis": (
        {"axes": {"shift": [0, 11]}},
        "axes.shift[1] should be less than or equal to 10, got 11",
    ),
    "out of range when fixed": (
        {"fixed": {"steps": 10}},
        "fixed.steps should be less than or equal to 9, got 10",
    ),
    "beyond 64 bits on an axis": (
        {"axes": {"size": [2**63]}},
        "axes.size: value 0 should be a whole number between -2^63 and 2^63 - 1, got 9223372036854775808",
    ),
    "beyond 64 bits when fixed": (
        {"fixed": {"steps": -(10**400)}},
        "fixed.steps should be a whole number between -2^63",
    ),
    "fraction for a whole number": (
        {"axes": {"size": [2.5]}},
        "axes.size[0] should be a valid integer, got 2.5",
    ),
    "text for a number": ({"axes": {"shift": ["1"]}}, "axes.shift[0] should be a valid number, got '1'"),
    "number for text": ({"axes": {"colour": [1]}}, "axes.colour[0] should be a valid string, got 1"),
    "not a number": ({"axes": {"shift": [nan]}}, "axes.shift[0] should be a finite number, got nan"),
    "infinite": ({"axes": {"shift": [inf]}}, "axes.shift[0] should be a finite number, got inf"),
    "empty axis": ({"axes": {"shift": []}}, "axes.shift is empty"),
    "no axes": ({"axes": {}}, "axes must name at least one parameter"),
    "one value for an axis": ({"axes": {"shift": 1.0}}, "axes.shift must be a list of values"),
    "duplicated value": ({"axes": {"shift": [1, 2, 1.0]}}, "axes.shift has 1.0 twice, at positions 0 and 2"),
    "given twice": ({"fixed": {"size": 4}}, "size is given twice, in axes and in fixed = 4"),
    "axis over a length": ({"axes": {"steps": [1, 2]}, "fixed": {}}, "axes.steps: steps sets the length"),
    "grid too large": (
        {"statistic": "faulty", "axes": {name: {"range": [0, 10_000]} for name in ("value", "bad")}, "fixed": {}},
        "10001 x 10001 = 100020001 points, over the limit of 100000000",
    ),
    "axis too long": (
        {"axes": {"shift": {"linspace": [0, 1, 10**9]}}},
        "whole count between 1 and 100000000",
    ),
    "batch too large": ({"draws": 2**26, "draws_per_batch": 2**26}, "over the limit of 67108864"),
    "unknown form": ({"axes": {"shift": {"linspce": [0, 1, 5]}}}, "did you mean 'linspace'?"),
    "wrong form": (
        {"axes": {"shift": {"linspace": [0, 1]}}},
        "linspace takes [start, stop, count], got [0, 1]",
    ),
    "range the wrong way": ({"axes": {"size": {"range": [9, 1]}}}, "range never gets from 9 to 1 in steps of 1"),
    "number too large": ({"axes": {"shift": {"linspace": [0, 10**400, 3]}}}, "a number too large for float64"),
    "span too large": ({"axes": {"shift": {"linspace": [-1e308, 1e308, 3]}}}, "too wide for float64"),
    "nested list": ({"axes": {"shift": [[1.0]]}}, "axes.shift: value 0 should be a number, a text"),
    "list for a value": (
        {"fixed": {"steps": [3]}},
        "should be a number, a text, or true or false, got [3]",
    ),
    "batches of nonsense": (
        {"draws": None, "batches": 2, "draws_per_batch": "x"},
        "draws_per_batch: should be a valid integer, got 'x'",
    ),
    "logspace at zero": ({"axes": {"shift": {"logspace": [0, 1, 3]}}}, "between two positive values"),
    "part of a batch": (
        {"draws": 20},
        "a whole number of batches of draws_per_batch = 8, got 20; the nearest is 16",
    ),
    "draws and batches": ({"batches": 2}, "give draws or batches, not both"),
    "no draws": ({"draws": None}, "draws: is missing"),
    "no batches": ({"draws": None, "batches": 0}, "batches must be a whole number of at least 1, got 0"),
    "draws below one": ({"draws": 0}, "draws: should be greater than or equal to 1, got 0"),
    "negative seed": ({"seed": -1}, "seed: should be greater than or equal to 0, got -1"),
    "seed as text": ({"seed": "7"}, "seed: should be a valid integer, got '7'"),
    "bad name": ({"name": "a/b"}, "name: "),
    "unknown device": ({"device": "gpu"}, "device: should be 'auto', 'cpu' or 'cuda', got 'gpu'"),
    "track by no axis": (
        {"track": {"by": "colours"}},
        "track.by: unknown axis 'colours'; did you mean 'colour'?",
    ),
    "empty store": ({"store": {"url": ""}}, "store.url: "),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_spec_is_told_the_field_the_value_and_what_would_be_right(changes: dict, message: str) -> None:
    with pytest.raises(SpecError) as error:
        Sweep.of(toy_spec(**changes))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("angles", [[0.1, 3.0], [3.0, 0.1], [0.1, 3.0, 0.2]])
def test_what_does_not_fit_at_an_end_of_any_axis_is_refused(angles: list[float]) -> None:
    """Folding needs more memory at larger angles, and the angle fixes no shape."""
    spec = {"name": "a", "statistic": "folding", "draws": 256, "axes": {"width": [3000], "angle": angles}}
    assert Sweep.of(spec | {"axes": {"width": [3000], "angle": [0.1]}, "fixed": {"depth": 14}})
    with pytest.raises(SpecError, match=r"GiB a network, more than .* \(at width = 3000, angle = 3\.0\)"):
        Sweep.of(spec | {"fixed": {"depth": 14}})


def test_toml_that_does_not_parse_is_told_where(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('name = "a"\nstatistic = \n')
    with pytest.raises(SpecError, match=r"bad\.toml: not valid TOML: .*line 2"):
        Sweep.from_toml(path)


HUGE = 16**5000 - 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": HUGE}, r"seed.*, got 0xf+ \.\.\. f{10}$"),
        ({"draws": -HUGE}, r"draws.*, got -0xf+ \.\.\. f{10}$"),
        ({"device": [HUGE]}, r"device.*, got a list with a number of thousands of digits$"),
        ({"axes": {"size": {"range": [1, "a", HUGE]}}}, "range takes .*, got a list with a number of thousands of"),
        ({"axes": {"shift": {"linspace": [0, HUGE, 3]}}}, "too large for float64: a dict with a number of thousands"),
    ],
    ids=["seed", "negative", "list", "form", "range"],
)
def test_a_number_of_thousands_of_digits_is_told_in_one_line(changes: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message) as error:
        Sweep.of(toy_spec(**changes))
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("text", ["a = " + "9" * 5000, "a = " + "[" * 5000], ids=["long number", "deep nesting"])
def test_toml_beyond_reason_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(SpecError, match="not valid TOML"):
        Sweep.from_toml(tmp_path / "bad.toml")


def test_a_byte_order_mark_and_windows_lines_are_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf" + catalog.text("folding-init").replace("\n", "\r\n").encode())
    assert Sweep.from_toml(path) == Sweep.from_toml("folding-init")


def test_the_ends_of_a_form_are_exactly_those_given() -> None:
    for form in ("linspace", "logspace"):
        values = Sweep.of(toy_spec(axes={"shift": {form: [1 / 3, 9.7, 5]}})).axes["shift"]
        assert (values[0], values[-1]) == (1 / 3, 9.7)
    assert Sweep.of(toy_spec(axes={"shift": {"linspace": [1e-300, 1, 3]}})).axes["shift"][0] == 1e-300


def test_a_missing_file_is_told_the_catalog() -> None:
    with pytest.raises(SpecError, match="angle-photos"):
        Sweep.from_toml("nowhere.toml")


def test_a_parameter_given_twice_in_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.toml"
    path.write_text("[axes]\nwidth = [1]\nwidth = [2]\n")
    with pytest.raises(SpecError, match="not valid TOML"):
        Sweep.from_toml(path)
