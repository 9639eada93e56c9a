"""Entry points: `deploy.run_sweep` in Python, `sweeps` on the command line."""

from deploy.session import Where, run_sweep, store_url

__all__ = ["Where", "run_sweep", "store_url"]
