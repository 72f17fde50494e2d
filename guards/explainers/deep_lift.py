"""DeepLIFT: each layer distributes the change of its output over its inputs, in one backward pass."""

import warnings
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from guards.detectors.base import Params
from guards.explainers.base import Explainer, NotExplainableError
from guards.sentences import first_line

__all__ = ["DeepLift", "DeepLiftParams"]


class DeepLiftParams(Params):
    """Parameters of DeepLIFT."""

    method: Literal["deep_lift"] = "deep_lift"
    tolerance: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="share of the output's change that contributions may miss; if they miss more, the row is refused",
    )


class DeepLift(Explainer):
    """Captum's DeepLIFT with the rescale rule, which is applied only to activations that are modules.

    If a model calls activations as functions, the rule is not applied to them. If a pool's maximum lies elsewhere at
    the baseline, a part of the change is lost. Then the contributions do not add up: ``convergence_delta`` shows the
    difference, and an explanation whose difference exceeds the tolerance is refused.
    Shrikumar, Greenside & Kundaje 2017, "Learning important features through propagating activation differences".
    """

    Params: ClassVar[type[Params]] = DeepLiftParams
    params: DeepLiftParams

    def attribute(self, row: Tensor, baseline: Tensor, target: Tensor) -> Tensor:
        """Distribute the change of the output from the baseline over the inputs.

        Raises:
            NotExplainableError: the rule cannot follow the operations of the model.
        """
        from captum.attr import DeepLift as Captum  # noqa: PLC0415 - an extra, and slow to import

        ends, starts = self.subject.split(row, baseline)
        inputs = tuple(part.detach().clone().requires_grad_() for part in ends)
        try:
            with warnings.catch_warnings():
                # Captum warns that it sets hooks, and torch warns of a hook on a whole module: both are intended.
                warnings.filterwarnings("ignore", category=UserWarning, module=r"captum\..*")
                warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
                values = Captum(self.subject).attribute(inputs, starts, additional_forward_args=(target,))
        except (RuntimeError, AssertionError) as unfit:
            reason = first_line(unfit)
            raise NotExplainableError(f"deep_lift: it cannot follow this model ({reason})") from unfit
        merged = self.subject.merge([value.detach() for value in values])
        self.subject.refuse_blind_columns(row, baseline, merged, target, "deep_lift")
        change = self.subject.evaluate(torch.cat([row, baseline]), target.expand(2)).diff().neg()
        missing = (merged.double().sum() - change.double()).abs()
        if bool(missing > self.params.tolerance * change.abs() + 1e-4):
            raise NotExplainableError(
                f"deep_lift: its contributions miss {missing.item():.3g} of the change of {change.item():.3g}: it "
                "follows rectifiers and similar functions only if they are modules (nn.ReLU), and maxima in part; use "
                "integrated_gradients, or make them modules"
            )
        return merged
