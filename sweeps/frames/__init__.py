"""ReLU layers with a bias: how much of it each row bears on a bounded domain, and getting the input back."""

from sweeps.frames.bounds import Bounds, bias_bounds
from sweeps.frames.domain import Domain
from sweeps.frames.reconstruction import Reconstruction, reconstruct

__all__ = ["Bounds", "Domain", "Reconstruction", "bias_bounds", "reconstruct"]
