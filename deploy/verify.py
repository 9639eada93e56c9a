"""Measure committed blocks again and compare: the promise of equal bits, checked on a user's own store."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from storage.zarr_store import ZarrStore
from sweeps.devices import describe, resolve
from sweeps.errors import StoreError


@dataclass(frozen=True)
class Verdict:
    """`elsewhere` blocks were measured on another kind of device, where equal bits are not promised."""

    tried: int
    equal: int
    elsewhere: int
    lines: tuple[str, ...]


def verify(store: ZarrStore, blocks: int, seed: int) -> Verdict:
    """Recompute `blocks` committed blocks chosen by `seed`; fewer where fewer are committed."""
    device = resolve(store.sweep.device)
    cut, committed = store.plan, [int(i) for i in np.flatnonzero(store.done())]
    chosen = sorted(random.Random(seed).sample(committed, min(blocks, len(committed))))
    lines, equal, elsewhere = [], 0, 0
    for index in chosen:
        try:
            receipt = store.receipt(cut[index])
            if receipt is not None and receipt.device != describe(device):
                elsewhere += 1
                continue
            differing = store.verify(cut[index], device)
        except StoreError as error:
            lines.append(str(error))
            continue
        equal += not differing
        if differing:
            lines.append(f"block {index}: {', '.join(differing)} differ from what measuring it again gives")
    return Verdict(len(chosen) - elsewhere, equal, elsewhere, tuple(lines))
