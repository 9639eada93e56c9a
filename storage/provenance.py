"""What a copy of a sweep says of itself, so that it can be read and judged without the store it came from."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import xarray as xr

from storage.layout import DERIVED, draws_name, histogram_name
from storage.query import open_sweep, outcomes
from storage.zarr_store import ZarrStore
from sweeps.agenda import Agenda
from sweeps.errors import SpecError, StoreError, unknown

RECEIPTS = 4096  # read at once


def described(store: ZarrStore) -> xr.Dataset:
    """`open_sweep` with the spec, versions, commit and rule of randomness among its attributes: text and numbers,
    tables as JSON, so that every format can hold them.

    Raises:
        StoreError: the store cannot be read, or is being extended.
    """
    ds, found = open_sweep(store.url), store.attributes
    if not ds.attrs["fingerprint"] == found["fingerprint"] == store.sweep.fingerprint:
        raise StoreError(f"{store.url} is being extended; try again")
    tables = {key: json.dumps(found.get(key, {})) for key in ("spec", "versions", "made_by")}
    return ds.assign_attrs(rule=found["rule"], **tables)


def variables_of(outcome: str) -> list[str]:
    """Every name that `open_sweep` may show of an outcome, draws last."""
    return [outcome, *(f"{outcome}_{suffix}" for suffix in DERIVED), histogram_name(outcome), draws_name(outcome)]


def narrowed(ds: xr.Dataset, outcome: str | None, draws: bool) -> xr.Dataset:
    """The part of a Dataset that shows one outcome, unless None; with its draws or without.

    Raises:
        UnknownNameError: no such outcome.
        SpecError: draws are asked for where none are kept.
    """
    known = outcomes(ds)
    if outcome is not None and outcome not in known:
        raise unknown("outcome", outcome, known)
    if draws and draws_name(known[0]) not in ds:
        raise SpecError('the store holds no draws; run the sweep with keep = "draws"')
    wanted = {name for o in ([outcome] if outcome else known) for name in variables_of(o)} | {"converged"}
    hidden = set() if draws else {draws_name(o) for o in known}
    return ds[[name for name in ds.data_vars if name in wanted - hidden]]


def standing(store: ZarrStore) -> tuple[int, int, bool]:
    """(blocks measured, blocks wanted, whether no more will be) of those that the sweep is known to want."""
    agenda = Agenda(store)
    for _ in agenda.start():
        pass
    return agenda.measured, agenda.wanted, bool(agenda.closed.all())


def history(store: ZarrStore) -> dict[str, str]:
    """Where and when the blocks were measured, by the ledger."""
    devices, times, done = set[str](), list[int](), np.flatnonzero(store.done())
    for start in range(0, len(done), RECEIPTS):
        page = store.receipts_of(done[start : start + RECEIPTS])
        devices |= {receipt.device for receipt in page}
        seen = [*times, *(receipt.finished for receipt in page)]
        times = [min(seen), max(seen)]
    found = {"devices": json.dumps(sorted(devices))}
    return found | dict(zip(("first_block", "last_block"), map(_iso, times), strict=False))


def _iso(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds // 10**9, UTC).isoformat()
