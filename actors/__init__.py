"""Sweeps in motion: executors in this process and on Ray, and the worker.

Ray reads these when it is imported, and every import of ours that leads to Ray passes here first.
"""

import os

os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
