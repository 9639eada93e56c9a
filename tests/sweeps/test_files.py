"""A user's array in a spec: pinned by its content, refused when it is not what it was or not an array."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest

from sweeps.blocks import plan
from sweeps.errors import SpecError
from sweeps.inputs import files
from sweeps.measure import sample_block
from sweeps.sweep import Sweep


def archive():
    whole = io.BytesIO()
    np.savez(whole, a=np.ones(3))
    return whole.getvalue()


def spec(path, **fixed):
    return {
        "name": "user",
        "statistic": "injectivity",
        "draws": 8,
        "draws_per_batch": 8,
        "axes": {"alpha": [2.0, 4.0]},
        "fixed": {"n": 2, "rows": "file", "matrix": str(path), **fixed},
    }


@pytest.fixture
def matrix(tmp_path):
    np.save(tmp_path / "weights.npy", np.random.default_rng(0).standard_normal((12, 2)))
    return tmp_path / "weights.npy"


def test_a_spec_holds_what_the_file_holds(matrix):
    sweep = Sweep.of(spec("weights.npy"))
    pinned = str(sweep.fixed["matrix"])
    assert pinned.startswith(f"{matrix}#shape=12x2&sha256=")
    assert files.pin(pinned) == pinned
    assert files.shape(pinned) == (12, 2)
    assert np.array_equal(files.load(pinned), np.load(matrix))
    assert Sweep.of(sweep.model_dump(mode="json")).fingerprint == sweep.fingerprint


def test_where_the_file_lies_changes_nothing(matrix, tmp_path):
    (tmp_path / "elsewhere.npy").write_bytes(matrix.read_bytes())
    one, other = Sweep.of(spec(matrix)), Sweep.of(spec(tmp_path / "elsewhere.npy"))
    assert one.fingerprint == other.fingerprint
    draws, same = (sample_block(s, plan(s)[0])["injective"] for s in (one, other))
    assert np.array_equal(draws, same)


def test_a_store_s_spec_is_valid_where_the_file_is_not(matrix):
    held = Sweep.of(spec(matrix)).to_json()
    matrix.unlink()
    assert Sweep.model_validate_json(held)


def test_a_file_that_changed_is_refused(matrix):
    sweep = Sweep.of(spec(matrix))
    np.save(matrix, np.ones((12, 2)))
    files.load.cache_clear()
    with pytest.raises(SpecError, match="has changed since"):
        sample_block(sweep, plan(sweep)[0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.unlink(), "cannot be read: No such file"),
        (lambda p: p.write_bytes(b"hello"), "not a whole .npy file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-5]), "not a whole .npy file"),
        (lambda p: p.write_bytes(b""), "not a whole .npy file"),
        (lambda p: p.write_bytes(b"PK\x03\x04 and no archive"), "not a whole .npy file"),
        (lambda p: np.save(p, np.full((12, 2), np.longdouble("1e4000"))), "not finite"),
        (lambda p: p.write_bytes(pickle.dumps([1.0])), "not a whole .npy file"),
        (lambda p: np.save(p, np.array([{}], dtype=object), allow_pickle=True), "not a whole .npy file"),
        (lambda p: p.write_bytes(archive()), "an archive"),
        (lambda p: np.save(p, np.ones((12, 2), complex)), "real numbers"),
        (lambda p: np.save(p, np.full((12, 2), np.nan)), "not finite"),
        (lambda p: np.save(p, np.ones((12, 3))), "M x n with n = 2"),
        (lambda p: np.save(p, np.ones(12)), "M x n with n = 2"),
        (lambda p: np.save(p, np.ones((7, 2))), "use alpha <= 3.5"),
        (lambda p: np.save(p, np.float64(1)), "real numbers"),
        (lambda p: np.save(p, np.ones((0, 2))), "real numbers"),
    ],
)
def test_what_is_no_matrix_is_refused_in_one_line(matrix, make, words):
    make(matrix)
    with pytest.raises(SpecError) as error:
        Sweep.of(spec(matrix))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_law_and_its_parameters_go_together(matrix):
    for fixed, words in [
        ({"matrix": ""}, "needs matrix"),
        ({"density": 0.2}, 'density is for rows = "sparse"'),
        ({"rows": "gaussian"}, 'matrix is for rows = "file"'),
        ({"rows": "convolution", "matrix": "", "image_rows": 3}, "whole number of filters"),
    ]:
        with pytest.raises(SpecError) as error:
            Sweep.of(spec(matrix, **fixed))
        assert words in str(error.value)


def test_a_home_that_nobody_has():
    with pytest.raises(SpecError, match="cannot be found"):
        Sweep.of(spec("~nobody-of-that-name/weights.npy"))


def test_two_names_of_one_content_are_one_value(matrix, tmp_path):
    (tmp_path / "elsewhere.npy").write_bytes(matrix.read_bytes())
    data = spec(matrix)
    del data["fixed"]["matrix"]
    data["axes"]["matrix"] = [str(matrix), str(tmp_path / "elsewhere.npy")]
    with pytest.raises(SpecError, match="twice, at positions 0 and 1"):
        Sweep.of(data)
