"""ReLU layers with a bias: how much of it each row bears on a bounded domain, and getting the input back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.frames.bounds import Bounds, bias_bounds
    from sweeps.frames.domain import Domain
    from sweeps.frames.reconstruction import Reconstruction, reconstruct

__all__ = ["Bounds", "Domain", "Reconstruction", "bias_bounds", "reconstruct"]

HOMES = {
    "Bounds": "bounds",
    "Domain": "domain",
    "Reconstruction": "reconstruction",
    "bias_bounds": "bounds",
    "reconstruct": "reconstruction",
}


def __getattr__(name: str) -> Any:
    """Imported when asked for: the parts import each other."""
    if name not in HOMES:
        raise AttributeError(f"module 'sweeps.frames' has no attribute {name!r}")
    return getattr(import_module(f"sweeps.frames.{HOMES[name]}"), name)
