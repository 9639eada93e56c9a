"""Sweeps at rest: the Zarr store, queries in xarray, MLflow runs, figures, copies for others."""

from storage.content import content_hash
from storage.distributions import histogram, quantiles
from storage.query import open_sweep

__all__ = ["content_hash", "histogram", "open_sweep", "quantiles"]
