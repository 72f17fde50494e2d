"""Refuses ``impute: none`` if the model does not take missing values."""

import torch

from guards.input.schema import InputSchema
from guards.model.torch_model import TorchModel
from guards.types import Mistake

__all__ = ["refuse_missing"]


def refuse_missing(model: TorchModel, schema: InputSchema) -> None:
    """Refuse ``impute: none`` if the model does not give finite answers for NaN and -1.

    Raises:
        Mistake: the model fails for NaN or -1 in these columns, or its answers are not finite.
    """
    raw = [index for index, column in enumerate(schema.columns) if column.impute == "none"]
    if not raw:
        return
    names = [schema.columns[index].name for index in raw]
    x = schema.example_rows(3)[:2].repeat(2, 1)
    for index in raw:
        x[2:, index] = -1.0 if schema.columns[index].kind == "categorical" else torch.nan
    hint = (
        f"impute `none` on {names} passes NaN and -1 to the model, which the model cannot take: remove `impute` there"
    )
    try:
        finite = bool(model(x.to(model.device)).logits.isfinite().all())
    except (IndexError, RuntimeError) as crash:
        raise Mistake(f"input.columns: {hint} ({crash})") from crash
    if not finite:
        raise Mistake(f"input.columns: {hint}")
