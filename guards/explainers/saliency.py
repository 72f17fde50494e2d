"""Saliency: how steeply the output changes with each input, right where the row is."""

from typing import ClassVar, Literal

from torch import Tensor

from guards.detector import Params
from guards.explainer import Explainer

__all__ = ["Saliency", "SaliencyParams"]


class SaliencyParams(Params):
    """Saliency has nothing to set."""

    method: Literal["saliency"] = "saliency"


class Saliency(Explainer):
    """The gradient with its sign, in output per unit of the input as sent: quick, and blind to what lies further off.

    A category's is the directional derivative from the baseline's embedding to its own. Simonyan, Vedaldi & Zisserman
    2014, "Deep inside convolutional networks"; with the sign, since without it a random
    model's looks like a trained one's.
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
