"""Sweeps at rest: the Zarr store, queries in xarray, MLflow runs, figures."""

from storage.query import open_sweep

__all__ = ["open_sweep"]
