"""Integrated gradients: each input's share of the way from a baseline's output to the row's."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from guards.detector import Params
from guards.explainer import Attribution, Explainer, NotExplainableError
from guards.model import TorchModel
from guards.schema import InputSchema

__all__ = ["IntegratedGradients", "IntegratedGradientsParams"]


class IntegratedGradientsParams(Params):
    """Parameters of integrated gradients."""

    method: Literal["integrated_gradients"] = "integrated_gradients"
    steps: int = Field(default=32, ge=1, le=1024, description="gradient evaluations along the path")


class IntegratedGradients(Explainer):
    """Captum's integrated gradients by Gauss-Legendre quadrature, on the target's logit or the value.

    The baseline is zero for images and tensors, and the imputed values for tables: a row with nothing known. For a
    model with one logit z, the logit of its first class is -z. Sundararajan, Taly & Yan 2017, "Axiomatic attribution
    for deep networks".
    """

    Params: ClassVar[type[Params]] = IntegratedGradientsParams

    def __init__(self, params: IntegratedGradientsParams, *, model: TorchModel, schema: InputSchema) -> None:
        self.params, self.model, self.schema = params, model, schema

    def explain(self, x: Tensor, target: Tensor) -> Attribution:
        """Explain rows by the gradients along the straight path from the baseline.

        Raises:
            NotExplainableError: the model is not differentiable in a categorical column that matters here.
        """
        from captum.attr import IntegratedGradients as Captum  # noqa: PLC0415 - an extra, and slow to import

        row = self.model.prepare(x.to(self.model.device)).clone()
        target = target.to(row.device)
        baseline = self._baseline(row)
        values, delta = Captum(self._output).attribute(
            row,
            baselines=baseline,
            additional_forward_args=(target,),
            n_steps=self.params.steps,
            internal_batch_size=max(len(row), 256),
            return_convergence_delta=True,
        )
        with torch.no_grad():
            at_row, at_baseline = self._output(row, target), self._output(baseline, target)
        self._refuse_blind_columns(row, baseline, values, delta, at_row - at_baseline)
        return Attribution(values.detach().float(), at_baseline, at_row, delta.detach().float())

    def _output(self, prepared: Tensor, target: Tensor) -> Tensor:
        logits = self.model.logits(prepared)
        if self.model.binary:  # logits are [0, z]: the log odds of either class are z or -z
            return torch.where(target == 1, logits[:, 1], -logits[:, 1])
        return logits.gather(1, target[:, None])[:, 0]

    def _baseline(self, row: Tensor) -> Tensor:
        if self.model.imputation is None:
            return torch.zeros_like(row)
        return self.model.imputation.fill.expand_as(row).clone()

    def _refuse_blind_columns(
        self, row: Tensor, baseline: Tensor, values: Tensor, delta: Tensor, change: Tensor
    ) -> None:
        if self.schema.kind != "tabular":
            return
        categorical = self.schema.categorical.to(row.device)
        blind = categorical & (row != baseline) & (values == 0)
        incomplete = delta.abs() > 0.05 * change.abs() + 1e-4
        if bool((blind.any(1) & incomplete).any()):
            columns = [
                name for name, is_blind in zip(self.schema.names, blind.any(0).tolist(), strict=True) if is_blind
            ]
            raise NotExplainableError(
                f"integrated_gradients: the model has no gradient in the categorical columns {columns}, so their "
                "contribution would be lost"
            )
