"""A detector of a third party: the distance of a row from the middle of the reference."""

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from guards import Batch, Detector, Params, Reference

__all__ = ["MedianDistance", "MedianDistanceParams"]


class MedianDistanceParams(Params):
    """Parameters of the median distance."""

    kind: Literal["median_distance"] = "median_distance"
    power: float = Field(default=1.0, gt=0, description="what each column's distance is raised to before the sum")


class MedianDistance(Detector):
    """Distance to the reference's median, in its median absolute deviations, summed over the columns."""

    Params: ClassVar[type[Params]] = MedianDistanceParams
    median: Tensor
    deviation: Tensor

    def __init__(self, params: MedianDistanceParams) -> None:
        super().__init__()
        self.params = params
        for name in ("median", "deviation"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, reference: Reference) -> Self:
        """Take the median and the deviation of each column."""
        x = reference.batch.x.flatten(1)
        self.median = x.nanmedian(0).values
        self.deviation = (x - self.median).abs().nanmedian(0).values.clamp_min(1e-6)
        return self

    def score(self, batch: Batch) -> Tensor:
        """Sum the columns' distances; a missing value has none."""
        distance = (batch.x.flatten(1) - self.median).abs() / self.deviation
        return distance.pow(self.params.power).nan_to_num(0.0, posinf=torch.inf).sum(1)
