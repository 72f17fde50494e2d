"""Gradient SHAP: expected gradients at random places between baselines and the row."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from guards.detectors.base import Params
from guards.explainers.base import Explainer, seed_of

__all__ = ["GradientShap", "GradientShapParams"]


class GradientShapParams(Params):
    """Parameters of gradient SHAP."""

    method: Literal["gradient_shap"] = "gradient_shap"
    steps: int = Field(default=64, ge=1, le=1024, description="gradient evaluations for each baseline")
    noise: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="standard deviation of noise added to the row",
    )


class GradientShap(Explainer):
    """The mean of gradient times change, at one random place in each of the equal pieces of a path.

    Captum's implementation draws every place from the whole path, with the global random state. Here a row's content
    seeds the draws, and each piece of the path has one draw, which leaves a fraction of the variance. Erion et al.
    2021, "Improving performance of deep learning models with axiomatic attribution priors and expected gradients".
    """

    Params: ClassVar[type[Params]] = GradientShapParams
    params: GradientShapParams

    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        """Average gradient times change over the path from the baseline to the row.

        Raises:
            NotExplainableError: the model is not differentiable in a categorical column that matters here.
        """
        ends, starts = self.subject.split(row, baseline)
        n = self.params.steps
        generator = torch.Generator().manual_seed(seed_of(row))
        places = ((torch.arange(n) + torch.rand(n, generator=generator)) / n).to(row.device)
        points, gaps = [], []
        for index, (end, start) in enumerate(zip(ends, starts, strict=True)):
            along = places.view(-1, *[1] * (end.ndim - 1))
            gap = end - start
            points.append(start + along * gap)
            if self.params.noise and index == 0:  # never on a category, which is not interpolated either
                drawn = torch.randn(points[0].shape, generator=generator).to(row.device)
                points[0] = points[0] + along * self.params.noise * torch.where(gap == 0, 0.0, drawn)
            gaps.append(gap)
        _, gradients = self.subject.gradient(tuple(points), target.expand(n))
        merged = self.subject.merge(
            [(slope.double() * gap).mean(0, keepdim=True) for slope, gap in zip(gradients, gaps, strict=True)]
        )
        self.subject.refuse_blind_columns(row, baseline, merged, target, "gradient_shap")
        return merged
