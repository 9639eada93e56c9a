"""A file for HDF5 to write to, on which no write ever fails.

HDF5 2.0 crashes the process when a write fails under it, on a full disk say. Here the first failure is kept, what
is written from then on stays in memory, and whoever writes asks between two slabs whether to go on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def patient(path: Path) -> Iterator[Sink]:
    """A new file at a path; what failed is raised at the end, if it was not before."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        sink = Sink(file)
        yield sink
        sink.check()
    finally:
        os.close(file)


class Sink:
    """The file-like object that h5py takes, on a file descriptor."""

    def __init__(self, file: int) -> None:
        self.file, self.place, self.end = file, 0, 0
        self.error: OSError | None = None
        self._late: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raise what has failed."""
        if self.error is not None:
            raise self.error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.end}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def write(self, data: bytes | memoryview) -> int:
        data = bytes(data)
        if self.error is None:
            self._put(data)
        if self.error is not None:
            self._late.append((self.place, data))
        self.place += len(data)
        self.end = max(self.end, self.place)
        return len(data)

    def _put(self, data: bytes) -> None:
        try:
            put = 0
            while put < len(data):
                put += os.pwrite(self.file, data[put:], self.place + put)
        except OSError as error:
            self.error = error

    def read(self, size: int) -> bytes:
        found = bytearray(os.pread(self.file, size, self.place).ljust(size, b"\0"))
        for at, data in self._late:
            start, stop = max(at, self.place), min(at + len(data), self.place + size)
            if start < stop:
                found[start - self.place : stop - self.place] = data[start - at : stop - at]
        self.place += size
        return bytes(found)

    def readinto(self, buffer: memoryview) -> int:
        buffer[:] = self.read(len(buffer))
        return len(buffer)

    def truncate(self, size: int) -> int:
        try:
            os.ftruncate(self.file, size)
        except OSError as error:
            self.error = self.error or error
        self.end = size
        return size

    def flush(self) -> None:
        """Nothing is held back."""
