"""What statistics share on images: which of a family as parameters, and whether filters fit them."""

from __future__ import annotations

from pydantic import Field

from sweeps.inputs.user_images import UserImages
from sweeps.statistic import Parameters


class InputParameters(Parameters):
    """What decides the inputs of a family, see docs/inputs.md; what a family does not need is not looked at."""

    correlation: float = Field(
        0.5,
        ge=-1,
        le=1,
        description="cosine of the inputs, where the family has one to choose",
        json_schema_extra={"unit": "1"},
    )
    side: int = Field(
        32,
        ge=1,
        le=256,
        description="side of the images, where the family leaves it open",
        json_schema_extra={"unit": "pixel"},
    )
    cell: int = Field(
        8,
        ge=1,
        le=256,
        description="side of the squares of blobs, and of the gaps between the bands of parallel-patches",
        json_schema_extra={"unit": "pixel"},
    )
    path: UserImages = Field("", description='images that inputs = "file" takes: .npy, IDX, CIFAR-10 or a folder')


def check_filters(filter_side: int, pool_layers: int, depth: int, image: tuple[int, int, int]) -> None:
    """Refuse filters or pooling that the image of a convolutional network has no room for.

    Raises:
        ValueError: what is wrong, its value and what would be right.
    """
    if filter_side % 2 == 0:
        raise ValueError(f"filter_side must be odd, got {filter_side}; use {filter_side + 1}")
    _, rows, columns = image
    pooled = min(pool_layers, depth)
    if rows % 2**pooled or columns % 2**pooled:
        raise ValueError(
            f"pool_layers {pool_layers} halves images {pooled} times, and {rows} x {columns} pixels cannot "
            f"be; use fewer, or a side that is a multiple of {2**pooled}"
        )
    smallest = min(rows, columns) >> (pooled if pooled < depth else max(pooled - 1, 0))
    if filter_side > smallest:
        raise ValueError(
            f"filter_side {filter_side} is larger than the image that a layer sees ({smallest} pixels); use "
            f"a smaller one, a larger image or fewer pool_layers"
        )
