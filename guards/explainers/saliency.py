"""Saliency: the slope of the output in each input, at the row."""

from typing import ClassVar, Literal

from torch import Tensor

from guards.detectors.base import Params
from guards.explainers.base import Explainer

__all__ = ["Saliency", "SaliencyParams"]


class SaliencyParams(Params):
    """Saliency has nothing to set."""

    method: Literal["saliency"] = "saliency"


class Saliency(Explainer):
    """The gradient with its sign, in units of output per unit of the input as sent: quick, and local to the row.

    For an embedded category it is the directional derivative from the baseline's embedding to the category's embedding.
    Simonyan, Vedaldi & Zisserman 2014, "Deep inside convolutional networks". The sign is kept, because without signs
    the saliency of a random model looks like the saliency of a trained model.
    """

    Params: ClassVar[type[Params]] = SaliencyParams
    complete: ClassVar[bool] = False

    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        """Take the gradient at the row.

        Raises:
            NotExplainableError: the model is not differentiable in a categorical column that matters here.
        """
        ends, starts = self.subject.split(row, baseline)
        _, (first, *rest) = self.subject.gradient(ends, target)
        towards = [slope * (end - start) for slope, end, start in zip(rest, ends[1:], starts[1:], strict=True)]
        scale = 1.0 if self.subject.model.imputation is None else self.subject.model.imputation.scale
        merged = self.subject.merge([first * scale, *towards])
        self.subject.refuse_blind_columns(row, baseline, merged, target, "saliency")
        return merged
