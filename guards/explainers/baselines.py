"""The baselines: the rows that an explained row is compared with."""

from typing import Literal

import torch
from torch import Tensor

from guards.explainers.explained_function import neutral
from guards.explainers.reference_sample import Exemplars
from guards.input.schema import InputSchema
from guards.model.torch_model import TorchModel
from guards.types import Mistake

__all__ = ["baselines"]


def baselines(
    kind: Literal["neutral", "zeros", "mean", "sample"],
    model: TorchModel,
    schema: InputSchema,
    exemplars: Exemplars | None,
) -> Tensor:
    """Give the baselines (b, ...) of a config's kind, prepared for the model.

    Raises:
        Mistake: the bundle does not hold the reference rows, or the mean, that this kind needs.
    """
    typical = neutral(model, schema)
    if kind == "neutral":
        return typical
    if kind == "zeros":
        categorical = schema.categorical.to(model.device)
        return torch.where(categorical, typical, 0.0) if schema.kind == "tabular" else typical
    tensor = None if exemplars is None else exemplars.sample if kind == "sample" else exemplars.mean
    if tensor is None:
        raise Mistake(f"explain.baseline: {kind} needs what this bundle has not kept; fit it anew")
    return model.prepare(tensor.to(model.device)).clone()
