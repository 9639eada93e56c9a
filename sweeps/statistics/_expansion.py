"""The parameters that two statistics of deep networks share: how wide each layer is.

m_i = floor(alpha_i n + 1/2). A layer has the ratio `alpha`, or its own.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from sweeps.statistic import Parameters
from sweeps.statistics._layer import row_count

DEEPEST = 4
RATIOS = ("alpha", *(f"alpha_{i}" for i in range(1, DEEPEST + 1)))


class Expansion(Parameters):
    """A network of `depth` layers on n inputs, whose widths follow from expansion ratios."""

    n: int = Field(ge=2, description="number of inputs", json_schema_extra={"unit": "1"})
    depth: int = Field(ge=1, le=DEEPEST, description="number of layers", json_schema_extra={"unit": "layer"})
    alpha: float = Field(
        0.0, ge=0, le=1e5, description="expansion ratio m_i/n of every layer without one of its own; 0: none",
        json_schema_extra={"unit": "1"},
    )  # fmt: skip
    alpha_1: float = Field(
        0.0, ge=0, le=1e5, description="expansion ratio m_1/n of layer 1; 0: alpha", json_schema_extra={"unit": "1"}
    )
    alpha_2: float = Field(
        0.0, ge=0, le=1e5, description="expansion ratio m_2/n of layer 2; 0: alpha", json_schema_extra={"unit": "1"}
    )
    alpha_3: float = Field(
        0.0, ge=0, le=1e5, description="expansion ratio m_3/n of layer 3; 0: alpha", json_schema_extra={"unit": "1"}
    )
    alpha_4: float = Field(
        0.0, ge=0, le=1e5, description="expansion ratio m_4/n of layer 4; 0: alpha", json_schema_extra={"unit": "1"}
    )

    @property
    def widths(self) -> list[int]:
        """m_1, ..., m_depth."""
        own = (self.alpha_1, self.alpha_2, self.alpha_3, self.alpha_4)
        return [row_count(self.n, ratio or self.alpha) for ratio in own[: self.depth]]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(m_i, m_{i-1}) of every layer."""
        return list(zip(self.widths, [self.n, *self.widths], strict=False))

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(m * before for m, before in self.shapes)

    @model_validator(mode="after")
    def _every_layer_has_one_ratio(self) -> Self:
        own = {i: getattr(self, f"alpha_{i}") for i in range(1, DEEPEST + 1)}
        for i, ratio in own.items():
            if ratio and i > self.depth:
                raise ValueError(f"alpha_{i} {ratio} is for a layer beyond depth {self.depth}; leave it out")
            if not ratio and not self.alpha and i <= self.depth:
                raise ValueError(f"layer {i} has no expansion ratio; give alpha_{i}, or alpha for all layers")
        if self.alpha and all(own[i] for i in range(1, self.depth + 1)):
            raise ValueError(f"alpha {self.alpha} is for no layer, as each has its own ratio; leave it out")
        if min(self.widths) < 1:
            i = self.widths.index(0) + 1
            raise ValueError(f"the expansion ratio of layer {i} gives no neuron at n {self.n}; use >= {0.5 / self.n}")
        return self


REALISED = {name: lambda p, name=name: row_count(p.n, getattr(p, name)) / p.n for name in RATIOS}
"""The ratios that layers have, their widths being whole numbers."""
