"""Sweeps at rest: the Zarr store, queries in xarray, MLflow runs, figures."""

from storage.distributions import histogram, quantiles
from storage.query import open_sweep

__all__ = ["histogram", "open_sweep", "quantiles"]
