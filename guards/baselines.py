"""What a row is compared with when it is explained."""

from typing import Literal

import torch
from torch import Tensor

from guards.exemplars import Exemplars
from guards.model import TorchModel
from guards.schema import InputSchema
from guards.subject import neutral
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
        Mistake: the bundle kept no reference for them.
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
