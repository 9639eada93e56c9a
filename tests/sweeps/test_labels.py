"""Labels in the file beside a user's images: what is read and pinned, and that all else is refused in one line."""

from __future__ import annotations

import gzip
import os
import pickle
from hashlib import sha256

import numpy as np
import pytest

from sweeps.errors import SpecError
from sweeps.inputs import files
from sweeps.inputs.user_images import load, pin
from tests.sweeps.test_user_images import COLOUR, Trap, idx_bytes, loaded

LABELLED = {"idx": ("x-images-idx3-ubyte", "x-labels-idx1-ubyte"), "npy": ("x.npy", "x-labels.npy")}


def write(path, array):
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        path.write_bytes(idx_bytes(*array.shape, data=array.tobytes()))


@pytest.mark.parametrize("kind", ["int64", "uint8", ">i2", "uint64"])
def test_npy_arrays_and_the_labels_beside_them(tmp_path, kind):
    np.save(tmp_path / "x.npy", COLOUR)
    np.save(tmp_path / "x-labels.npy", np.array([7, 0, 7], kind))
    images, labels = loaded(tmp_path / "x.npy")
    np.testing.assert_array_equal(images, COLOUR[:, None] / np.float32(255))
    assert labels.dtype == np.int64
    assert labels.tolist() == [7, 0, 7]
    assert not labels.flags.writeable


def test_labels_of_an_array_are_pinned_with_it(tmp_path):
    path, beside = tmp_path / "x.npy", tmp_path / "x-labels.npy"
    np.save(path, COLOUR)
    without = pin(str(path))
    assert files.content(without) == f"shape=3x1x2x4&sha256={sha256(path.read_bytes()).hexdigest()}"
    np.save(beside, np.arange(3))
    pinned = pin(str(path))
    digests = [sha256(file.read_bytes()).hexdigest() for file in (path, beside)]
    text = f"{digests[0]}  'images'\n{digests[1]}  'labels'\n"
    assert files.content(pinned) == f"shape=3x1x2x4&sha256={sha256(text.encode()).hexdigest()}"
    files.check([pinned])


@pytest.mark.parametrize("kind", ["idx", "npy"])
def test_labels_that_changed_are_refused(tmp_path, kind):
    path, beside = (tmp_path / name for name in LABELLED[kind])
    write(path, np.zeros((3, 2, 4), np.uint8))
    write(beside, np.array([0, 1, 2], np.uint8))
    pinned = pin(str(path))
    files.check([pinned])
    write(beside, np.array([0, 1, 1], np.uint8))
    assert_changed(pinned)
    beside.unlink()
    assert_changed(pinned)


def assert_changed(pinned):
    for look in (load, lambda text: files.check([text])):
        with pytest.raises(SpecError, match="has changed since the sweep was made"):
            look(pinned)


def test_labels_beside_a_matrix_are_none_of_its_business(tmp_path):
    np.save(tmp_path / "w.npy", np.ones((4, 3)))
    pinned = files.pin(str(tmp_path / "w.npy"))
    (tmp_path / "w-labels.npy").write_bytes(b"anything")
    files.check([pinned])
    assert files.pin(str(tmp_path / "w.npy")) == pinned
    assert files.load(pinned).shape == (4, 3)


def test_labels_that_are_not_theirs_are_refused(tmp_path):
    path, beside = tmp_path / "x-images-idx3-ubyte", tmp_path / "x-labels-idx1-ubyte"
    path.write_bytes(idx_bytes(2, 2, 3))
    for data, words in [
        (idx_bytes(3), "must hold one label for each of 2 images, got shape (3,)"),
        (idx_bytes(2, 1), "must hold one label for each of 2 images, got shape (2, 1)"),
        (idx_bytes(2)[:-1], "must have 10 bytes for 2 by its header, got 9"),
        (idx_bytes(2) + b"\0", "must have 10 bytes for 2 by its header, got 11"),
        (idx_bytes(2)[:6], "ends within its IDX header"),
        (b"", "ends within its IDX header"),
        (idx_bytes(2, kind=9), "has IDX type 0x09; only unsigned bytes"),
        (idx_bytes(0), "has no images: its shape is 0"),
        (gzip.compress(idx_bytes(2), mtime=0), "is no IDX file: it begins with 1f 8b"),
        (pickle.dumps(Trap()), "is no IDX file: it begins with 80"),
    ]:
        beside.write_bytes(data)
        with pytest.raises(ValueError, match="x-labels-idx1-ubyte") as error:
            pin(str(path))
        assert words in str(error.value)
        assert "\n" not in str(error.value)
    assert not os.path.exists("sprung")


@pytest.mark.parametrize(("labels", "words"), [
    (np.arange(3), "must hold one label for each of 2 images, got shape (3,)"),
    (np.zeros((2, 1), int), "must hold one label for each of 2 images, got shape (2, 1)"),
    (np.array([0.0, 1.0]), "must hold whole numbers as labels, got float64"),
    (np.array([True, False]), "must hold whole numbers as labels, got bool"),
    (np.array([0, -1]), "must hold labels from 0 to 65535, got -1 at position 1"),
    (np.array([2**63, 0], np.uint64), "must hold labels from 0 to 65535, got 9223372036854775808 at position 0"),
    (np.array(["cat", "dog"]), "must be a .npy array of real numbers, got <U3 (2,)"),
    (np.zeros(0, int), "must be a .npy array of real numbers, got int64 (0,)"),
    (b"", "is not a whole .npy file of numbers"),
    (b"0\n1\n", "is not a whole .npy file of numbers"),
    (gzip.compress(b"labels", mtime=0), "is not a whole .npy file of numbers"),
    (pickle.dumps(Trap()), "is not a whole .npy file of numbers"),
    (np.array([Trap()] * 2), "is not a whole .npy file of numbers"),
])  # fmt: skip
def test_labels_that_are_not_an_arrays_are_refused(tmp_path, labels, words):
    np.save(tmp_path / "x.npy", np.ones((2, 3)))
    beside = tmp_path / "x-labels.npy"
    beside.write_bytes(labels) if isinstance(labels, bytes) else np.save(beside, labels)
    with pytest.raises(ValueError, match=r"x-labels\.npy") as error:
        pin(str(tmp_path / "x.npy"))
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not os.path.exists("sprung")


@pytest.mark.parametrize("kind", ["idx", "npy"])
def test_labels_that_cannot_be_read_are_not_taken_for_none(tmp_path, kind):
    path, beside = (tmp_path / name for name in LABELLED[kind])
    write(path, np.zeros((3, 2, 4), np.uint8))
    for make, words in [
        (lambda: beside.symlink_to("nowhere"), "cannot be read: No such file"),
        (lambda: os.mkfifo(beside), "is no regular file"),
    ]:
        make()
        with pytest.raises(ValueError, match=beside.name) as error:
            pin(str(path))
        assert words in str(error.value)
        beside.unlink()
    beside.mkdir()
    with pytest.raises(ValueError, match=f"{beside.name}' is no regular file"):
        pin(str(path))
