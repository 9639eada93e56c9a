"""A store whose next write fails on demand, and that notes what is written twice; for `sweeps chaos`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from storage.layout import COMMIT
from storage.objects import local_path
from storage.zarr_store import ZarrStore
from sweeps.blocks import Block
from sweeps.events import Receipt
from sweeps.measure import Measured


class FlakyStore(ZarrStore):
    """A file in the folder beside the store orders a failure; whoever takes it away first fails."""

    _failing = False
    _writing = False

    @property
    def folder(self) -> Path:
        path = Path(local_path(self.url) + ".chaos")
        path.mkdir(exist_ok=True)
        return path

    def order_failure(self, stage: str) -> None:
        """The next write fails: at its first chunk (`chunk`), or when all but the mark is written (`mark`)."""
        (self.folder / "fail").write_text(stage)

    def again(self) -> int:
        """How many writes found their block committed already."""
        path = self.folder / "again"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def write(self, block: Block, measured: Measured, *, device: str, seconds: float) -> Receipt:
        if self.receipt(block) is not None:
            with (self.folder / "again").open("a") as file:
                file.write(f"{block.index}\n")
        self._stage = self._ordered()
        self._writing = True
        try:
            return super().write(block, measured, device=device, seconds=seconds)
        finally:
            self._writing = False

    def array(self, piece: int, name: str) -> Any:
        if self._writing and self._stage == ("mark" if name == COMMIT else "chunk"):
            raise OSError("failed on purpose")
        return super().array(piece, name)

    def _ordered(self) -> str:
        """The failure that was ordered, if nobody else took it."""
        taken = self.folder / f"taken-{os.getpid()}"
        try:
            os.rename(self.folder / "fail", taken)
        except FileNotFoundError:
            return ""
        return taken.read_text()
