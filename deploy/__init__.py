"""Entry points: `deploy.run_sweep` and `deploy.submit` in Python, `sweeps` on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import actors  # noqa: F401  (sets what Ray reads when it is imported)

if TYPE_CHECKING:
    from deploy.jobs import submit
    from deploy.session import Where, run_sweep, store_url

__all__ = ["Where", "run_sweep", "store_url", "submit"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: Ray and PyTorch take seconds."""
    if name == "submit":
        from deploy.jobs import submit

        return submit
    if name in __all__:
        from deploy import session

        return getattr(session, name)
    raise AttributeError(f"module 'deploy' has no attribute {name!r}")
