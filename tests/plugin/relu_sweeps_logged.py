"""A store that writes down every write, so that tests can see what was measured, where, and whether in vain."""

import os
from pathlib import Path

from storage.zarr_store import ZarrStore


class LoggedStore(ZarrStore):
    """`log` gets a line a write: block, whether it was committed before, process."""

    @property
    def log(self) -> Path:
        return Path(self.url + ".log")

    def write(self, block, measured, *, device, seconds):
        before = self.receipt(block) is not None
        with self.log.open("a") as file:
            file.write(f"{block.index} {int(before)} {os.getpid()}\n")
        return super().write(block, measured, device=device, seconds=seconds)

    def lines(self) -> list[tuple[int, int, int]]:
        return [tuple(map(int, line.split())) for line in self.log.read_text().splitlines()]  # type: ignore[misc]
