"""The binary version of CIFAR-10: records of 3,073 bytes, a label from 0 to 9 and then 32 x 32 pixels, all reds in
row-major order first, then greens, then blues. One file, or a folder's data_batch_*.bin in the order of their names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sweeps.inputs.pixels import Pixels, check_shape, is_folder, refused, size, unreadable

_IMAGE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32


def read(path: Path) -> Pixels:
    """The images (n, 3, 32, 32) and labels of a file or a folder.

    Raises:
        ValueError: a file is no whole number of records, or has labels beyond 9.
    """
    files = list(batches(path).values()) if is_folder(path) else [path]
    lengths = [_length(file) for file in files]
    check_shape(path, (sum(lengths), *_IMAGE))
    records = [_records(file, length) for file, length in zip(files, lengths, strict=True)]
    together = records[0] if len(records) == 1 else np.concatenate(records)
    return Pixels(together[:, 1:].reshape(-1, *_IMAGE), together[:, 0])


def batches(folder: Path) -> dict[str, Path]:
    """The files that a folder's training set is made of, by name in order; none in another kind of folder."""
    return {path.name: path for path in sorted(folder.glob("data_batch_*.bin"))}


def _length(path: Path) -> int:
    """Records of a file, by its size."""
    found = size(path)
    if not found or found % _RECORD:
        kind = "; CIFAR-100, whose records have 3074 bytes, is not read" if found and not found % 3074 else ""
        raise refused(path, f"must be CIFAR-10 records of {_RECORD} bytes each, got {found} bytes{kind}")
    return found // _RECORD


def _records(path: Path, length: int) -> np.ndarray:
    try:
        records = np.memmap(path, np.uint8, "r", shape=(length, _RECORD))
    except OSError as error:
        raise unreadable(path, error) from None
    if (strange := np.flatnonzero(records[:, 0] > 9)).size:
        label = records[strange[0], 0]
        raise refused(path, f"is no CIFAR-10 file: record {strange[0]} has label {label}, and labels are 0 to 9")
    return records
