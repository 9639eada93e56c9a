"""Several outcomes as one, with a dimension `outcome`: a figure of it has a panel for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from storage.query import outcomes
from sweeps.errors import SpecError, unknown

SUFFIXES = ("", "_ci_low", "_ci_high", "_theory", "_n", "_undefined")
WORDS = {"proportion": "proportion", "count": "mean count", "real": "mean"}


def side_by_side(ds: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """A Dataset like that of `open_sweep` with one outcome, which holds those of `names` along `outcome`. Lazy.

    Raises:
        UnknownNameError: no such outcome.
        SpecError: an outcome comes twice, or they have not all the same dimensions, kind and units.
    """
    known = outcomes(ds)
    for name in names:
        if name not in known:
            raise unknown("outcome", name, known)
        if list(names).count(name) > 1:
            raise SpecError(f"outcome {name!r} is given twice; name each once")
        for what in ("dims", "kind", "units"):
            mine, first = (ds[n].dims if what == "dims" else ds[n].attrs[what] for n in (name, names[0]))
            if mine != first:
                raise SpecError(
                    f"outcomes side by side must have the same {what}, got {first!r} of {names[0]!r} and {mine!r} of "
                    f"{name!r}; draw them apart"
                )
    title = " and ".join(names)
    together = xr.Variable("outcome", np.array(names, dtype=object))
    shown = {
        title + suffix: xr.concat([_one(ds, name, suffix) for name in names], together)
        for suffix in SUFFIXES
        if any(name + suffix in ds for name in names)
    }
    shown[title].attrs = {**ds[names[0]].attrs, "long_name": WORDS[ds[names[0]].attrs["kind"]]}
    return xr.Dataset({**shown, **({"converged": ds["converged"]} if "converged" in ds else {})}, attrs=ds.attrs)


def _one(ds: xr.Dataset, name: str, suffix: str) -> xr.DataArray:
    """An outcome's variable; NaN where it has none, such as a theory."""
    return ds[name + suffix] if name + suffix in ds else xr.full_like(ds[name], np.nan)
