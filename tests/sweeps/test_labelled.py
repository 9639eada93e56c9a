"""Labelled images: the fixed cut, what is refused, and pairs of examples."""

from __future__ import annotations

import struct
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare
from sklearn.datasets import load_digits

from sweeps.inputs import labelled, user_images
from sweeps.inputs.labelled import choose

ORDER = [12, 5, 6, 18, 9, 10, 14, 7, 16, 19, 17, 13, 8, 4, 15, 3, 2, 11, 1, 0]


def saved(folder, labels, images=None, name="some"):
    """An IDX file with labels beside it, pinned; image i has all pixels i mod 256."""
    n = len(labels)
    images = np.repeat(np.arange(n, dtype=np.uint8), 6) if images is None else images
    path = folder / f"{name}-images-idx3-ubyte"
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, n, 2, 3) + images.tobytes())
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, n) + bytes(labels))
    return user_images.pin(str(path))


def test_digits_are_cut():
    data = labelled.load("digits")
    assert data.train_images.shape == (1437, 1, 8, 8)
    assert data.validation_images.shape == (360, 1, 8, 8)
    assert (len(data.train_labels), len(data.validation_labels), data.classes) == (1437, 360, 10)
    assert (labelled.count("digits"), labelled.shape("digits")) == ((1437, 360), (1, 8, 8))
    assert (data.train_images.dtype, data.train_labels.dtype) == (np.float32, np.int64)
    grey, classes = load_digits(return_X_y=True)
    theirs = Counter((row.tobytes(), int(label)) for row, label in zip(grey / 16, classes, strict=True))
    ours = Counter()
    for images, labels in (data[:2], data[2:4]):
        ours.update((x.ravel().astype(float).tobytes(), int(y)) for x, y in zip(images, labels, strict=True))
    assert ours == theirs
    with pytest.raises(ValueError, match="read-only"):
        data.train_images[0] = 0


def test_fewer_examples_are_the_first_of_all():
    some, all_of_them = labelled.load("digits", examples=101), labelled.load("digits")
    assert (len(some.train_labels), len(some.validation_labels)) == labelled.count("digits", examples=101) == (80, 21)
    both = np.concatenate([some.train_images, some.validation_images])
    np.testing.assert_array_equal(both, all_of_them.train_images[:101])


def test_the_cut_is_one_for_all_files_of_a_size(tmp_path):
    """Fixed for good: stored sweeps would mean something else under another cut."""
    data = labelled.load("file", saved(tmp_path, [0, 1, 2, 5] * 5))
    assert data.classes == 6
    order = np.rint(np.concatenate([data.train_images, data.validation_images])[:, 0, 0, 0] * 255).astype(int)
    assert sorted(order) == list(range(20))
    np.testing.assert_array_equal(
        np.concatenate([data.train_labels, data.validation_labels]), np.array([0, 1, 2, 5] * 5)[order]
    )
    assert order.tolist() == ORDER
    assert labelled.shape("file", saved(tmp_path, [0, 1] * 9)) == (1, 2, 3)


def made(train, validation):
    labels = np.zeros(1, np.int64)
    return labelled.Labelled(train.astype(np.float32), labels, validation.astype(np.float32), labels, 2)


def test_standardised_by_the_training_images():
    rng = np.random.default_rng(3)
    train, validation = (rng.normal([[[5.0]], [[-2.0]]], [[[3.0]], [[0.01]]], (n, 2, 3, 4)) for n in (50, 7))
    given = made(train, validation)
    found = labelled.standardised(given)
    assert found.train_images.dtype == found.validation_images.dtype == np.float32
    assert not found.train_images.flags.writeable
    assert not found.validation_images.flags.writeable
    np.testing.assert_allclose(found.train_images.mean((0, 2, 3)), 0, atol=2e-6)
    np.testing.assert_allclose(found.train_images.std((0, 2, 3)), 1, atol=2e-6)
    for c in (0, 1):
        x = given.train_images[:, c].astype(np.float64)
        expected = (given.validation_images[:, c] - x.mean()) / x.std()
        np.testing.assert_allclose(found.validation_images[:, c], expected, rtol=1e-6)
    assert found.train_labels is given.train_labels


def test_a_channel_of_one_value_is_made_0():
    images = np.full((7, 2, 3, 3), 0.1)
    images[:, 1, 0, 0] = 1
    found = labelled.standardised(made(images, images + 0.25))
    assert not found.train_images[:, 0].any()
    np.testing.assert_allclose(found.validation_images[:, 0], 0.25, rtol=1e-6)
    assert found.train_images[:, 1].std() == pytest.approx(1)


def refusal(*of) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        labelled.load(*of)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_refused(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((20, 2, 3)))
    assert "the images need labels, and" in refusal("file", user_images.pin(str(path)))
    assert "at least 2 classes" in refusal("file", saved(tmp_path, [3] * 20))
    assert "examples must be at least 10" in refusal("file", saved(tmp_path, [0, 1] * 4))
    assert "examples must be at least 10, 8 to train with and 2 to validate with, got 9" in refusal("digits", "", 9)
    assert "got -1" in refusal("digits", "", -1)
    assert "1798 examples were asked for, and 'digits' has 1797" in refusal("digits", "", 1798)
    assert "needs path" in refusal("file")
    assert "did you mean 'digits'" in refusal("digit")


def test_counting_reads_nothing(tmp_path):
    pinned = saved(tmp_path, [0, 1] * 10)
    for path in tmp_path.iterdir():
        path.unlink()
    assert labelled.count("file", pinned) == (16, 4)
    assert labelled.shape("file", pinned) == (1, 2, 3)


LABELS = np.array([0, 2, 2, 0, 4, 2, 0, 2])


def wanted(of, i, j) -> bool:
    return i != j and (of == "any" or (LABELS[i] == LABELS[j]) == (of == "within"))


@pytest.mark.parametrize("of", ["any", "within", "between"])
def test_pairs_are_uniform(of):
    words = np.random.default_rng(5).integers(0, 2**32, (100, 400, 2), dtype=np.uint32)
    chosen = choose(LABELS, words, of)
    assert chosen.shape == words.shape
    counts = Counter(map(tuple, chosen.reshape(-1, 2).tolist()))
    pairs = [(i, j) for i in range(8) for j in range(8) if wanted(of, i, j)]
    assert set(counts) == set(pairs)
    assert chisquare([counts[pair] for pair in pairs]).pvalue > 1e-4


@pytest.mark.parametrize("of", ["any", "within", "between"])
def test_vertices_of_paths_are_a_walk(of):
    words = np.random.default_rng(6).integers(0, 2**32, (30000, 4), dtype=np.uint32)
    chosen = choose(LABELS, words, of)
    np.testing.assert_array_equal(chosen[:, :3], choose(LABELS, words[:, :3], of))
    for first, second in ((1, 2), (2, 3)):
        counts = Counter(map(tuple, chosen[:, [first, second]].tolist()))
        pairs = [(i, j) for i in range(8) for j in range(8) if wanted(of, i, j)]
        assert set(counts) == set(pairs)
        assert chisquare([counts[pair] for pair in pairs]).pvalue > 1e-4


@pytest.mark.parametrize("word", [0, 2**32 - 1])
@pytest.mark.parametrize("of", ["any", "within", "between"])
def test_extreme_words(of, word):
    many = np.arange(100_000) % 10
    for labels in (LABELS, many):
        i, j = choose(labels, np.full(2, word, np.uint32), of)
        assert i != j
        assert of == "any" or (labels[i] == labels[j]) == (of == "within")


@pytest.mark.parametrize(("labels", "of", "said"), [
    ([0, 1, 2], "within", "pairs within a class need two examples of one class"),
    ([1, 1, 1], "between", "pairs between classes need examples of two classes"),
    ([0, 1], "betwen", "unknown pairs 'betwen'; did you mean 'between'"),
])  # fmt: skip
def test_pairs_that_are_refused(labels, of, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        choose(np.array(labels), np.zeros(2, np.uint32), of)
    assert said in str(error.value)
