"""Sweeps at rest: the Zarr store, queries in xarray, MLflow runs, figures, copies for others."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.capacity import half_points
    from storage.content import content_hash
    from storage.distributions import histogram, quantiles
    from storage.finite_size import scaling
    from storage.needs import needed
    from storage.query import open_sweep

__all__ = ["content_hash", "half_points", "histogram", "needed", "open_sweep", "quantiles", "scaling"]

HOMES = {
    "content_hash": "content",
    "half_points": "capacity",
    "histogram": "distributions",
    "needed": "needs",
    "open_sweep": "query",
    "quantiles": "distributions",
    "scaling": "finite_size",
}


def __getattr__(name: str) -> Any:
    """Imported when asked for: a worker needs the store and not xarray."""
    if name not in HOMES:
        raise AttributeError(f"module 'storage' has no attribute {name!r}")
    return getattr(import_module(f"storage.{HOMES[name]}"), name)
