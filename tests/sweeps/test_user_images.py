"""A user's images: what is read of hand-written bytes, and that all else is refused in one line."""

from __future__ import annotations

import gzip
import os
import pickle
import shutil
import struct
import zipfile
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from sweeps.errors import SpecError
from sweeps.inputs import files, pixels, user_images
from sweeps.inputs.user_images import load, pin

GREY = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)  # rows and columns differ, and no pixel is like another
COLOUR = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)  # channels, rows, columns


def idx_bytes(*lengths, kind=8, data=None):
    data = bytes(range(int(np.prod(lengths)))) if data is None else data
    return struct.pack(f">BBBB{len(lengths)}I", 0, 0, kind, len(lengths), *lengths) + data


def cifar_bytes(*labels):
    """Records whose pixel (channel, row, col) is channel * 80 + row * 2 + col % 2, counted up by hand."""
    rows = [bytes([channel * 80 + row * 2 + col % 2 for col in range(32)]) for channel in range(3) for row in range(32)]
    return b"".join(bytes([label]) + b"".join(rows) for label in labels)


def save(path, image, **options):
    """(channels, rows, cols) as Pillow has it, columns first in its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(path, **options)
    return path


def loaded(path):
    return load(pin(str(path)))


def refusal(path):
    """The one line by which a path is refused."""
    with pytest.raises(ValueError) as error:  # noqa: PT011
        pin(str(path))
    assert "\n" not in str(error.value)
    assert repr(str(path))[:-1] in str(error.value) or "cannot be found" in str(error.value)
    return str(error.value)


# --- what is read ---------------------------------------------------------------------------------------


def test_idx_images_and_the_labels_beside_them(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(
        b"\0\0\x08\x03" + b"\0\0\0\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + bytes([*range(6), *range(250, 256)])
    )
    images, labels = loaded(path)
    assert images.dtype == np.float32
    assert labels is None
    np.testing.assert_array_equal(images[0], GREY / np.float32(255))
    np.testing.assert_array_equal(images[1, 0, 1], np.float32([253, 254, 255]) / np.float32(255))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + b"\0\0\0\x02" + bytes([7, 3]))
    again, labels = loaded(path)
    np.testing.assert_array_equal(again, images)
    assert labels.dtype == np.int64
    assert labels.tolist() == [7, 3]


def test_cifar_records_and_a_folder_of_them(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(cifar_bytes(3, 9))
    (tmp_path / "data_batch_1.bin").write_bytes(cifar_bytes(1))
    (tmp_path / "data_batch_2.bin").write_bytes(cifar_bytes(2, 0, 4))
    (tmp_path / "batches.meta.txt").write_text("airplane")
    images, labels = loaded(tmp_path / "test_batch.bin")
    assert images.shape == (2, 3, 32, 32)
    assert labels.tolist() == [3, 9]
    assert np.rint(255 * images[1, 2, 5, 8]) == 2 * 80 + 5 * 2
    assert np.rint(255 * images[1, 1, 8, 5]) == 1 * 80 + 8 * 2 + 1
    together, labels = loaded(tmp_path)
    assert labels.tolist() == [1, 2, 0, 4]
    np.testing.assert_array_equal(together, images[[0] * 4])


@pytest.mark.parametrize(("array", "expected"), [
    (np.stack([COLOUR, 100 + COLOUR]), np.stack([COLOUR, 100 + COLOUR]) / 255),
    (COLOUR, COLOUR[:, None] / 255),
    (COLOUR.reshape(3, 8), COLOUR.reshape(3, 8, 1, 1) / 255),
    (-COLOUR.astype(np.int16), -COLOUR[:, None].astype(float)),
    (np.asfortranarray(COLOUR[None] / 7), COLOUR[None] / 7),
    (COLOUR.astype(">f4"), COLOUR[:, None]),
    (COLOUR > 5, (COLOUR > 5)[:, None]),
], ids=["uint8", "grey", "vectors", "int16", "fortran", "big-endian", "bool"])  # fmt: skip
def test_npy_arrays(tmp_path, array, expected):
    np.save(tmp_path / "x.npy", array)
    images, labels = loaded(tmp_path / "x.npy")
    np.testing.assert_array_equal(images, expected.astype(np.float32))
    assert images.flags.c_contiguous
    assert labels is None


def test_folders_of_images_by_name_and_of_classes(tmp_path):
    save(tmp_path / "flat" / "b.png", COLOUR)
    save(tmp_path / "flat" / "a.PNG", COLOUR + 100)
    (tmp_path / "flat" / ".DS_Store").write_bytes(b"left by a desktop")
    images, labels = loaded(tmp_path / "flat")
    np.testing.assert_array_equal(images, np.stack([COLOUR + 100, COLOUR]) / np.float32(255))
    assert labels is None
    for name, grey in [("cat/2.png", 2), ("cat/10.png", 10), ("bee/9.png", 9), ("dog/0.png", 0)]:
        save(tmp_path / "classes" / name, GREY + np.uint8(grey))
    images, labels = loaded(tmp_path / "classes")
    assert labels.tolist() == [0, 1, 1, 2]
    np.testing.assert_array_equal(images, np.stack([GREY + grey for grey in (9, 10, 2, 0)]) / np.float32(255))


def test_jpeg_one_bit_and_palette_images(tmp_path):
    smooth = np.linspace(0, 255, 3 * 16 * 8).reshape(3, 16, 8).astype(np.uint8)
    save(tmp_path / "jpeg" / "a.jpg", smooth, quality=100, subsampling=0)
    assert np.abs(255 * loaded(tmp_path / "jpeg").images[0] - smooth).max() <= 3
    (tmp_path / "bits").mkdir()
    Image.fromarray(GREY[0] > 2).save(tmp_path / "bits" / "a.png")
    np.testing.assert_array_equal(loaded(tmp_path / "bits").images[0], GREY > 2)
    (tmp_path / "palette").mkdir()
    Image.fromarray(COLOUR.transpose(1, 2, 0)).quantize(8).save(tmp_path / "palette" / "a.png")
    np.testing.assert_array_equal(loaded(tmp_path / "palette").images[0], COLOUR / np.float32(255))


def test_read_only_and_cached(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(cifar_bytes(1))
    found = loaded(tmp_path)
    assert load(pin(str(tmp_path))) is found
    assert not found.images.flags.writeable
    assert not found.labels.flags.writeable


# --- what a spec says of it -----------------------------------------------------------------------------


def test_a_pin_says_shape_and_content(tmp_path):
    path = tmp_path / "x-images.idx3-ubyte"
    path.write_bytes(idx_bytes(2, 3, 4))
    pinned = pin(str(path))
    assert pinned == f"{path}#shape=2x1x3x4&sha256={sha256(path.read_bytes()).hexdigest()}"
    assert pin(pinned) == pinned
    assert pin("") == ""
    assert files.shape(pinned) == (2, 1, 3, 4)
    (tmp_path / "x-labels.idx1-ubyte").write_bytes(idx_bytes(2))
    digests = [
        sha256((tmp_path / f"x-{kind}-ubyte").read_bytes()).hexdigest() for kind in ("images.idx3", "labels.idx1")
    ]
    text = f"{digests[0]}  'images'\n{digests[1]}  'labels'\n"
    assert files.content(pin(str(path))) == f"shape=2x1x3x4&sha256={sha256(text.encode()).hexdigest()}"


def test_a_folder_is_pinned_by_names_and_bytes_and_not_by_its_place(tmp_path):
    folder = tmp_path / "one"
    for name in ("a/x.png", "b/y.png"):
        save(folder / name, GREY)
    pinned = pin(str(folder))
    digest = sha256((folder / "a" / "x.png").read_bytes()).hexdigest()
    text = f"{digest}  'a/x.png'\n{digest}  'b/y.png'\n"
    assert files.content(pinned) == f"shape=2x1x2x3&sha256={sha256(text.encode()).hexdigest()}"
    shutil.copytree(folder, tmp_path / "two")
    assert files.content(pin(str(tmp_path / "two"))) == files.content(pinned)
    (folder / "b").rename(folder / "c")
    assert files.content(pin(str(folder))) != files.content(pinned)


@pytest.mark.parametrize("change", [
    lambda folder: save(folder / "b" / "y.png", GREY + 1),
    lambda folder: save(folder / "b" / "z.png", GREY),
    lambda folder: (folder / "a" / "x.png").rename(folder / "a" / "w.png"),
], ids=["bytes", "one more", "name"])  # fmt: skip
def test_what_changed_is_refused(tmp_path, change):
    folder = tmp_path / "images"
    for name in ("a/x.png", "b/y.png"):
        save(folder / name, GREY)
    pinned = pin(str(folder))
    files.check([pinned, 3, "text"])
    change(folder)
    for look in (load, lambda text: files.check([text])):
        with pytest.raises(SpecError, match="has changed since the sweep was made"):
            look(pinned)
    shutil.rmtree(folder)
    for look in (load, lambda text: files.check([text])):
        with pytest.raises(SpecError, match="cannot be read: No such file"):
            look(pinned)


def test_an_error_is_of_the_field(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(ValidationError, match="is empty") as error:
        TypeAdapter(user_images.UserImages).validate_python(str(tmp_path / "x"))
    assert error.value.errors()[0]["type"] == "value_error"
    with pytest.raises(SpecError, match="not a pinned file"):
        load(str(tmp_path / "x"))


# --- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data", "words"), [
    ("x-images-idx3-ubyte", b"", "is empty"),
    ("x-images-idx3-ubyte", idx_bytes(2, 2, 3)[:-1], "must have 28 bytes for 2 x 2 x 3 by its header, got 27"),
    ("x-images-idx3-ubyte", idx_bytes(2, 2, 3) + b"\0", "must have 28 bytes for 2 x 2 x 3 by its header, got 29"),
    ("x-images-idx3-ubyte", idx_bytes(2, 2, 3)[:9], "ends within its IDX header"),
    ("x-images-idx3-ubyte", idx_bytes(2, 2, 3, kind=0x0D), "has IDX type 0x0d; only unsigned bytes, 0x08"),
    ("x-images-idx3-ubyte", idx_bytes(12), "holds labels; give the file of images"),
    ("x-images-idx3-ubyte", idx_bytes(1, 3, 2, 2), "must have 3 dimensions (n, rows, cols), got 4"),
    ("x-images-idx3-ubyte", idx_bytes(0, 28, 28), "has no images: its shape is 0 x 28 x 28"),
    ("x-images-idx3-ubyte", idx_bytes(2**20, 32, 33, data=b""), "is too large: 1048576 x 32 x 33 is 4.12 GiB"),
    ("x-images-idx3-ubyte", b"\0\0\x08\0", "is no IDX file: it begins with 00 00 08 00"),
    ("x.gz", gzip.compress(idx_bytes(2, 2, 3), mtime=0), "is compressed with gzip; gunzip it first"),
    ("x.bin", cifar_bytes(3)[:-1], "must be CIFAR-10 records of 3073 bytes each, got 3072 bytes"),
    ("x.bin", bytes(3074), "CIFAR-100, whose records have 3074 bytes, is not read"),
    ("x.bin", cifar_bytes(3, 10), "record 1 has label 10, and labels are 0 to 9"),
    ("data_batch_1", pickle.dumps({b"data": [1]}), "Python pickle, which is never opened"),
    ("x.npy", b"hello", "not a whole .npy file"),
    ("x.npy", b"\x93NUMPY\x01\0\x10\0{'descr': (\n(((([", "not a whole .npy file"),
    ("x.png", b"\x89PNG\r\n\x1a\n", "is one image; give the folder"),
    ("x.jpg", b"\xff\xd8\xff\xe0", "is one image; give the folder"),
    ("x.pkl", pickle.dumps([1], protocol=0), "is none of the kinds that are read"),
    ("x-images-idx3-ubyte", struct.pack("<4I", 0x803, 2, 2, 3), "it begins with 03 08 00 00"),
    ("x.csv", b"1,2,3\n", "is none of the kinds that are read: IDX images, CIFAR-10 (.bin), .npy, or a folder"),
])  # fmt: skip
def test_what_is_no_file_of_images_is_refused(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    assert words in refusal(tmp_path / name)


@pytest.mark.parametrize(("array", "words"), [
    (np.ones(3), "must be (n, channels, rows, cols), (n, rows, cols) or (n, features), got (3,)"),
    (np.ones((1, 1, 1, 1, 1)), "got (1, 1, 1, 1, 1)"),
    (np.ones((5, 32, 32, 3)), "has its channels last, by its shape (5, 32, 32, 3); save numpy.moveaxis(x, -1, 1)"),
    (np.ones((0, 3, 4, 4)), "must be a .npy array of real numbers, got float64 (0, 3, 4, 4)"),
    (np.full((2, 3), np.nan), "has entries that are not finite as float32"),
    (np.full((2, 3), 1e39), "has entries that are not finite as float32"),
    (np.ones((2, 3), complex), "must be a .npy array of real numbers"),
    (np.array([["a"]]), "must be a .npy array of real numbers"),
    (np.zeros((2, 3), [("a", "f4")]), "must be a .npy array of real numbers"),
])  # fmt: skip
def test_what_is_no_array_of_images_is_refused(tmp_path, array, words):
    np.save(tmp_path / "x.npy", array)
    assert words in refusal(tmp_path / "x.npy")


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("sprung",))


def test_no_pickle_is_opened(tmp_path):
    np.save(tmp_path / "object.npy", np.array([Trap()]), allow_pickle=True)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "bare").write_bytes(pickle.dumps(Trap()))
    np.savez(tmp_path / "x.npz", x=np.ones((2, 3)))
    assert "not a whole .npy file" in refusal(tmp_path / "object.npy")
    assert "never opened" in refusal(tmp_path / "bare.npy")
    assert "never opened" in refusal(tmp_path / "bare")
    assert "compressed with zip (.npz is too)" in refusal(tmp_path / "x.npz")
    assert not os.path.exists("sprung")


def test_more_than_one_array_in_a_file_is_refused(tmp_path):
    with (tmp_path / "x.npy").open("wb") as file:
        np.save(file, np.ones((2, 3)))
        np.save(file, np.ones(2))
    whole = 128 + 2 * 3 * 8
    assert f"must have {whole} bytes for (2, 3) by its header, got {whole + 144}" in refusal(tmp_path / "x.npy")


def test_a_batch_of_a_folder_that_is_cut_is_named(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(cifar_bytes(1))
    (tmp_path / "data_batch_2.bin").write_bytes(cifar_bytes(2, 0)[:-1])
    with pytest.raises(ValueError, match=r"data_batch_2\.bin' must be CIFAR-10 records of 3073 bytes each, got 6145"):
        pin(str(tmp_path))


def test_too_much_is_refused_by_its_header(tmp_path, monkeypatch):
    """Sparse files of the size that their headers say, none of which is read."""
    monkeypatch.setattr(np, "isfinite", None)
    with (tmp_path / "x.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (2**15, 2**15 + 1)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * 2**15 * (2**15 + 1))
    with (tmp_path / "x.bin").open("wb") as file:
        file.truncate(3073 * (2**30 // 3072 + 1))
    with (tmp_path / "x-images-idx3-ubyte").open("wb") as file:
        file.write(idx_bytes(2**10, 2**10, 2**10 + 1, data=b""))
        file.truncate(16 + 2**20 * (2**10 + 1))
    for name in ("x.npy", "x.bin", "x-images-idx3-ubyte"):
        assert "is too large: " in refusal(tmp_path / name)
    save(tmp_path / "folder" / "a.png", GREY)
    monkeypatch.setattr(pixels, "LIMIT", 5)
    assert "is too large: 1 x 1 x 2 x 3" in refusal(tmp_path / "folder")


def test_a_decompression_bomb_is_refused_unopened(tmp_path, monkeypatch):
    save(tmp_path / "folder" / "a.png", np.zeros((1, 30, 30), np.uint8))
    monkeypatch.setattr(Image.Image, "load", None)
    for limit in (800, 400):  # Pillow warns beyond its limit, and raises beyond twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert "could be decompression bomb DOS attack" in refusal(tmp_path / "folder")


def folder_of(tmp_path, **images):
    for name, image in images.items():
        save(tmp_path / "folder" / f"{name}.png", image)
    return tmp_path / "folder"


@pytest.mark.parametrize(("make", "words"), [
    (lambda folder: save(folder / "b.png", GREY.transpose(0, 2, 1)),
     "has (channels, rows, cols) = (1, 3, 2), and the first image of its folder (1, 2, 3)"),
    (lambda folder: save(folder / "b.png", np.stack([GREY[0]] * 3)), "has (channels, rows, cols) = (3, 2, 3)"),
    (lambda folder: (folder / "b.png").write_bytes(b""), "is no PNG or JPEG image"),
    (lambda folder: (folder / "b.png").write_bytes(b"GIF89a"), "is no PNG or JPEG image"),
    (lambda folder: Image.new("RGBA", (3, 2)).save(folder / "b.png"), "without transparency, got mode RGBA"),
    (lambda folder: Image.new("I;16", (3, 2)).save(folder / "b.png"), "must be 8-bit grey or RGB"),
    (lambda folder: Image.new("CMYK", (3, 2)).save(folder / "b.jpg"), "got mode CMYK"),
    (lambda folder: Image.new("L", (3, 2)).save(folder / "b.png", transparency=0), "without transparency"),
    (lambda folder: (folder / "notes.txt").write_text("hi"), "must hold PNG and JPEG images alone, got 'notes.txt'"),
    (lambda folder: Image.new("L", (3, 2)).save(folder / "b.bmp"), "got 'b.bmp'; take it out"),
    (lambda folder: save(folder / "cats" / "a.png", GREY), "has images ('a.png') beside folders ('cats')"),
    (lambda folder: (folder / "a.png").unlink(), "holds no images: no PNG, no JPEG and no data_batch_*.bin"),
    (lambda folder: ((folder / "a.png").unlink(), (folder / "cats").mkdir()), "must hold PNG or JPEG images, got none"),
    (lambda folder: ((folder / "a.png").unlink(), save(folder / "cat" / "a" / "a.png", GREY)), "got the folder 'a'"),
    (lambda folder: (folder / "a.png").rename(folder / "a.gif"), "holds no images: no PNG, no JPEG"),
    (lambda folder: ((folder / "a.png").rename(folder / "a.gif"), (folder / "b").mkdir()), "got 'a.gif'; take it out"),
    (lambda folder: shutil.rmtree(folder), "cannot be read: No such file or directory"),
    (lambda folder: os.mkfifo(folder / "b.png"), "is no regular file"),
    (lambda folder: (folder / "b.png").symlink_to("nowhere"), "cannot be read: No such file"),
])  # fmt: skip
def test_what_is_no_folder_of_images_is_refused(tmp_path, make, words):
    folder = folder_of(tmp_path, a=GREY)
    make(folder)
    with pytest.raises(ValueError, match=str(folder)) as error:
        pin(str(folder))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_paths_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is no regular file" in refusal(tmp_path / "pipe")
    assert "is no regular file" in refusal("/dev/zero")
    assert "cannot be read: No such file" in refusal(tmp_path / "x.npy")
    assert "cannot be read: File name too long" in refusal(tmp_path / ("x" * 300))
    assert "cannot be read: embedded null byte" in refusal(tmp_path / "a\0b")
    assert "cannot be found" in refusal("~nobody-of-that-name/x.npy")
    (tmp_path / "hidden").mkdir(mode=0)
    if os.geteuid():
        assert "Permission denied" in refusal(tmp_path / "hidden")
        assert "Permission denied" in refusal(tmp_path / "hidden" / "x.npy")


def whole_files():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (3, 9, 7)).astype(np.uint8)
    yield "x-images-idx3-ubyte", idx_bytes(2, 3, 4)
    yield "x.bin", cifar_bytes(3)
    for name, array in [("u8.npy", noise), ("f4.npy", noise.astype(np.float32))]:
        yield name, array
    for name, options in [
        ("a.png", {}),
        ("a.jpg", {}),
        ("b.jpg", {"progressive": True}),
        ("i.png", {"optimize": True}),
    ]:
        yield name, (noise, options)


@pytest.fixture(scope="module", params=whole_files(), ids=lambda case: case[0])
def whole(request, tmp_path_factory):
    """(the path to give, the file to cut, its bytes)"""
    folder = tmp_path_factory.mktemp("whole")
    name, data = request.param
    path = folder / name
    if isinstance(data, bytes):
        path.write_bytes(data)
    elif isinstance(data, np.ndarray):
        np.save(path, data)
    else:
        save(path, data[0], **data[1])
    given = folder if path.suffix in (".png", ".jpg") else path
    pin(str(given))
    return given, path, path.read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_no_part_of_a_file_passes_for_the_whole(whole, data):
    """Any proper beginning is refused by one line that names it."""
    given_path, path, content = whole
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match=str(path.parent)) as error:
        pin(str(given_path))
    assert "\n" not in str(error.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(whole, data):
    """Bytes changed anywhere: pixels in range, or one line; never anything else."""
    given_path, path, content = whole
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, min(len(content) - 1, 200)))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        images, _ = loaded(given_path)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert images.ndim == 4
        assert np.isfinite(images).all()


def test_a_zip_named_npy_is_no_array(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npy", "w") as archive:
        archive.writestr("x", "y")
    assert "unpack it first" in refusal(tmp_path / "x.npy")
