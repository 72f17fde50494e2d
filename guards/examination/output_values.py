"""Refuses outputs that are not finite, and warns if all rows get the same output."""

import torch
from torch import Tensor

from guards.examination.experiments import Answers
from guards.input.schema import InputSchema
from guards.model.torch_model import TorchModel
from guards.notices import Notices
from guards.sentences import named
from guards.types import Mistake

__all__ = ["refuse_not_finite", "warn_of_constants"]

SHOWN = 5


def refuse_not_finite(
    given: Tensor,
    features: Tensor,
    rows: Tensor,
    schema: InputSchema,
    *,
    numbers: Tensor | None = None,
    whose: str = "reference",
) -> None:
    """Refuse outputs (n, k) and features (n, d) of reference rows (n, ...) if they hold NaN or infinity.

    ``numbers`` (n,) are the rows' numbers in their file, counted from 0; default: 0 to n - 1.

    Raises:
        Mistake: an output is not finite; the sentence names the rows and what is special about the first of them.
    """
    for name, values in (("model: its answers", given), ("model.features: the features", features)):
        bad = (~values.flatten(1).isfinite().all(1)).nonzero()[:, 0].cpu()
        if not len(bad):
            continue
        places = (bad if numbers is None else numbers[bad]).tolist()
        raise Mistake(
            f"{name} are not finite for {len(places)} of {len(values)} {whose} rows (row "
            f"{named(places, SHOWN, quoted=False)}, counted from 0){_special(rows[bad[0]], schema)}"
        )


def _special(row: Tensor, schema: InputSchema) -> str:
    if schema.kind != "tabular":
        low, high = float(row.min()), float(row.max())
        return f": the row's values lie between {low:.4g} and {high:.4g}; does the model divide by 0 or overflow?"
    kept = [
        column.name
        for column, value in zip(schema.columns, row.tolist(), strict=True)
        if column.impute == "none" and value != value  # noqa: PLR0124 - NaN
    ]
    if kept:
        return (
            f": the model gets NaN in {kept[:SHOWN]} (impute: none), which the model cannot take: remove `impute` there"
        )
    largest = int(row.abs().nan_to_num().argmax())
    return (
        f": the largest value of the row is {float(row[largest]):.4g} in column {schema.names[largest]!r}; does the "
        "model overflow, take a logarithm or divide by 0 there?"
    )


def warn_of_constants(model: TorchModel, sample: Tensor, base: Answers, notices: Notices) -> None:
    """Warn if different rows get the same answer, or the same features."""
    if bool((sample.nan_to_num() == sample[:1].nan_to_num()).all()):
        return
    if _constant(base.given):
        notices.warn(
            f"model: it gives the same answer for all {len(sample)} reference rows that were tried: are its weights "
            "the trained weights, and are the inputs scaled as in training?"
        )
    elif _constant(base.features):
        notices.warn(
            f"model.features: {model.tap.layer!r} gives the same features for all {len(sample)} reference rows that "
            "were tried, so that guards see no difference: name another layer"
        )


def _constant(values: Tensor) -> bool:
    spread = (values.amax(0) - values.amin(0)).max()
    return bool(spread <= 1e-7 * values.abs().max().clamp_min(torch.finfo(torch.float32).tiny))
